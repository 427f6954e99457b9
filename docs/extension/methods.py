"""What the pages of methods take from the source: facts, abstract, settings."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from dataclasses import MISSING, fields
from itertools import groupby
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from .tables import code, plain, table_of

INDENT = 8  # of the text of an abstract


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.add_directive("method-facts", MethodFacts)
    app.add_directive("method-abstract", MethodAbstract)
    app.add_directive("method-settings", MethodSettings)
    app.add_directive("method-list", MethodList)
    app.add_directive("settings-of", SettingsOf)


class OfMethod(SphinxDirective):
    """A directive with the name of a method behind it."""

    required_arguments = 1

    @property
    def kind(self) -> Any:
        """Its class."""
        from quell.methods import METHODS

        return METHODS[self.arguments[0]]


class MethodFacts(OfMethod):
    """What it is, what it needs, how to run it."""

    def run(self) -> list[nodes.Node]:
        kind, name = self.kind, self.arguments[0]
        maps = " ".join(f"`--map-out {m}=FILE`" for m in getattr(kind, "maps", ()))
        rows = [
            ("does", kind.summary),
            ("needs", kind.needs),
            ("noise", noise_of(kind)),
            ("one image", yes(kind, "takes_one_image")),
            ("many scans", yes(kind, "learns_many", "`quell train --method " + name + "`")),
            ("contrasts", yes(kind, "takes_contrasts", "`--contrast FILE`")),
            ("maps", maps),
            ("paper", kind.paper),
            ("run", f"`quell denoise dwi.nii.gz denoised.nii.gz --method {name}`"),
        ]
        rows = [row for row in rows if row[1]]
        return [table_of(self, (), rows, "facts")]


def noise_of(kind: Any) -> str:
    """What it assumes of the noise with its default settings."""
    if kind().assumes_white:
        return "taken to be white: quell warns where it correlates between voxels"
    return "may correlate between voxels"


def yes(kind: Any, attribute: str, how: str = "yes") -> str:
    """Whether a method can do that."""
    return how if getattr(kind, attribute, False) else "no"


class MethodAbstract(OfMethod):
    """The abstract at the top of its file: paper, idea, which variant, where it differs."""

    def run(self) -> list[nodes.Node]:
        text = inspect.getdoc(importlib.import_module(self.kind.__module__)) or ""
        listed = nodes.definition_list(classes=["abstract"])
        for label, lines in sections(text):
            item = nodes.definition("", *prose(lines))
            listed += nodes.definition_list_item("", nodes.term("", label), item)
        return [listed]


def sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """Label and lines of every part of an abstract, the first sentence left out."""
    _, _, text = text.partition("\n\n")
    abstract, _, symbols = text.partition("\nSymbols")
    found: list[tuple[str, list[str]]] = []
    for line in abstract.splitlines():
        if line[:1].strip():
            label, _, rest = line.partition(" ")
            found.append((label, [rest.strip()]))
        elif found:
            found[-1][1].append(line[INDENT:])
    yield from found
    if symbols:
        unit, *lines = symbols.split("\n")
        yield "Symbols" + unit.rstrip(":"), ["    " + line.strip() for line in lines]


def prose(lines: list[str]) -> Iterator[nodes.Node]:
    """Lines as paragraphs; those that are indented stay as they are."""
    for is_code, run in groupby(lines, key=lambda line: line.startswith("    ")):
        for text in "\n".join(run).split("\n\n"):
            if text.strip():
                yield literal(text) if is_code else nodes.paragraph("", "", *inline(text.strip()))


def literal(text: str) -> nodes.literal_block:
    """Formulas and columns of the source."""
    shown = inspect.cleandoc(text)
    return nodes.literal_block(shown, shown, language="none")


def inline(text: str) -> Iterator[nodes.Node]:
    """Text with what stands in backticks as code."""
    for i, part in enumerate(text.split("`")):
        yield nodes.literal("", part) if i % 2 else nodes.Text(part)


class MethodSettings(OfMethod):
    """Its settings: meaning, default, and what each preset changes."""

    def run(self) -> list[nodes.Node]:
        kind = self.kind
        presets = {"default": {}, **kind.presets}
        comments = comments_of(kind)
        rows = [
            [
                code(f.name),
                *(code(typed(given[f.name])) if f.name in given else plain("")
                  for given in ({f.name: f.default, **presets["default"]},
                                *(p for n, p in presets.items() if n != "default"))),
                plain(comments.get(f.name, "")),
            ]
            for f in fields(kind)
        ]  # fmt: skip
        head = ["setting", "default", *(n for n in presets if n != "default"), "meaning"]
        return [table_of(self, head, rows, "settings")]


class MethodList(SphinxDirective):
    """All methods, one line each."""

    def run(self) -> list[nodes.Node]:
        from quell.methods import METHODS

        rows = [
            (f"[{name}](/methods/{name}.md)", kind.summary, kind.needs, kind.paper)
            for name, kind in METHODS.items()
        ]
        return [table_of(self, ("method", "does", "needs", "paper"), rows, "settings")]


class SettingsOf(SphinxDirective):
    """The fields of any dataclass: name, default, meaning."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module, _, name = self.arguments[0].rpartition(".")
        kind = getattr(importlib.import_module(module), name)
        comments, rows = comments_of(kind), []
        for f in fields(kind):
            has_none = f.default is MISSING
            rows.append((code(f.name), plain("") if has_none else code(typed(f.default)),
                         plain(comments.get(f.name, ""))))  # fmt: skip
        if all(f.default is MISSING for f in fields(kind)):
            return [table_of(self, ("field", "meaning"), [(r[0], r[2]) for r in rows], "settings")]
        return [table_of(self, ("field", "default", "meaning"), rows, "settings")]


def comments_of(kind: Any) -> dict[str, str]:
    """The comment behind each field of a dataclass and of those that it is made from."""
    comments: dict[str, str] = {}
    for owner in reversed(kind.__mro__[:-1]):
        lines = inspect.getsource(owner).splitlines()
        for node in ast.parse(inspect.cleandoc(inspect.getsource(owner))).body[0].body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                _, _, comment = lines[node.end_lineno - 1].partition("  # ")
                comments[node.target.id] = comment.strip()
    return comments


def typed(value: Any) -> str:
    """A setting's value as --set reads it; small numbers short."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
