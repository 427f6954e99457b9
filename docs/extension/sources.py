"""Pieces of the source that explain themselves: abstracts of modules, traps, limits."""

import ast
import importlib
import inspect
import pkgutil
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from .methods import prose, sections
from .tables import code, plain, table_of


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.add_directive("abstract-of", AbstractOf)
    app.add_directive("traps", Traps)
    app.add_directive("limits", Limits)


class AbstractOf(SphinxDirective):
    """The abstract of a module, with its first sentence."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        text = inspect.getdoc(importlib.import_module(self.arguments[0])) or ""
        first = nodes.paragraph("", "", nodes.literal("", self.arguments[0]))
        first += nodes.Text(": " + " ".join(text.partition("\n\n")[0].split()))
        return [first, defined(list(sections(text)))]


def defined(parts: list[tuple[str, list[str]]]) -> nodes.definition_list:
    """Labels and what they say."""
    listed = nodes.definition_list(classes=["abstract"])
    for label, lines in parts:
        item = nodes.definition("", *prose(lines))
        listed += nodes.definition_list_item("", nodes.term("", label), item)
    return listed


class Traps(SphinxDirective):
    """What each module of `quell.evaluate` warns of."""

    def run(self) -> list[nodes.Node]:
        import quell.evaluate as package

        parts = []
        for module in pkgutil.iter_modules(package.__path__):
            text = inspect.getdoc(importlib.import_module(f"quell.evaluate.{module.name}")) or ""
            title = " ".join(text.partition("\n\n")[0].split()).rstrip(".")
            found = [lines for label, lines in sections(text) if label == "Trap"]
            parts += [(title if i == 0 else "", lines) for i, lines in enumerate(found)]
        return [defined(joined(parts))]


def joined(parts: list[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
    """Parts without a label, put behind the one before as a paragraph of their own."""
    out: list[tuple[str, list[str]]] = []
    for label, lines in parts:
        if label:
            out.append((label, lines))
        else:
            out[-1] = (out[-1][0], [*out[-1][1], "", *lines])
    return out


class Limits(SphinxDirective):
    """The limits of the report's verdict, each with its reason."""

    def run(self) -> list[nodes.Node]:
        rows = []
        for name in ("verdict", "places"):
            module = importlib.import_module(f"quell.evaluate.{name}")
            lines = inspect.getsource(module).splitlines()
            for node in ast.parse("\n".join(lines)).body:
                if isinstance(node, ast.Assign) and "  # " in lines[node.lineno - 1]:
                    value, _, reason = lines[node.lineno - 1].partition(" = ")[2].partition("  # ")
                    limit = ast.unparse(node.targets[0]).replace("_", " ").lower()
                    if not value[0].isalpha():  # another limit's value
                        rows.append((plain(limit), code(value.strip("()")), plain(reason)))
        return [table_of(self, ("limit", "value", "reason"), rows, "settings")]
