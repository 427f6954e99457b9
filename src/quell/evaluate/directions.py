"""Shells and directions: signal level and directional contrast before and after.

Idea    A denoiser that shares information between directions fails first by drawing them
        towards their mean. The variance over the directions of a shell, less the noise's own σ²,
        is the contrast that was there; the same variance of the result is what is left of it.
"""

from typing import Any

import numpy as np

from ..series import B0_MAX
from .reference import finite, masked

SHELL_GAP = 60.0  # s/mm²; sorted b-values further apart than this start a new shell
MEASURABLE_CONTRAST = 0.1  # of σ²; below it a 5 % error of σ alone (10 % of σ²) would hide it


def shells(bvals: np.ndarray | None, n_volumes: int) -> list[np.ndarray]:
    """Indices of the volumes of each shell, b=0 first; one group of all without b-values.

    bvals      (V,) or None  s/mm²
    n_volumes  V
    """
    if bvals is None:
        return [np.arange(n_volumes)]
    is_b0 = bvals <= B0_MAX
    weighted = np.flatnonzero(~is_b0)
    order = weighted[np.argsort(bvals[weighted], kind="stable")]
    cuts = np.flatnonzero(np.diff(bvals[order]) > SHELL_GAP) + 1
    groups = [np.flatnonzero(is_b0), *(np.sort(group) for group in np.split(order, cuts))]
    return [group for group in groups if group.size]


def shell_numbers(
    noisy: np.ndarray,
    denoised: np.ndarray,
    sigma: np.ndarray,
    where: np.ndarray,
    bvals: np.ndarray | None,
    groups: list[np.ndarray],
) -> dict[str, Any]:
    """Mean signal and spread over directions, shell by shell, before and after."""
    variance = float(np.mean(sigma[where].astype(np.float64) ** 2))
    rows = []
    for group in groups:
        mean_y, spread_y = _mean_and_spread(noisy, where, group)
        mean_x, spread_x = _mean_and_spread(denoised, where, group)
        signal = spread_y - variance
        before = np.sqrt(signal) if signal > MEASURABLE_CONTRAST * variance else np.nan
        b = float(np.mean(bvals[group])) if bvals is not None else np.nan
        change = mean_x / mean_y - 1 if mean_y != 0 else np.nan
        rows.append((b, len(group), change, before, np.sqrt(spread_x)))
    b, size, change, before, after = np.array(rows).T
    return {
        "shell_bvals": b,
        "shell_sizes": size.astype(int),
        "mean_change": change,
        "contrast_before": before,
        "contrast_after": after,
    }


def _mean_and_spread(
    series: np.ndarray, where: np.ndarray, group: np.ndarray
) -> tuple[float, float]:
    """Mean over the mask and the volumes, and mean over the mask of the variance over volumes."""
    n_voxels = int(np.count_nonzero(where))
    total, squares = np.zeros((2, n_voxels))  # float64, so the difference below is safe
    for v in group:
        values = finite(masked(series, where, v))
        total += values
        squares += values**2
    mean = total / len(group)
    if len(group) < 2:
        return float(np.mean(mean)), float("nan")
    spread = np.mean((squares - len(group) * mean**2) / (len(group) - 1))
    return float(np.mean(mean)), max(float(spread), 0.0)


def above_b0(
    noisy: np.ndarray, denoised: np.ndarray, where: np.ndarray, bvals: np.ndarray | None
) -> dict[str, Any]:
    """Share of signals above the mean b=0, which diffusion cannot make."""
    shares = {"above_b0_before": float("nan"), "above_b0_after": float("nan")}
    is_b0 = np.zeros(noisy.shape[3], bool) if bvals is None else bvals <= B0_MAX
    if is_b0.all() or not is_b0.any():
        return shares
    for name, series in zip(shares, (noisy, denoised), strict=True):
        b0 = sum(masked(series, where, int(v)) for v in np.flatnonzero(is_b0)) / is_b0.sum()
        above = [np.mean(masked(series, where, int(v)) > b0) for v in np.flatnonzero(~is_b0)]
        shares[name] = float(np.mean(above))
    return shares
