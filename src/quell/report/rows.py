"""How a figure for a paper is arranged: results side by side, and a row has one scale.

Idea    What differs between two pictures is then the methods', not the window's.
Here    Where there is one result only, its pictures fill up the rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from matplotlib.axes import Axes

from . import figures
from .curves import draw_shells, draw_spectra, draw_volumes
from .panels import CHARTS, NAMES, Gathered, PaperFacts, gathered
from .paper import Panel, Row, Sheet

PER_ROW = 3  # pictures, where there is one result only


def sheet_of(
    facts: PaperFacts,
    width: float,
    dpi: int,
    is_titled: bool = True,
    is_lettered: bool = False,
) -> Sheet:
    """The figure: panels in rows, and charts.

    width        mm
    dpi          of a PNG
    is_titled    names above the pictures and beside the rows
    is_lettered  a, b, c ... above the pictures

    Raises InputError for a panel that the scan can't give.
    """
    found = gathered(facts)
    _, wide, tall = figures.cuts(facts.mask, facts.view)[facts.plane]
    kinds = [kind for kind in facts.panels if kind not in CHARTS]
    rows = (packed if len(found.names) == 2 else table)(found, kinds)
    return Sheet(
        rows=rows if is_titled else [_untitled(row) for row in rows],
        aspect=tall / wide,
        letters=figures.LETTERS[facts.plane],
        charts=_charts(facts, found),
        width=width,
        dpi=dpi,
        is_lettered=is_lettered,
    )


def _charts(facts: PaperFacts, found: Gathered) -> list[Callable[[Axes], None]]:
    names, drawings = found.names[1:], dict[str, Callable[[Axes], None]]()
    drawings["spectrum"] = partial(draw_spectra, names, found.spectra)
    drawings["volumes"] = partial(draw_volumes, names, found.ratios)
    if facts.bvals is not None:
        drawings["shells"] = partial(draw_shells, names, found.ratios, facts.bvals)
    return [drawings[kind] for kind in facts.panels if kind in CHARTS]


def table(found: Gathered, kinds: Sequence[str]) -> list[Row]:
    """A row for each kind and a column for the scan and each result, their names on top.

    The noise map takes the scan's place in a row that has nothing of the scan.
    """
    noise_map = found.panels.get(("noise", 0))
    rows = [(kind, _row(found, kind)) for kind in kinds if kind != "noise"]
    if noise_map is not None:
        with_place = [row for _, row in rows if row[0] is None]
        if not with_place:
            with_place = [[None] * len(found.names)]
            rows.append(("noise", with_place[0]))
        with_place[0][0] = noise_map
    columns = [i for i in range(len(found.names)) if any(row[i] is not None for _, row in rows)]
    shown, headed = [], set()
    for kind, row in rows:
        panels: list[Panel | None] = []
        for i in columns:
            panel = row[i]
            if panel is not None and panel is not noise_map:
                panel = replace(panel, title="" if i in headed else found.names[i])
                headed.add(i)
            panels.append(panel)
        shown.append(Row(panels, "" if kind == "noise" else NAMES[kind]))
    return shown


def packed(found: Gathered, kinds: Sequence[str]) -> list[Row]:
    """Rows of three: before, after and what was removed; pairs and single pictures beyond."""
    every = [[p for p in _row(found, kind) if p is not None] for kind in kinds]
    pairs = [row for row in every if len(row) > 1]
    singles = [row[0] for row in every if len(row) == 1]
    rows: list[list[Panel]] = [[*pair, *singles[i : i + 1]] for i, pair in enumerate(pairs)]
    left = singles[len(pairs) :]
    rows += [left[i : i + PER_ROW] for i in range(0, len(left), PER_ROW)]
    most = max((len(row) for row in rows), default=0)
    return [Row([*row, *[None] * (most - len(row))]) for row in rows]


def _row(found: Gathered, kind: str) -> list[Panel | None]:
    return [found.panels.get((kind, i)) for i in range(len(found.names))]


def _untitled(row: Row) -> Row:
    return Row([panel and replace(panel, title="") for panel in row.panels])
