"""A figure for a paper: pictures in rows with their scales, charts below, as PNG, SVG or PDF.

Idea    Sizes are those on paper, in mm and points: a column of a journal is filled exactly, and
        nothing has to be scaled afterwards.
Here    In SVG and PDF text is text, and pictures are the voxels themselves, one pixel each,
        without loss. Nothing of the hour or the machine is written: same input, same bytes.
Trap    Both need matplotlib's global settings, which are put back as they were.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..series import InputError, replacing
from .figures import LIGHT, draw_plane, letter_edges, rendered
from .lettering import INCH, SMALL, TEXT, shortened, wide
from .pictures import BAR, number

GAP = 1.2  # mm between pictures
HEAD, SIDE, FOOT = 3.8, 3.8, 3.6  # mm: headings above, names of rows at the left, scales below
BAR_MM = 16.0, 1.3  # a scale, at most so wide
CHART_MM, AROUND_MM = 38.0, (12.0, 8.5, 2.0, 1.5)  # height; left, bottom, right, top of its axes
NARROWEST = 8.0  # mm of a picture in which anything can be seen
WIDTHS, DPIS = (20.0, 500.0), (50, 2400)
MOST_PIXELS = 100_000_000
INK = LIGHT.ink
SETTINGS: Any = {  # matplotlib types each key by itself
    "svg.fonttype": "none",
    "svg.hashsalt": "quell",  # ids would be drawn at random
    "pdf.fonttype": 42,  # TrueType, as journals ask
    "text.parse_math": False,  # a name may hold dollars
    "axes.labelsize": TEXT,
    "axes.linewidth": 0.6,
}
METADATA = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture.

    title   above it
    pixels  (H, W)  data units, first row lowest
    window  data units shown as the first and the last colour
    unit    behind the numbers of its scale; None for no scale
    """

    title: str
    pixels: np.ndarray
    window: tuple[float, float]
    colours: str = "gray"
    unit: str | None = None


@dataclass(frozen=True, eq=False)
class Row:
    """Pictures side by side, None where there is none; the name stands at the left."""

    panels: Sequence[Panel | None]
    name: str = ""


@dataclass(frozen=True, eq=False)
class Sheet:
    """What stands on the figure.

    aspect   height over width of every picture
    letters  of the anatomy, at the edges of the first picture: left, right, bottom, top
    charts   each draws itself
    width    mm
    dpi      of a PNG
    is_lettered  a, b, c ... above pictures and charts
    """

    rows: Sequence[Row]
    aspect: float
    letters: str
    charts: Sequence[Callable[[Axes], None]]
    width: float
    dpi: int
    is_lettered: bool = False


def refuse_size(width: float, dpi: int) -> None:
    """Raise InputError (status 2) for a width in mm or a resolution that can't be meant."""
    for given, (low, high), option in ((width, WIDTHS, "--width"), (dpi, DPIS, "--dpi")):
        if not low <= given <= high:  # NaN fails too
            raise InputError(f"{option} {given:g} can't be; give {low:g} to {high:g}", 2)


def write_sheet(path: Path, sheet: Sheet) -> None:
    """Write the figure, whole or not at all.

    path  .png, .svg or .pdf

    Raises InputError where it can't be written, or where the pictures would be too small.
    """
    drawn = bytes_of(sheet, path.suffix.lower().removeprefix("."))
    with replacing(path) as file:
        file.write(drawn)


def bytes_of(sheet: Sheet, ending: str) -> bytes:
    """The figure as "png", "svg" or "pdf"."""
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()  # a person's own settings would change the figure
        mpl.rcParams.update(SETTINGS)
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box stands for it
        figure = _Drawing(sheet).figure
        file = BytesIO()
        if ending == "png":
            _snap(figure, sheet.dpi)
            rendered(figure).save(file, "PNG", dpi=(sheet.dpi, sheet.dpi), optimize=True)
        else:
            figure.savefig(file, format=ending, metadata=METADATA[ending])
    return file.getvalue()


def _snap(figure: Figure, dpi: int) -> None:
    """Make the figure whole pixels: the nearest number, where matplotlib would cut off."""
    pixels = [round(inches * dpi) for inches in figure.get_size_inches()]
    if pixels[0] * pixels[1] > MOST_PIXELS:
        raise InputError(
            f"{pixels[0]} x {pixels[1]} pixels are too many; give a lower --dpi or a smaller "
            "--width, or write .svg or .pdf",
            2,
        )
    figure.dpi = dpi
    figure.set_size_inches(*((n + 0.01) / dpi for n in pixels))


class _Drawing:
    """A sheet on its way to a figure: places are in mm, from the left and from the top."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet, rows = sheet, sheet.rows
        self.letters = iter(_letters()) if sheet.is_lettered else None
        n = max((len(row.panels) for row in rows), default=1)
        self.left = SIDE if any(row.name for row in rows) else 0.0
        self.wide = (sheet.width - self.left - GAP * (n - 1)) / n
        if self.wide < NARROWEST:
            raise InputError(
                f"{n} pictures side by side have {self.wide:.1f} mm each; give a larger --width "
                "or fewer files",
                2,
            )
        self.high = self.wide * sheet.aspect
        heights = [self._head(row) + self.high + self._foot(row) for row in rows]
        chart = CHART_MM + (HEAD if sheet.is_lettered else 0) if sheet.charts else 0.0
        gaps = GAP * (len(rows) + bool(sheet.charts) - 1)
        self.size = (sheet.width, sum(heights) + chart + gaps)
        inches = (self.size[0] / INCH, self.size[1] / INCH)
        self.figure, top = Figure(figsize=inches, facecolor="white"), 0.0
        self.is_first = True  # picture, which has the anatomy's letters
        for row, height in zip(rows, heights, strict=True):
            self._draw_row(row, top)
            top += height + GAP
        self._draw_charts(top)

    def _head(self, row: Row) -> float:
        has_title = any(panel.title for panel in row.panels if panel)
        return HEAD if has_title or self.sheet.is_lettered else 0.0

    def _foot(self, row: Row) -> float:
        return FOOT if any(panel.unit is not None for panel in row.panels if panel) else 0.0

    def _draw_row(self, row: Row, top: float) -> None:
        head = self._head(row)
        if row.name:
            name = shortened(row.name, self.high)
            self._write(SIDE / 2, top + head + self.high / 2, name, rotation=90, va="center")
        at = [self.left + i * (self.wide + GAP) for i in range(len(row.panels))]
        for left, panel in zip(at, row.panels, strict=True):
            if panel is not None:
                self._draw_heading(panel.title, left, self.wide, top)
                self._draw_picture(panel, left, top + head)
        scales = zip([_scale(panel) for panel in row.panels], at, strict=True)
        for scale, group in groupby(scales, key=lambda pair: pair[0]):
            lefts = [left for _, left in group]
            if scale is not None:
                span = lefts[-1] + self.wide - lefts[0]
                self._draw_scale(scale, lefts[0], span, top + head + self.high)

    def _draw_picture(self, panel: Panel, left: float, top: float) -> None:
        axes = self._axes(left, top, self.wide, self.high)
        draw_plane(axes, panel.pixels, panel.window, panel.colours)
        if self.is_first:
            letter_edges(axes, self.sheet.letters, SMALL, away=-4.5)
            self.is_first = False

    def _draw_heading(self, title: str, left: float, mm: float, top: float) -> None:
        """A title over the middle, and the next letter over the left edge."""
        middle, taken = top + HEAD / 2, 0.0
        if self.letters is not None:
            letter = next(self.letters)
            self._write(left, middle, letter, ha="left", weight="bold", size=TEXT + 1)
            taken = wide(letter, TEXT + 1, "bold") + 1
        if title:
            self._write(left + mm / 2, middle, shortened(title, mm - 2 * taken))

    def _draw_scale(self, scale: "_Scale", left: float, span: float, top: float) -> None:
        """The lowest number, a bar, the highest with its unit; in the middle below the pictures."""
        (low, high), colours, unit = scale
        texts = number(low), f"{number(high)} {unit}".strip()
        beside = [wide(text, SMALL) + 0.8 for text in texts]
        bar = max(2.0, min(BAR_MM[0], span - sum(beside)))
        start, middle = left + (span - sum(beside) - bar) / 2 + beside[0], top + FOOT / 2
        axes = self._axes(start, middle - BAR_MM[1] / 2, bar, BAR_MM[1])
        draw_plane(axes, np.linspace(low, high, BAR)[None], (low, high), colours)
        self._write(start - 0.8, middle, texts[0], ha="right", size=SMALL)
        self._write(start + bar + 0.8, middle, texts[1], ha="left", size=SMALL)

    def _draw_charts(self, top: float) -> None:
        charts = self.sheet.charts
        each = (self.sheet.width - GAP * (len(charts) - 1)) / max(1, len(charts))
        left, bottom, right, above = AROUND_MM
        for i, draw in enumerate(charts):
            at, head = i * (each + GAP), HEAD if self.letters is not None else 0.0
            if head:
                self._draw_heading("", at, each, top)
            place = (at + left, top + head + above, each - left - right, CHART_MM - bottom - above)
            draw(self._axes(*place))

    def _axes(self, left: float, top: float, mm: float, high: float) -> Axes:
        width, height = self.size
        place = left / width, 1 - (top + high) / height, mm / width, high / height
        return self.figure.add_axes(place)

    def _write(self, x: float, y: float, text: str, **how: Any) -> None:
        given: dict[str, Any] = {"size": TEXT, "ha": "center", "va": "center_baseline"}
        given |= how
        self.figure.text(x / self.size[0], 1 - y / self.size[1], text, color=INK, **given)


_Scale = tuple[tuple[float, float], str, str]


def _scale(panel: Panel | None) -> _Scale | None:
    if panel is None or panel.unit is None:
        return None
    return panel.window, panel.colours, panel.unit


def _letters() -> list[str]:
    """a ... z, aa ... zz."""
    return [*ascii_lowercase, *(a + b for a in ascii_lowercase for b in ascii_lowercase)]
