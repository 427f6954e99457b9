"""What a figure for a paper shows of a scan and its results: one slice, one window, one scale.

Here    Results stand side by side and a row has one scale, so that what differs between two
        pictures is the methods'. Where there is one result only, its pictures fill up the rows.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ..evaluate import shells
from ..evaluate.spectrum import ResidualSpectrum, residual_spectrum
from ..series import InputError
from . import figures
from .averages import MEAN_WINDOW
from .charts import draw_power
from .facts import over_sigma
from .figures import LIGHT, _dress, _legend
from .paper import SMALL, Panel, Row, Sheet, shortened
from .pictures import RESIDUAL_WINDOW
from .tensors import FA, MD, fa_and_md, tensor_volumes

PICTURES = ("before", "after", "removed", "averaged", "fa", "md", "sigma")
CHARTS = ("spectrum", "volumes")
PANELS = (*PICTURES, *CHARTS)
NEED_SIGMA = {"removed", "averaged", "sigma", *CHARTS}
IMAGES = "images"  # the row that before and after share
NAMES = {
    IMAGES: "", "removed": "removed", "averaged": "removed, averaged", "fa": "FA", "md": "MD",
    "sigma": "noise map",
}  # fmt: skip
# apart for the colour-blind, too, and in the order in which results come (Okabe and Ito)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#a89c00")
NAME_MM = 34.0  # of a result in a legend
PER_ROW = 3  # pictures, where there is one result only

Panels = dict[tuple[str, int], Panel]


@dataclass(frozen=True, eq=False)
class PaperFacts:
    """Everything that the figure shows, as plain data.

    results     name and (X, Y, Z, V) of each, data units; let go once they are drawn
    panels      of PANELS, in the order of their rows
    sigma       None where no panel needs it
    volume      which one is shown
    index       of the slice along the array's own axis; None for the middle of the mask
    window      data units shown as black and white; None for the first result's own
    is_cropped  to the mask
    """

    name: str
    noisy: np.ndarray  # (X, Y, Z, V) data units
    results: Iterable[tuple[str, np.ndarray]]
    mask: np.ndarray  # (X, Y, Z) bool
    affine: np.ndarray  # (4, 4) mm
    volume: int
    panels: Sequence[str]
    sigma: np.ndarray | None = None  # (X, Y, Z) or (X, Y, Z, V), data units
    covariance: np.ndarray | None = None  # (2Lx+1, 2Ly+1, 2Lz+1) of the noise, centre 1
    bvals: np.ndarray | None = None  # (V,) s/mm²
    bvecs: np.ndarray | None = None  # (V, 3)
    plane: str = "axial"
    index: int | None = None
    window: tuple[float, float] | None = None
    is_cropped: bool = True

    @cached_property
    def view(self) -> figures.View:
        """Where to cut: through the asked slice, all of whose kind are within the box."""
        found = figures.view_of(self.mask, self.affine)
        axis = figures.axis_through(self.plane, self.affine)
        centre, box = list(found.centre), list(found.box)
        if self.index is not None:
            centre[axis] = self.index
        for i, n in enumerate(self.mask.shape):
            if i == axis or not self.is_cropped:
                box[i] = slice(0, n)
        return figures.View(
            self.affine, (centre[0], centre[1], centre[2]), (box[0], box[1], box[2])
        )

    @cached_property
    def in_slice(self) -> np.ndarray:
        """(X, Y, Z) bool, the mask in the slice that is shown."""
        axis = figures.axis_through(self.plane, self.affine)
        where = np.zeros_like(self.mask)
        at = tuple(self.view.centre[i] if i == axis else slice(None) for i in range(3))
        where[at] = self.mask[at]
        return where

    def noise_of(self, v: int) -> np.ndarray:
        """(X, Y, Z) noise map of a volume."""
        assert self.sigma is not None
        return self.sigma if self.sigma.ndim == 3 else self.sigma[..., v]


def slice_at(mm: float, plane: str, mask: np.ndarray, affine: np.ndarray) -> int:
    """The slice nearest to a place, counted along the array's own axis; may lie outside.

    mm      scanner coordinate towards the head, the front or the right, as the plane has it; an
            oblique slice has it in the middle of the mask
    plane   "axial", "coronal" or "sagittal"
    mask    (X, Y, Z)
    affine  (4, 4)  mm
    """
    centre, axis = figures.view_of(mask, affine).centre, figures.axis_through(plane, affine)
    along = figures.THROUGH[plane]
    here = float(nib.affines.apply_affine(affine, centre)[along])
    step = float(affine[along, axis])
    return round(centre[axis] + (mm - here) / step)


@dataclass(eq=False)
class Gathered:
    """What the figure is made of.

    names    of the scan and the results
    panels   by kind, and 0 for the scan, 1 ... for the results
    spectra  of what was removed, by result
    ratios   (V,) its sd over σ, by result
    """

    names: list[str]
    panels: Panels = field(default_factory=dict)
    spectra: list[ResidualSpectrum] = field(default_factory=list)
    ratios: list[np.ndarray] = field(default_factory=list)


def sheet_of(facts: PaperFacts, width: float, dpi: int, is_lettered: bool = False) -> Sheet:
    """The figure: panels in rows, and charts.

    width        mm
    dpi          of a PNG
    is_lettered  a, b, c ... above the pictures

    Raises InputError for a panel that the scan can't give.
    """
    found = gathered(facts)
    asked = list(dict.fromkeys(IMAGES if p in ("before", "after") else p for p in facts.panels))
    drawings: dict[str, Callable[[Axes], None]] = {
        "spectrum": partial(draw_spectra, found.names[1:], found.spectra),
        "volumes": partial(draw_volumes, found.names[1:], found.ratios),
    }
    _, wide, tall = figures.cuts(facts.mask, facts.view)[facts.plane]
    kinds = [kind for kind in asked if kind not in CHARTS]
    arranged = packed if len(found.names) == 2 else table
    return Sheet(
        rows=arranged(found, kinds),
        aspect=tall / wide,
        letters=figures.LETTERS[facts.plane],
        charts=[drawings[kind] for kind in asked if kind in CHARTS],
        width=width,
        dpi=dpi,
        is_lettered=is_lettered,
    )


def gathered(facts: PaperFacts) -> Gathered:
    """All that is to be drawn, one result after the other."""
    found, window = Gathered([facts.name]), facts.window
    for i, (name, denoised) in enumerate(facts.results, start=1):
        if window is None:
            window = figures.window_of(denoised[..., facts.volume], facts.mask)
        if i == 1:
            found.panels |= _of_scan(facts, window)
        found.names.append(name)
        found.panels |= _of_result(facts, name, i, denoised, window)
        if "spectrum" in facts.panels:
            found.spectra.append(_spectrum(facts, denoised))
        if "volumes" in facts.panels:
            found.ratios.append(_ratios(facts, denoised))
    return found


def _of_scan(facts: PaperFacts, window: tuple[float, float]) -> Panels:
    found = _tensors(facts, facts.name, 0, facts.noisy)
    if "before" in facts.panels:
        noisy = facts.noisy[..., facts.volume]
        found[IMAGES, 0] = Panel(facts.name, _cut(noisy, facts), window)
    if "sigma" in facts.panels:
        sigma = np.nan_to_num(facts.noise_of(facts.volume))
        shown = 0.0, figures.window_of(sigma, facts.mask)[1]
        found["sigma", 0] = Panel(NAMES["sigma"], _cut(sigma, facts), shown, "viridis", "a.u.")
    return found


def _of_result(
    facts: PaperFacts, name: str, i: int, denoised: np.ndarray, window: tuple[float, float]
) -> Panels:
    found, v, r, m = _tensors(facts, name, i, denoised), facts.volume, RESIDUAL_WINDOW, MEAN_WINDOW
    if "after" in facts.panels:
        found[IMAGES, i] = Panel(name, _cut(denoised[..., v], facts), window)
    if "removed" in facts.panels:
        removed = over_sigma(facts.noisy[..., v] - denoised[..., v], facts.noise_of(v))
        found["removed", i] = Panel(NAMES["removed"], _cut(removed, facts), (-r, r), unit="σ")
    if "averaged" in facts.panels:
        mean = _averaged(facts, denoised)
        found["averaged", i] = Panel(NAMES["averaged"], _cut(mean, facts), (-m, m), unit="σ")
    return found


def _tensors(facts: PaperFacts, name: str, i: int, series: np.ndarray) -> Panels:
    if not {"fa", "md"} & set(facts.panels):
        return {}
    kept = tensor_volumes(facts.bvals, facts.bvecs)
    if kept is None or facts.bvals is None or facts.bvecs is None:
        raise InputError(
            "fa and md need b-values with a b=0 and 6 well spread directions; give --bval and "
            "--bvec, or leave them out of --panels"
        )
    fa, md = fa_and_md(series, facts.in_slice, kept, facts.bvals, facts.bvecs)
    found = {
        ("fa", i): Panel(f"FA, {name}", _cut(fa, facts), FA, unit=""),
        ("md", i): Panel(f"MD, {name}", _cut(md, facts), MD, unit="µm²/ms"),  # = 10⁻³ mm²/s
    }
    return {key: panel for key, panel in found.items() if key[0] in facts.panels}


def _averaged(facts: PaperFacts, denoised: np.ndarray) -> np.ndarray:
    """(X, Y, Z) mean of what was removed in the highest shell, over its standard error."""
    group = shells(facts.bvals, facts.noisy.shape[3])[-1]
    total = np.zeros(facts.mask.shape, dtype=np.float32)
    for v in group:
        total += over_sigma(facts.noisy[..., v] - denoised[..., v], facts.noise_of(v))
    return np.asarray(total / np.sqrt(len(group)))


def _spectrum(facts: PaperFacts, denoised: np.ndarray) -> ResidualSpectrum:
    assert facts.sigma is not None
    given = (facts.noisy, denoised, facts.sigma, facts.mask, facts.covariance)
    found = residual_spectrum(*given)
    if found is None:
        raise InputError("no slice has enough of the mask for a spectrum; leave it out of --panels")
    return found


def _ratios(facts: PaperFacts, denoised: np.ndarray) -> np.ndarray:
    """(V,) sd of what was removed from each volume, over σ."""
    found = []
    for v in range(facts.noisy.shape[3]):
        sigma = facts.noise_of(v)
        removed = over_sigma(facts.noisy[..., v] - denoised[..., v], sigma)
        found.append(np.std(removed[facts.mask & (sigma > 0)]))
    return np.array(found)


def _cut(volume: np.ndarray, facts: PaperFacts) -> np.ndarray:
    return figures.cuts(volume, facts.view)[facts.plane][0]


# ---- in rows -------------------------------------------------------------------------------------


def table(found: Gathered, kinds: Sequence[str]) -> list[Row]:
    """A row for each kind and a column for the scan and each result, their names on top.

    The noise map takes the scan's place in a row that has nothing of the scan.
    """
    noise_map = found.panels.get(("sigma", 0))
    rows = [(kind, _row(found, kind)) for kind in kinds if kind != "sigma"]
    if noise_map is not None:
        with_place = [row for _, row in rows if row[0] is None]
        if not with_place:
            with_place = [[None] * len(found.names)]
            rows.append(("sigma", with_place[0]))
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
        shown.append(Row(panels, "" if kind == "sigma" else NAMES[kind]))
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


# ---- charts --------------------------------------------------------------------------------------


def draw_spectra(names: Sequence[str], spectra: Sequence[ResidualSpectrum], axes: Axes) -> None:
    """The power of what each result removed, beside the noise model's."""
    found = list(zip(_in_legend(names), spectra, strict=True))
    draw_power(axes, found, COLOURS, LIGHT, thick=1.0)
    _dress(axes, LIGHT, SMALL)
    _legend(axes, LIGHT, SMALL)


def draw_volumes(names: Sequence[str], ratios: Sequence[np.ndarray], axes: Axes) -> None:
    """The size of what each result removed, volume by volume."""
    axes.axhline(1, color=LIGHT.ink, lw=0.8, ls="--")
    for name, ratio, colour in zip(_in_legend(names), ratios, COLOURS, strict=False):
        axes.plot(np.arange(ratio.size), ratio, "o", ms=2, color=colour, label=name)
    axes.set_ylim(0, 1.35 * max(1.0, float(np.nanmax(ratios))))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("volume")
    axes.set_ylabel("residual sd / σ")
    _dress(axes, LIGHT, SMALL)
    _legend(axes, LIGHT, SMALL)


def _in_legend(names: Sequence[str]) -> list[str]:
    """Short names; matplotlib would leave out one that begins with an underscore."""
    short = [shortened(name, NAME_MM, SMALL) for name in names]
    return [f" {name}" if name.startswith("_") else name for name in short]
