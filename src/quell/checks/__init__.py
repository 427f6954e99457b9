"""Checks: what speaks against denoising this scan, in words, each with what to do.

Idea    A scan that was smoothed, clipped or resampled is denoised wrongly without any error.
        Say so before the work starts, with the numbers.
Here    One small function per subject; CHECKS lists them all. Nothing is changed, only said.
        `header` reads the text that came with the scan, `voxels` and `slices` judge `symptoms`.
        A fault (damaged or mislabelled data) is a warning that no result outweighs; how the scan
        was acquired is a note, and a warning only for a method that cannot take it.
Differs The limits come from raw scans and from the same scans spoilt on purpose.
"""

from collections.abc import Callable

import numpy as np

from ..series import InputError, Series
from .finding import LEVELS, Finding
from .header import gradients, memory, processed, protocol, volume_counts
from .look import Denoiser, Look
from .slices import slice_faults
from .voxels import (
    duplicates,
    field_of_view,
    intensities,
    interpolated,
    motion,
    noise_floor,
    representation,
    smooth_noise,
    zeros,
)

__all__ = ["CHECKS", "Denoiser", "Finding", "Look", "check", "refuse"]

Check = Callable[[Look], list[Finding]]

CHECKS: tuple[Check, ...] = (
    gradients,
    representation,
    memory,
    volume_counts,
    processed,
    interpolated,
    smooth_noise,
    noise_floor,
    field_of_view,
    intensities,
    slice_faults,
    duplicates,
    motion,
    zeros,
    protocol,
)


def check(
    series: Series,
    mask: np.ndarray,
    sigma: np.ndarray | None = None,
    method: Denoiser | None = None,
) -> list[Finding]:
    """Everything worth saying about a scan before it is denoised, errors first.

    series  as loaded
    mask    (X, Y, Z) bool, the head
    sigma   (X, Y, Z) noise map, if already known
    method  that is to be used, if already known: what it needs and cannot take is said, too
    """
    if not mask.any():
        raise InputError(f"the mask of {series.path or 'the scan'} is empty; give one with --mask")
    look = Look(series, mask, sigma, method)
    found = [finding for one in CHECKS for finding in one(look)]
    return sorted(found, key=lambda f: (LEVELS.index(f.level), not f.is_fault))


def refuse(findings: list[Finding]) -> None:
    """Raise InputError for the first error, if there is one."""
    for finding in findings:
        if finding.level == "error":
            raise InputError(f"{finding.sentence}; {finding.advice}")
