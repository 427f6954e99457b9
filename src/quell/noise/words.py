"""The noise of a scan in words."""

import numpy as np

from ..checks import Finding
from ..checks.header import listed
from ..series import Series
from .anatomy import anatomy_of
from .components import FEW_VOLUMES
from .levels import UNEQUAL
from .model import NoiseModel

CORRELATED = 0.1  # of neighbours; above it, noise is not white
STEP, MOST_GROUPS = 1.1, 3  # between groups of volumes of like noise; above it they are not told
AIR_MAYBE_TOO_QUIET, AIR_TOO_QUIET = 1.35, 2.5  # head over air: a note; a warning
# Noise map against image beyond smooth profiles, correlation and slope. Maps of coils and of
# parallel imaging stay below .36 and .18; ventricles with twice the noise come to .58 and .52.
ANATOMY_SEEN, ANATOMY_CLEAR = (0.4, 0.2), (0.5, 0.45)  # a note; a warning


def describe_noise(noise: NoiseModel, mask: np.ndarray) -> str:
    """The noise in one line."""
    x, y, z = noise.lag_one()
    law = f"{noise.law} with N = {noise.n_coils:.1f}" if noise.law == "nc-chi" else noise.law
    each = ""
    if noise.levels is not None:
        each = f"times {noise.levels.min():.2f} to {noise.levels.max():.2f} in single volumes, "
    return (
        f"noise: {law}, sigma {np.median(noise.sigma[mask]):.4g} (median in the mask), {each}"
        f"neighbours correlate by {x:.2f} / {y:.2f} / {z:.2f} (x / y / z); from {noise.source}"
    )


def is_bulk(noise: NoiseModel) -> bool:
    """Whether the noise is that of components, not of small places, differences or the air."""
    return len(noise.eigenvalues) >= FEW_VOLUMES and noise.n_noise_components > 1


def unequal_volumes(levels: np.ndarray) -> str:
    """Which volumes have more noise than others, or less; "" where they are close.

    levels  (V,), or (2 V,) of the real and then the imaginary parts of complex volumes
    """
    half = len(levels) // 2
    if np.array_equal(levels[:half], levels[half:]):  # both parts
        levels = levels[:half]
    if levels.max() < UNEQUAL * levels.min():
        return ""
    order = np.argsort(levels, kind="stable")
    steps = np.flatnonzero(levels[order][1:] > STEP * levels[order][:-1]) + 1
    groups = np.split(order, steps)
    most = max(groups, key=len)  # of equal size the quieter one
    if not 2 <= len(groups) <= MOST_GROUPS:
        return (
            f"the noise of single volumes is {levels.min():.2f} to {levels.max():.2f} times that "
            "of a typical one"
        )
    said = []
    for group in groups:
        if group is not most:
            factor = float(np.median(levels[group]) / np.median(levels[most]))
            have = "have" if len(group) > 1 else "has"
            said.append(f"{listed(np.sort(group))} {have} {factor:.2g} times")
    return f"{', '.join(said)} the noise of the rest"


def remarks(
    noise: NoiseModel,
    takes_white: str = "",
    series: Series | None = None,
    mask: np.ndarray | None = None,
) -> list[Finding]:
    """What the noise model says about the scan.

    takes_white  name of the method in use, where that takes noise to be white
    series       the scan, to compare the noise map with
    mask         (X, Y, Z) bool, where to compare; goes with the series
    """
    found = []
    if series is not None and mask is not None:
        found += _anatomy(noise, series, mask)
    if noise.is_upper_bound:
        found.append(
            Finding(
                "noise-from-differences",
                "warning",
                f"too few volumes for noise-only components: the noise is learned from "
                f"{noise.source}",
                "take the noise map for an upper bound, or give one with --noise-in",
            )
        )
    if noise.head_over_air > AIR_MAYBE_TOO_QUIET:
        found.append(
            Finding(
                "air-is-not-the-head",
                "warning" if noise.head_over_air > AIR_TOO_QUIET else "note",
                f"even the smoothest places of the head vary {noise.head_over_air:.1f} times as "
                "much as the air around it: fine detail, or noise that the air does not show, as "
                "after parallel imaging or an adaptive combination of coils",
                "look at the residual; if noise is left, give a noise map with --noise-in",
            )
        )
    is_series = len(noise.eigenvalues) >= FEW_VOLUMES  # images of one contrast each differ anyway
    if is_series and noise.levels is not None and (said := unequal_volumes(noise.levels)):
        found.append(
            Finding(
                "unequal-volumes",
                "note",
                said,
                "nothing to do: every volume is denoised by its own noise; other programs take it "
                "to be the same in all",
            )
        )
    off = noise.found_over_given
    if abs(off - 1) > 0.1:
        found.append(
            Finding(
                "noise-map-off",
                "warning",
                f"the scan's own noise is {off:.2f} times that of the noise map given",
                "correct --noise-in or leave it out, or let --calibrate repair the result",
            )
        )
    tail = noise.eigenvalues[-noise.n_noise_components :]
    if is_bulk(noise) and tail[0] > 2 * tail[-1]:
        found.append(
            Finding(
                "no-noise-bulk",
                "warning" if takes_white else "note",
                "the smallest components of the series are not equally strong, so some may not be "
                "noise: the scan may be smoothed, interpolated or already denoised",
                f"{takes_white} takes the noise to be white: use joint, or denoise the raw scan"
                if takes_white
                else "nothing, if this is the scan as acquired; else denoise that",
            )
        )
    return found + _correlation(noise, takes_white)


def _correlation(noise: NoiseModel, takes_white: str) -> list[Finding]:
    """Noise that neighbours share, and whether the method can take it."""
    if max(abs(c) for c in noise.lag_one()) <= CORRELATED:
        return []
    x, y, z = noise.lag_one()
    seen = f"the noise of neighbouring voxels correlates by {x:.2f} / {y:.2f} / {z:.2f} (x/y/z)"
    if takes_white:
        sentence = f"{seen}, and {takes_white} takes it to be white: it leaves part of it, or "
        sentence += "takes signal with it"
        advice = "use a method that knows the correlation, such as joint"
        return [Finding("white-noise-assumed", "warning", sentence, advice)]
    advice = "nothing: it is measured and used; methods that assume white noise do worse"
    return [Finding("correlated-noise", "note", seen, advice)]


def _anatomy(noise: NoiseModel, series: Series, mask: np.ndarray) -> list[Finding]:
    """A noise map that is higher in some tissue, or in fluid, than coils can make it."""
    b0s = np.flatnonzero(series.is_b0)
    shown = b0s if len(b0s) else np.arange(series.n_volumes)
    image = np.abs(series.data[..., shown]).mean(axis=3, dtype=np.float64)
    r, slope = anatomy_of(noise.sigma, image, mask)
    if abs(r) < ANATOMY_SEEN[0] or abs(slope) < ANATOMY_SEEN[1]:
        return []
    is_clear = abs(r) > ANATOMY_CLEAR[0] and abs(slope) > ANATOMY_CLEAR[1]
    place = "bright tissue and fluid, as in the ventricles," if slope > 0 else "dark tissue"
    return [
        Finding(
            "noise-shows-anatomy",
            "warning" if is_clear else "note",
            f"the noise map shows anatomy: it is higher in {place} than coils explain "
            f"(correlation {abs(r):.2f} beyond a smooth profile)",
            "pulsation or motion counts as noise there: look at what was removed, or give a map "
            "of a noise scan with --noise-in",
        )
    ]
