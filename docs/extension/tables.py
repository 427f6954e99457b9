"""Tables out of rows, for the directives here."""

from collections.abc import Sequence
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

Cell = str | nodes.Node


def table_of(
    directive: SphinxDirective, head: Sequence[Cell], rows: Sequence[Sequence[Cell]], kind: str
) -> nodes.table:
    """A table; words in cells are Markdown.

    head  its first row; empty: none
    kind  a class for the style sheet
    """
    group = nodes.tgroup(cols=len(rows[0]))
    group += [nodes.colspec(colwidth=1) for _ in rows[0]]
    if head:
        group += nodes.thead("", row_of(directive, head))
    group += nodes.tbody("", *(row_of(directive, row) for row in rows))
    return nodes.table("", group, classes=[kind])


def row_of(directive: SphinxDirective, cells: Sequence[Cell]) -> nodes.row:
    """One row."""
    return nodes.row("", *(nodes.entry("", *parts_of(directive, cell)) for cell in cells))


def parts_of(directive: SphinxDirective, cell: Cell) -> list[nodes.Node]:
    """What stands in a cell."""
    if isinstance(cell, nodes.Node):
        return [cell]
    return list(words(directive, cell))


def words(directive: SphinxDirective, text: str) -> Any:
    """Markdown as nodes."""
    found, problems = directive.parse_inline(text)
    return [nodes.paragraph("", "", *found), *problems]


def code(text: Any) -> nodes.paragraph:
    """Code in a cell, with nothing in it read as Markdown."""
    return nodes.paragraph("", "", nodes.literal("", str(text)))


def plain(text: str) -> nodes.paragraph:
    """Text in a cell, as it is."""
    return nodes.paragraph("", "", nodes.Text(text))
