"""The page of a comparison: the table, and one slice through every result.

Results share one window, residuals one scale: what differs between two pictures is the methods'.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..series import replacing
from . import figures
from .facts import over_sigma
from .page import LIMITS, template
from .pictures import RESIDUAL_WINDOW, image_of

TILE_WIDTH = 360  # px


@dataclass(frozen=True, eq=False)
class Tile:
    """One volume of one result.

    name      of the method
    volume    (X, Y, Z)          data units
    residual  (X, Y, Z) or None  what was taken away, data units
    said      a figure to stand beside the name
    """

    name: str
    volume: np.ndarray
    residual: np.ndarray | None
    said: str = ""


@dataclass(frozen=True)
class Picture:
    """One picture of a section, as data addresses; no dark one where it has its own ground."""

    name: str
    said: str
    light: str
    dark: str

    @staticmethod
    def themed(name: str, said: str, draw: Callable[[figures.Theme], bytes]) -> "Picture":
        """A chart in both themes."""
        light, dark = (image_of(draw(theme)) for theme in (figures.LIGHT, figures.DARK))
        return Picture(name, said, light, dark)

    @staticmethod
    def plain(name: str, said: str, png: bytes) -> "Picture":
        """A picture on its own ground."""
        return Picture(name, said, image_of(png), "")


@dataclass(frozen=True)
class Section:
    """Pictures of one kind, one for each result."""

    title: str
    text: str
    pictures: Sequence[Picture]


@dataclass(frozen=True, eq=False)
class ComparisonFacts:
    """Everything that the page shows, as plain data."""

    kind: str  # "comparison" or "evaluation"
    title: str  # the name of the input file
    judged_by: str
    order: str  # of the rows: "best", where there is something to judge by
    noise: str  # in words
    columns: Sequence[tuple[str, str]]  # heading and meaning
    rows: Sequence[tuple[str, str, Sequence[str], str]]  # name, what it is, cells, remark
    tiles: Iterable[Tile]  # the reference or the scan first; each is let go once it is drawn
    sigma: np.ndarray  # (X, Y, Z) noise map, data units
    mask: np.ndarray  # (X, Y, Z) bool
    affine: np.ndarray  # (4, 4) mm
    volume: int  # which one the tiles show
    command: str
    versions: Mapping[str, str]
    sections: Sequence[Section] = ()


def write_comparison(path: Path, facts: ComparisonFacts) -> None:
    """Write the page, whole or not at all."""
    page = template("comparison.html.j2").render(
        facts=facts, tiles=drawn(facts), residual_window=f"{RESIDUAL_WINDOW:.0f}", limits=LIMITS
    )
    with replacing(path) as file:
        file.write(page.encode("utf-8", "backslashreplace"))  # names may hold bare bytes


def drawn(facts: ComparisonFacts) -> list[dict[str, Any]]:
    """The axial plane of every tile as pictures, in the window of the first one."""
    view, window, found = figures.view_of(facts.mask, facts.affine), None, []
    limits = (-RESIDUAL_WINDOW, RESIDUAL_WINDOW)

    def plane(volume: np.ndarray, shown: tuple[float, float]) -> str:
        return image_of(figures.planes(volume, view, shown, width=TILE_WIDTH, names=("axial",)))

    for tile in facts.tiles:
        window = window or figures.window_of(tile.volume, facts.mask)
        entry: dict[str, Any] = {"name": tile.name, "said": tile.said}
        entry["result"] = plane(tile.volume, window)
        if tile.residual is not None:
            entry["residual"] = plane(over_sigma(tile.residual, facts.sigma), limits)
        found.append(entry)
    return found
