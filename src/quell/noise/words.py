"""The noise of a scan in words."""

import numpy as np

from ..checks import Finding
from ..checks.header import listed
from .components import FEW_VOLUMES
from .levels import UNEQUAL
from .model import NoiseModel

CORRELATED = 0.1  # of neighbours; above it, noise is not white
STEP, MOST_GROUPS = 1.1, 3  # between groups of volumes of like noise; above it they are not told
AIR_MAYBE_TOO_QUIET, AIR_TOO_QUIET = 1.35, 2.5  # head over air: a note; a warning


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
    """Whether the noise is that of components, not of differences or the air."""
    return len(noise.eigenvalues) >= FEW_VOLUMES


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


def remarks(noise: NoiseModel, takes_white: str = "") -> list[Finding]:
    """What the noise model says about the scan.

    takes_white  name of the method in use, where that takes noise to be white
    """
    found = []
    if "counts as noise" in noise.source:
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
    if is_bulk(noise) and noise.levels is not None and (said := unequal_volumes(noise.levels)):
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
