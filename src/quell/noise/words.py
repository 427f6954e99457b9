"""The noise of a scan in words."""

import numpy as np

from ..checks import Finding
from ..series import Series
from .anatomy import anatomy_of
from .components import FEW_VOLUMES
from .model import NoiseModel

CORRELATED = 0.1  # of neighbours; above it, noise is not white
AIR_MAYBE_TOO_QUIET, AIR_TOO_QUIET = 1.35, 2.5  # head over air: a note; a warning
# Noise map against image beyond smooth profiles, correlation and slope. Maps of coils and of
# parallel imaging stay below .36 and .18; ventricles with twice the noise come to .58 and .52.
ANATOMY_SEEN, ANATOMY_CLEAR = (0.4, 0.2), (0.5, 0.45)  # a note; a warning


def describe_noise(noise: NoiseModel, mask: np.ndarray) -> str:
    """The noise in one line."""
    x, y, z = noise.lag_one()
    law = f"{noise.law} with N = {noise.n_coils:.1f}" if noise.law == "nc-chi" else noise.law
    return (
        f"noise: {law}, sigma {np.median(noise.sigma[mask]):.4g} (median in the mask), "
        f"neighbours correlate by {x:.2f} / {y:.2f} / {z:.2f} (x / y / z); from {noise.source}"
    )


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
    # else the noise is not that of components
    is_bulk = len(noise.eigenvalues) >= FEW_VOLUMES and noise.n_noise_components > 1
    if is_bulk and tail[0] > 2 * tail[-1]:
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
