"""What a figure for a paper shows of a scan and its results: one slice, one window, one scale."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..evaluate import shells
from ..evaluate.spectrum import ResidualSpectrum, residual_spectrum
from ..series import InputError
from . import figures
from .averages import MEAN_WINDOW
from .facts import over_sigma
from .paper import Panel
from .pictures import RESIDUAL_WINDOW
from .tensors import FA, MD, fa_and_md, tensor_volumes

CHARTS = ("spectrum", "volumes", "shells")
PANELS = ("images", "residuals", "averaged", "noise", "fa", "md", *CHARTS)
NEED_SIGMA = {"residuals", "averaged", "noise", *CHARTS}
NAMES = {
    "images": "", "residuals": "removed", "averaged": "removed, averaged", "fa": "FA", "md": "MD",
    "noise": "noise map",
}  # fmt: skip

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


def gathered(facts: PaperFacts) -> Gathered:
    """All that is to be drawn, one result after the other."""
    if "shells" in facts.panels and facts.bvals is None:
        raise InputError("shells need b-values; give --bval, or leave them out of --panels")
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
        if not {"volumes", "shells"}.isdisjoint(facts.panels):
            found.ratios.append(_ratios(facts, denoised))
    return found


def _of_scan(facts: PaperFacts, window: tuple[float, float]) -> Panels:
    found = _tensors(facts, facts.name, 0, facts.noisy)
    if "images" in facts.panels:
        noisy = facts.noisy[..., facts.volume]
        found["images", 0] = Panel(facts.name, _cut(noisy, facts), window, unit="a.u.")
    if "noise" in facts.panels:
        sigma = np.nan_to_num(facts.noise_of(facts.volume))
        shown = 0.0, figures.window_of(sigma, facts.mask)[1]
        found["noise", 0] = Panel(NAMES["noise"], _cut(sigma, facts), shown, "viridis", "a.u.")
    return found


def _of_result(
    facts: PaperFacts, name: str, i: int, denoised: np.ndarray, window: tuple[float, float]
) -> Panels:
    found, v, r, m = _tensors(facts, name, i, denoised), facts.volume, RESIDUAL_WINDOW, MEAN_WINDOW
    if "images" in facts.panels:
        found["images", i] = Panel(name, _cut(denoised[..., v], facts), window, unit="a.u.")
    if "residuals" in facts.panels:
        removed = over_sigma(facts.noisy[..., v] - denoised[..., v], facts.noise_of(v))
        found["residuals", i] = Panel(NAMES["residuals"], _cut(removed, facts), (-r, r), unit="σ")
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
