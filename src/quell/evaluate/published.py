"""Scores as the papers computed them, to stand beside their figures; never to choose a method by.

Paper   Di-Fusion: Wu et al., ICLR 2025, its released scoring script.
Trap    Both images are stretched to 0 ... 1 by their own extremes over the whole series, so one
        bright voxel of a result moves its score by several dB, and a result of the wrong scale or
        with an offset is praised like the right one. Air counts as much as brain. The scores of
        `reference.py` do neither.
"""

import numpy as np


def difusion_scores(estimate: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """PSNR in dB and SSIM, each the mean over all slices of all volumes, air included.

    estimate  (X, Y, Z) or (X, Y, Z, V)  any unit
    truth     as estimate                any unit

    PSNR is inf if one slice has no error. SSIM has a uniform window of 7 x 7 voxels; NaN for
    slices smaller than it.
    """
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    if estimate.shape != truth.shape:
        raise ValueError(f"shapes differ: estimate {estimate.shape}, truth {truth.shape}.")
    x0_hat, x0 = stretched(estimate), stretched(truth)
    has_window = min(truth.shape[:2]) >= 7
    psnrs, ssims = [], []
    for where in np.ndindex(truth.shape[2:]):  # slice, volume
        pair = x0[(..., *where)], x0_hat[(..., *where)]
        with np.errstate(divide="ignore"):
            psnrs.append(float(peak_signal_noise_ratio(*pair, data_range=1)))
        if has_window:
            ssims.append(float(structural_similarity(*pair, data_range=1)))
    return float(np.mean(psnrs)), float(np.mean(ssims)) if ssims else float("nan")


def stretched(series: np.ndarray) -> np.ndarray:
    """The series between its own extremes, 0 ... 1; zeros where it is constant."""
    low, high = float(series.min()), float(series.max())
    return (series.astype(np.float64) - low) / (high - low if high > low else 1)
