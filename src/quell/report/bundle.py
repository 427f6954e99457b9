"""Bundles of streamlines: where they run, over the anatomy, and how coherent they are.

Colours are of LFBC over the bundle's mean, bright where streamlines support each other and dark
where one strays. The scale is the same in all pictures, and so are the axes of the histograms.
"""

from collections.abc import Mapping, Sequence

import nibabel as nib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ..evaluate.coherence import COHERENT
from ..evaluate.tractography import Bundle
from .figures import (
    DPI,
    LETTERS,
    LIGHT,
    MARGIN,
    PLANES,
    Theme,
    View,
    cuts,
    draw_plane,
    dress,
    letter_edges,
    png,
    view_of,
)

COLOURS = "plasma"  # uniform to the eye, and no part of it grey
LOW, HIGH = 0.03, 3.0  # LFBC over the bundle's mean: what has the first and the last colour
MOST_DRAWN = 1000  # streamlines; more would only hide each other
AROUND_MM = 25.0  # of anatomy that is shown around a bundle
BAR = 44  # px under the planes, for the scale
ROW = 74  # px, one bundle's histograms
BINS = 40
AXES = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}  # of right, anterior, superior


def bundle_view(bundle: Bundle, mask: np.ndarray, affine: np.ndarray) -> View:
    """Cut through the middle of a bundle, and show it with some anatomy around.

    mask    (X, Y, Z)  of the brain; shown whole where the bundle is empty
    affine  (4, 4)     mm
    """
    if not bundle.streamlines:
        return view_of(mask, affine)
    points = np.concatenate(bundle.streamlines)
    voxels = np.round(nib.affines.apply_affine(np.linalg.inv(affine), points)).astype(int)
    passed = np.zeros(mask.shape, bool)
    passed[tuple(np.clip(voxels, 0, np.array(mask.shape) - 1).T)] = True
    margin = int(np.ceil(AROUND_MM / nib.affines.voxel_sizes(affine).min()))
    return view_of(passed, affine, margin)


def largest_plane(bundle: Bundle, affine: np.ndarray) -> str:
    """The plane in which a bundle covers most squares of 2 mm; axial if there is none."""
    if not bundle.streamlines:
        return PLANES[0]
    orientation = nib.orientations.io_orientation(affine)
    axes = affine[:3, :3] / nib.affines.voxel_sizes(affine)  # columns: along each voxel axis
    along = np.concatenate(bundle.streamlines) @ axes[:, np.argsort(orientation[:, 0])]
    squares = np.round(along / 2).astype(int)
    covered = {name: len(np.unique(squares[:, list(two)], axis=0)) for name, two in AXES.items()}
    return max(covered, key=covered.__getitem__)


def bundle_picture(
    bundle: Bundle,
    background: np.ndarray,
    view: View,
    window: tuple[float, float],
    width: int = 440,
    names: Sequence[str] = PLANES,
) -> bytes:
    """Streamlines in anatomical planes, whole, over the one slice through the view's centre.

    background  (X, Y, Z)  data units, of the anatomy
    view        where to cut: for pictures to be compared, the same
    window      data units shown as black and as white; anatomy is shown at half its brightness
    width       px of the picture
    names       which planes, stacked
    """
    pictures = cuts(background, view)
    scale = (width - 2 * MARGIN) / max(pictures[name][1] for name in names)  # px per mm
    total = sum(pictures[name][2] * scale + 2 * MARGIN for name in names) + BAR
    size, top = (width, total), total
    figure = Figure(figsize=(width / DPI, total / DPI), dpi=DPI, facecolor="black")
    dim = (window[0], 2 * window[1] - window[0])
    for name in names:
        picture, wide, tall = pictures[name]
        wide, tall = wide * scale, max(1.0, tall * scale)
        axes = figure.add_axes(_share((width - wide) / 2, top - MARGIN - tall, wide, tall, size))
        draw_plane(axes, picture, dim, "gray")
        _draw_streamlines(axes, bundle, view, AXES[name])
        letter_edges(axes, LETTERS[name], size=max(7.0, width / 50))
        top -= tall + 2 * MARGIN
    _draw_scale(figure, _share(width / 4, BAR - 16, width / 2, 7, size))
    return png(figure)


def fbc_histogram(bundles: Mapping[str, Bundle], theme: Theme = LIGHT) -> bytes:
    """One row for each bundle: streamlines by RFBC and points by LFBC, in the pictures' colours.

    Counts, not shares: a bundle that lost its fibres looks small. The first bar has all below.
    """
    height = ROW * len(bundles) + 74
    figure = Figure(figsize=(7.6, height / DPI), dpi=1.5 * DPI, facecolor=theme.paper)
    panels = figure.subplots(len(bundles), 2, sharex=True, sharey="col", squeeze=False)
    edges = np.geomspace(LOW / 3, 3 * HIGH, BINS + 1)
    colours = colormaps[COLOURS](LogNorm(LOW, HIGH, clip=True)(np.sqrt(edges[1:] * edges[:-1])))
    for (left, right), (name, bundle) in zip(panels, bundles.items(), strict=True):
        for axes, values in ((left, bundle.rfbc), (right, np.concatenate([[], *bundle.lfbc]))):
            dress(axes, theme)
            counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
            axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colours)
        left.axvline(COHERENT, color=theme.ink, lw=1, ls="--")
        left.set_xscale("log")
        left.set_xticks([0.01, 0.1, 1], ["0.01", "0.1", "1"])
        kept = f"{len(bundle.streamlines)} streamlines, {int(bundle.is_coherent.sum())} coherent"
        left.set_title(f"{name}: {kept}", color=theme.ink, size=9, loc="left", pad=3)
    panels[-1, 0].set_xlabel("RFBC of each streamline")
    panels[-1, 1].set_xlabel("LFBC of each point, over the bundle's mean")
    figure.subplots_adjust(left=0.08, right=0.98, top=1 - 24 / height, bottom=46 / height,
                           wspace=0.2, hspace=0.55)  # fmt: skip
    return png(figure)


def _draw_streamlines(axes: Axes, bundle: Bundle, view: View, two: tuple[int, int]) -> None:
    """The streamlines' shadow on a plane, those that stray below the others."""
    n = len(bundle.streamlines)
    chosen = np.unique(np.linspace(0, n - 1, min(n, MOST_DRAWN)).astype(int))
    if not chosen.size:
        return
    points = [_turned(bundle.streamlines[i][::2], view)[:, two] for i in chosen]
    segments = np.concatenate([np.stack([p[:-1], p[1:]], axis=1) for p in points])
    lfbc = np.concatenate([bundle.lfbc[i][::2][:-1] for i in chosen])
    order = np.argsort(lfbc, kind="stable")
    lines = LineCollection(list(segments[order]), cmap=COLOURS, norm=LogNorm(LOW, HIGH), lw=0.7)
    lines.set_array(np.clip(lfbc[order], LOW, HIGH))
    axes.add_collection(lines, autolim=False)


def _turned(points: np.ndarray, view: View) -> np.ndarray:
    """(points, 3) mm in voxels of the view's box as `cuts` turns it: right, anterior, superior."""
    orientation = nib.orientations.io_orientation(view.affine)
    shape = [s.stop - s.start for s in view.box]
    turned_to_box = nib.orientations.inv_ornt_aff(orientation, shape)
    box = nib.affines.from_matvec(np.eye(3), [s.start for s in view.box])
    return nib.affines.apply_affine(np.linalg.inv(view.affine @ box @ turned_to_box), points)


def _draw_scale(figure: Figure, place: tuple[float, float, float, float]) -> None:
    colours = ScalarMappable(LogNorm(LOW, HIGH), COLOURS)
    bar = figure.colorbar(colours, cax=figure.add_axes(place), orientation="horizontal")
    bar.set_ticks([0.03, 0.1, 0.3, 1, 3], labels=["0.03", "0.1", "0.3", "1", "3"])
    bar.minorticks_off()
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors="#c8c8c8", labelsize=7, length=2, pad=2)
    bar.set_label("LFBC over the bundle's mean", color="#c8c8c8", size=7, labelpad=1)


def _share(
    left: float, bottom: float, wide: float, tall: float, size: tuple[float, float]
) -> tuple[float, float, float, float]:
    """A place in px as shares of the figure's size."""
    return left / size[0], bottom / size[1], wide / size[0], tall / size[1]
