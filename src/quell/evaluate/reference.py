"""Against a known truth: error, peak signal-to-noise ratio and bias of an estimate.

All three look at the voxels of the mask only, and walk volume by volume, so that a large
series is never copied. A high PSNR does not exclude a lost lesion or a flattened direction:
read it beside `bias` and the tensor errors of `tensor.py`.
"""

import numpy as np


def rmse(estimate: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Root-mean-square error over all volumes, in the units of the data.

    estimate  (X, Y, Z) or (X, Y, Z, V)  data units
    truth     as estimate                data units
    mask      (X, Y, Z)                  where to measure
    """
    n_volumes = _checked_volumes(estimate, truth, mask)
    squares = [
        np.mean((masked(estimate, mask, v) - masked(truth, mask, v)) ** 2) for v in range(n_volumes)
    ]
    return float(np.sqrt(np.mean(squares)))


def psnr(estimate: np.ndarray, truth: np.ndarray, mask: np.ndarray, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB: 20 log10(data_range / rmse), inf without any error.

    estimate    (X, Y, Z) or (X, Y, Z, V)  data units
    truth       as estimate                data units
    mask        (X, Y, Z)                  where to measure
    data_range  scalar                     the peak, data units; an argument, because papers
                                           differ in it (maximum, percentile) by several dB
    """
    if data_range <= 0:
        raise ValueError(f"data_range is {data_range}; it must be positive.")
    error = rmse(estimate, truth, mask)
    return float("inf") if error == 0 else float(20 * np.log10(data_range / error))


def bias(estimate: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Relative error of each volume's mean signal in the mask: mean(estimate) / mean(truth) - 1.

    estimate  (X, Y, Z) or (X, Y, Z, V)  data units
    truth     as estimate                data units
    mask      (X, Y, Z)                  where to measure

    Returns (V,), dimensionless; NaN for a volume whose true mean is 0.
    """
    relative = np.full(_checked_volumes(estimate, truth, mask), np.nan)
    for v in range(relative.size):
        level = masked(truth, mask, v).mean()
        if level != 0:
            relative[v] = masked(estimate, mask, v).mean() / level - 1
    return relative


def masked(series: np.ndarray, mask: np.ndarray, i_volume: int) -> np.ndarray:
    """The voxels of the mask in one volume, as float64 (n_voxels,); a 3-D array is one volume."""
    volume = series[..., i_volume] if series.ndim == 4 else series
    return volume[mask].astype(np.float64)  # means over 10⁶ float32 voxels lose digits


def finite(values: np.ndarray) -> np.ndarray:
    """NaN and infinities as 0, where they are counted apart and must not hide the rest."""
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def _checked_volumes(estimate: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> int:
    if estimate.shape != truth.shape or estimate.shape[:3] != mask.shape:
        raise ValueError(
            f"shapes differ: estimate {estimate.shape}, truth {truth.shape}, mask {mask.shape}."
        )
    if mask.dtype != bool or not mask.any():
        raise ValueError("the mask must be boolean and must hold at least one voxel.")
    return estimate.shape[3] if estimate.ndim == 4 else 1
