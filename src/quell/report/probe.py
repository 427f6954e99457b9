"""The page and the figure of a probe: what a method would erase on this scan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..series import replacing
from . import figures
from .comparison import Picture
from .page import LIMITS, template

WINDOW = 5.0  # units of the noise, black to white
WIDTH = 460  # px of a picture
SIZE = (9.6, 3.4)  # inches of the chart
SPANS = {1: "one volume", 4: "the nearest 4 volumes"}


@dataclass(frozen=True, eq=False)
class Shown:
    """One slice with structures in it.

    volume  its number
    added   (X, Y, Z)  what was added to that volume, units of the noise
    back    (X, Y, Z)  what of it came back
    centre  voxel that the slice goes through
    """

    volume: int
    added: np.ndarray
    back: np.ndarray
    centre: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class ProbeFacts:
    """Everything that the page shows, as plain data.

    rows       of the table, see `quell.probing.ProbeRow.as_dict`
    sentences  what to know first
    nothing    rms and largest of what was added where nothing was, units of the noise; None
               where all places are near a structure
    notes      on how it was measured
    """

    title: str
    method: str
    n_volumes: int
    rows: Sequence[Mapping[str, Any]]
    sentences: Sequence[str]
    nothing: tuple[float, float] | None
    notes: Sequence[str]
    mask: np.ndarray
    affine: np.ndarray
    command: str
    shown: Shown | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


def write_probe(page: Path, figure: Path, facts: ProbeFacts) -> None:
    """Write the page and the figure, each whole or not at all."""
    text = template("probe.html.j2").render(
        facts=facts,
        lines=[_line(row, facts.n_volumes) for row in facts.rows],
        chart=Picture.themed("", "", lambda theme: kept_chart(facts, theme)),
        pictures=_pictures(facts),
        window=f"{WINDOW:g}",
        limits=LIMITS,
    )
    with replacing(page) as file:
        file.write(text.encode("utf-8", "backslashreplace"))  # names may hold bare bytes
    with replacing(figure) as file:
        file.write(kept_chart(facts, figures.LIGHT))


def kept_chart(facts: ProbeFacts, theme: figures.Theme) -> bytes:
    """Share kept over strength, a line for each size, a panel for each number of volumes."""
    counts = sorted({row["volumes"] for row in facts.rows})
    sizes = sorted({row["n_voxels"] for row in facts.rows})
    figure = Figure(figsize=SIZE, dpi=1.5 * figures.DPI, facecolor=theme.paper)
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    for axes, count in zip(panels, counts, strict=True):
        figures.dress(axes, theme)
        for height in (0, 100):
            axes.axhline(height, color=theme.ink, lw=1, ls="--")
        for size, colour in zip(sizes, (theme.before, theme.after, theme.alarm), strict=False):
            own = [row for row in facts.rows if (row["volumes"], row["n_voxels"]) == (count, size)]
            _draw_line(axes, own, f"{size} voxels", colour)
        axes.set_title(span_of(count, facts.n_volumes), color=theme.ink, size=9)
        axes.set_xlabel("strength / σ")
    panels[0].set_ylabel("kept, %")
    figures.add_legend(panels[0], theme)
    figure.subplots_adjust(left=0.07, right=0.99, top=0.91, bottom=0.15, wspace=0.08)
    return figures.png(figure)


def _draw_line(axes: Axes, rows: Sequence[Mapping[str, Any]], name: str, colour: str) -> None:
    known = [row for row in rows if row["kept"]["mean"] is not None]
    if known:
        at = [row["strength"] for row in known]
        kept = [100 * row["kept"]["mean"] for row in known]
        error = [100 * (row["kept"]["error"] or 0) for row in known]
        axes.errorbar(at, kept, error, color=colour, lw=1.8, marker="o", ms=4, capsize=3,
                      label=name)  # fmt: skip


def span_of(volumes: int, n_volumes: int) -> str:
    """In how many volumes a structure is seen, as a heading."""
    if volumes == n_volumes:
        return "all volumes" if n_volumes > 1 else "the image"
    return SPANS.get(volumes, f"{volumes} volumes")


def _line(row: Mapping[str, Any], n_volumes: int) -> list[str]:
    """A row of the table as it is printed."""
    seen = "" if row["detectability"] is None else f"{row['detectability']:.0f}"
    return [
        span_of(row["volumes"], n_volumes),
        str(row["n_voxels"]),
        f"{row['strength']:g}",
        seen,
        percent(row["kept"], True),
        *(percent(row[name]) for name in ("edges", "flat")),
        *(percent(row[name]) for name in ("rim", "around", "elsewhere", "ghost")),
        str(row["kept"]["n"]),
    ]


def percent(share: Mapping[str, Any], with_error: bool = False) -> str:
    """A share of JSON in per cent; a dash for none."""
    if share["mean"] is None:
        return "–"
    error = f" ± {100 * share['error']:.0f}" if with_error and share["error"] is not None else ""
    return f"{100 * share['mean']:.0f}{error}"


def _pictures(facts: ProbeFacts) -> list[Picture]:
    """What was added to a slice and what came back, in one window."""
    if facts.shown is None:
        return []
    whole = figures.view_of(facts.mask, facts.affine)
    view, limits = figures.View(whole.affine, facts.shown.centre, whole.box), (-WINDOW, WINDOW)
    return [
        Picture.plain(name, said, figures.planes(volume, view, limits, width=WIDTH,
                                                 names=("axial",)))
        for name, said, volume in (
            ("Added", "structures of known strength", facts.shown.added),
            ("Came back", "the result with them less the result without", facts.shown.back),
        )
    ]  # fmt: skip
