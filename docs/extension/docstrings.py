"""Docstrings of quell: prose and aligned columns, as they stand in the source.

Idea    A paragraph whose lines are columns ("sigma   (X, Y, Z)  noise map") is shown as it is; what
        is not columns is prose, and none of its signs are markup.
"""

import re
from typing import Any

COLUMNS = re.compile(r"^\S+(?: \S+)* {2,}\S")
SIGNS = re.compile(r"([*|]|_(?=\W|$))")
CODE = re.compile(r"`([^`]+)`")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", lambda *given: given[-1].__setitem__(
        slice(None), as_rst(given[-1])
    ))  # fmt: skip


def as_rst(lines: list[str]) -> list[str]:
    """A docstring as reStructuredText."""
    out: list[str] = []
    for paragraph in paragraphs(lines):
        if is_literal(paragraph):
            out += ["::", "", *("   " + line for line in paragraph), ""]
        else:
            out += [*map(escaped, paragraph), ""]
    return out


def paragraphs(lines: list[str]) -> list[list[str]]:
    """Runs of lines that are not empty."""
    text = "\n".join(lines).strip("\n")
    return [block.split("\n") for block in re.split(r"\n\s*\n", text) if block.strip()]


def is_literal(paragraph: list[str]) -> bool:
    """Whether the lines stand in columns or are indented."""
    return any(line[:1] == " " or COLUMNS.match(line) for line in paragraph)


def escaped(line: str) -> str:
    """A line of prose: code stays code, all else is text."""
    parts = CODE.split(line)
    for i, part in enumerate(parts):
        parts[i] = f"``{part}``" if i % 2 else SIGNS.sub(r"\\\1", part)
    return "".join(parts)
