"""The noise of a scan in words."""

import numpy as np

from ..checks import Finding
from .components import FEW_VOLUMES
from .model import NoiseModel

CORRELATED = 0.1  # of neighbours; above it, noise is not white
AIR_MAYBE_TOO_QUIET, AIR_TOO_QUIET = 1.35, 2.5  # head over air: a note; a warning


def describe_noise(noise: NoiseModel, mask: np.ndarray) -> str:
    """The noise in one line."""
    x, y, z = noise.lag_one()
    law = f"{noise.law} with N = {noise.n_coils:.1f}" if noise.law == "nc-chi" else noise.law
    return (
        f"noise: {law}, sigma {np.median(noise.sigma[mask]):.4g} (median in the mask), "
        f"neighbours correlate by {x:.2f} / {y:.2f} / {z:.2f} (x / y / z); from {noise.source}"
    )


def remarks(noise: NoiseModel, takes_white: str = "") -> list[Finding]:
    """What the noise model says about the scan.

    takes_white  name of the method in use, where that takes noise to be white
    """
    found = []
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
                "warning",
                "the smallest components of the series are not equally strong, so some may not be "
                "noise: the scan may be smoothed, interpolated or already denoised",
                "denoise the scan as it left the scanner",
            )
        )
    if max(abs(c) for c in noise.lag_one()) > CORRELATED:
        x, y, z = noise.lag_one()
        seen = f"the noise of neighbouring voxels correlates by {x:.2f} / {y:.2f} / {z:.2f} (x/y/z)"
        found.append(
            Finding(
                "white-noise-assumed",
                "warning",
                f"{seen}, and {takes_white} takes it to be white: it leaves part of it, or takes "
                "signal with it",
                "use a method that knows the correlation, such as joint",
            )
            if takes_white
            else Finding(
                "correlated-noise",
                "note",
                seen,
                "nothing to do: the default method uses it; methods that assume white noise lose",
            )
        )
    return found
