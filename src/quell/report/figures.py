"""Drawings as PNG bytes: scans in anatomical planes, and what charts have in common.

Scans are drawn on black, in the neurological view: left of the picture is the left of the
person, and the letters at the edges say so. Charts come in a light and a dark theme.

Everything goes through `Figure` objects and the Agg canvas; `pyplot` and its global state would
leak between threads and reports.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

DPI = 100.0
MARGIN = 18  # px around a plane, where the letters stand
LETTERS = {"axial": "LRPA", "coronal": "LRIS", "sagittal": "PAIS"}  # left, right, bottom, top
PLANES = ("axial", "coronal", "sagittal")
THROUGH = {"axial": 2, "coronal": 1, "sagittal": 0}  # which of right, anterior, superior


@dataclass(frozen=True)
class Theme:
    """Colours of a chart on a page."""

    paper: str
    ink: str
    faint: str  # grid, reference lines
    before: str
    after: str
    alarm: str


LIGHT = Theme("#ffffff", "#3b4350", "#d5dae1", "#8b95a5", "#0b6bcb", "#c2410c")
DARK = Theme("#171b21", "#c3cad5", "#353d49", "#7d8899", "#5fb0ff", "#ff9b61")


@dataclass(frozen=True)
class View:
    """Where to cut a scan: one voxel, and the box that the planes show."""

    affine: np.ndarray  # (4, 4) mm
    centre: tuple[int, int, int]  # voxel of the array as it is stored
    box: tuple[slice, slice, slice]  # of the array as it is stored


def view_of(mask: np.ndarray, affine: np.ndarray, margin: int = 4) -> View:
    """Cut through the middle of the mask, and show its bounding box and a little more.

    mask    (X, Y, Z)  an empty mask means the whole grid
    affine  (4, 4)     mm
    margin  voxels left around the mask
    """
    where = np.argwhere(mask) if mask.any() else np.argwhere(np.ones(mask.shape, bool))
    low = np.maximum(where.min(axis=0) - margin, 0)
    high = np.minimum(where.max(axis=0) + margin + 1, mask.shape)
    x, y, z = (int(i) for i in np.round(where.mean(axis=0)))
    boxes = [slice(int(a), int(b)) for a, b in zip(low, high, strict=True)]
    return View(affine, (x, y, z), (boxes[0], boxes[1], boxes[2]))


def window_of(volume: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Grey window for one volume: from 0 (or its negative values) to just above the tissue.

    Three medians at most, or the fluid of a b=0 would leave the tissue in the dark.
    """
    values = volume[mask & np.isfinite(volume)]
    if values.size == 0:
        return 0.0, 1.0
    low, middle, high = (float(p) for p in np.percentile(values, [0.5, 50, 99.5]))
    if middle > 0:
        high = min(high, 3 * middle)
    low = min(0.0, low)
    return low, max(high, low + 1e-6)


def orientation_of(affine: np.ndarray) -> np.ndarray:
    """NiBabel's orientation (3, 2) of a grid; as stored where the affine lacks an axis."""
    orientation = nib.orientations.io_orientation(affine)
    if np.isnan(orientation).any():
        return np.array([[0, 1], [1, 1], [2, 1]], dtype=float)
    return np.asarray(orientation)


def axis_through(plane: str, affine: np.ndarray) -> int:
    """The array's axis that runs through the slices of a plane, the nearest one if oblique."""
    return int(np.argmax(orientation_of(affine)[:, 0] == THROUGH[plane]))


def cuts(volume: np.ndarray, view: View) -> dict[str, tuple[np.ndarray, float, float]]:
    """The three planes of a volume as pictures, with their width and height in mm.

    Axes are flipped and swapped to right, anterior, superior first, as the affine says; an
    oblique scan is shown along its own slices, the nearest anatomical name above.
    """
    orientation = orientation_of(view.affine)
    zooms = nib.affines.voxel_sizes(view.affine)
    marker = np.zeros(volume.shape, dtype=bool)
    marker[view.centre] = True
    turned = nib.orientations.apply_orientation(volume[view.box], orientation)
    x, y, z = np.argwhere(nib.orientations.apply_orientation(marker[view.box], orientation))[0]
    mm = np.empty(3)
    mm[orientation[:, 0].astype(int)] = zooms
    wide, deep, tall = turned.shape * mm
    return {
        "axial": (turned[:, :, z].T, wide, deep),
        "coronal": (turned[:, y, :].T, wide, tall),
        "sagittal": (turned[x].T, deep, tall),
    }


def planes(
    volume: np.ndarray,
    view: View,
    window: tuple[float, float],
    colours: str = "gray",
    width: int = 440,
    names: Sequence[str] = PLANES,
) -> bytes:
    """Anatomical planes of one volume, stacked, at one scale.

    volume   (X, Y, Z)  data units
    view     where to cut
    window   data units shown as the first and the last colour
    colours  a matplotlib colour map
    width    px of the picture
    names    which planes
    """
    return comparison_figure([volume], view, [window], [""], [colours], width, names)


def comparison_figure(
    volumes: Sequence[np.ndarray],
    view: View,
    windows: Sequence[tuple[float, float]],
    titles: Sequence[str],
    colours: Sequence[str],
    width: int = 300,
    names: Sequence[str] = PLANES,
) -> bytes:
    """Volumes side by side, planes stacked: before, after, residual, noise map, say.

    volumes  each (X, Y, Z)  data units
    windows  one for each volume, data units
    titles   above each column; all empty for no title row
    colours  one matplotlib colour map for each volume
    width    px of one column
    """
    columns = [cuts(volume, view) for volume in volumes]
    scale = (width - 2 * MARGIN) / max(columns[0][name][1] for name in names)  # px per mm
    heights = [max(1.0, columns[0][name][2] * scale) for name in names]
    head = 26 if any(titles) else 0
    total = head + sum(height + 2 * MARGIN for height in heights)
    figure = Figure(figsize=(width * len(columns) / DPI, total / DPI), dpi=DPI, facecolor="black")
    for i, column in enumerate(columns):
        top = total - head
        middle = (i + 0.5) * width
        figure.text(middle / (width * len(columns)), 1 - head / 2 / total, titles[i],
                    color="#e0e0e0", size=10, ha="center", va="center")  # fmt: skip
        for name, height in zip(names, heights, strict=True):
            picture, wide_mm, _ = column[name]
            wide = wide_mm * scale
            left, bottom = middle - wide / 2, top - MARGIN - height
            box = (left / (width * len(columns)), bottom / total,
                   wide / (width * len(columns)), height / total)  # fmt: skip
            axes = figure.add_axes(box)
            draw_plane(axes, picture, windows[i], colours[i])
            letter_edges(axes, LETTERS[name], size=max(7.0, width / 50))
            top -= height + 2 * MARGIN
    return png(figure)


def draw_plane(axes: Axes, picture: np.ndarray, window: tuple[float, float], colours: str) -> None:
    # "none", not "nearest": an SVG or PDF then holds the voxels themselves
    axes.imshow(picture, cmap=colours, vmin=window[0], vmax=window[1], origin="lower",
                aspect="auto", interpolation="none")  # fmt: skip
    axes.set_axis_off()


def letter_edges(axes: Axes, letters: str, size: float, away: float = 6.48) -> None:
    """The plane's letters, so many points from its edges; below 0 inside."""
    behind = {"facecolor": "black", "alpha": 0.5, "lw": 0, "pad": 0.8}
    spots = [(0, 0.5, -away, 0), (1, 0.5, away, 0), (0.5, 0, 0, -away), (0.5, 1, 0, away)]
    for letter, (x, y, dx, dy) in zip(letters, spots, strict=True):
        axes.annotate(letter, (x, y), (dx, dy), "axes fraction", textcoords="offset points",
                      color="#c8c8c8", size=size, ha="center", va="center",
                      bbox=behind if away < 0 else None)  # fmt: skip


def chart_axes(theme: Theme, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, height), dpi=1.5 * DPI, facecolor=theme.paper)
    figure.subplots_adjust(left=0.14, right=0.98, top=0.96, bottom=0.2)
    axes = figure.add_subplot()
    dress(axes, theme)
    return figure, axes


def scatter_axes(theme: Theme, n: int) -> tuple[Figure, list[Axes]]:
    """A figure of n square panels, side by side."""
    figure = Figure(figsize=(3.3 * n, 3.2), dpi=1.3 * DPI, facecolor=theme.paper)
    panels = [figure.add_subplot(1, n, i + 1) for i in range(n)]
    for axes in panels:
        dress(axes, theme)
        axes.set_box_aspect(1)
    figure.subplots_adjust(left=0.24 / n + 0.02, right=0.98, top=0.97, bottom=0.16, wspace=0.32)
    return figure, panels


def dress(axes: Axes, theme: Theme, size: float = 9) -> None:
    axes.set_facecolor(theme.paper)
    axes.tick_params(colors=theme.ink, labelsize=size, length=3)
    axes.xaxis.label.set_color(theme.ink)
    axes.yaxis.label.set_color(theme.ink)
    axes.grid(axis="y", color=theme.faint, lw=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.faint)


def add_legend(axes: Axes, theme: Theme, size: float = 9) -> None:
    axes.legend(frameon=False, fontsize=size, labelcolor=theme.ink, ncols=2, loc="best")


def png(figure: Figure) -> bytes:
    """A small PNG: 8-bit grey where nothing is coloured, 256 colours otherwise."""
    image = rendered(figure)
    if image.mode == "RGB":
        image = image.quantize(256)
    file = BytesIO()
    image.save(file, format="PNG", optimize=True)
    return file.getvalue()


def rendered(figure: Figure) -> Image.Image:
    """Its pixels: grey where nothing is coloured, RGB otherwise."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    is_grey = bool((pixels == pixels[..., :1]).all())
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if is_grey else pixels))
