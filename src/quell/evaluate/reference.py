"""Against a known truth: error, peak signal-to-noise ratio, structural similarity and bias.

All look at the voxels of the mask only, and walk volume by volume, so that a large series is
never copied. A high PSNR does not exclude a lost lesion or a flattened direction: read it beside
`bias` and the tensor errors of `tensor.py`.

Trap    The range of PSNR and SSIM is the reference's. One taken from each result, as the papers
        do (`published.py`), rewards whoever leaves a bright outlier in.
Paper   SSIM: Wang, Bovik, Sheikh, Simoncelli, IEEE Trans Image Process 13:600 (2004).
"""

import numpy as np

SSIM_WINDOW = 11  # voxels across a Gaussian of sd 1.5, as in the paper and in scikit-image


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


def range_of(reference: np.ndarray, mask: np.ndarray) -> float:
    """The reference's span in the mask, with 0 in it, data units: the range of PSNR and SSIM.

    reference  (X, Y, Z) or (X, Y, Z, V)  data units
    mask       (X, Y, Z)                  where to look
    """
    values = reference[mask]
    return float(max(values.max(), 0) - min(values.min(), 0))


def nrmse(estimate: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Root-mean-square error over the root mean square of the truth, dimensionless.

    estimate  (X, Y, Z) or (X, Y, Z, V)  data units
    truth     as estimate                data units
    mask      (X, Y, Z)                  where to measure

    0 is perfect; 1 is what an image of zeros has. NaN where the truth is 0 everywhere.
    """
    n_volumes = _checked_volumes(estimate, truth, mask)
    size = np.sqrt(np.mean([np.mean(masked(truth, mask, v) ** 2) for v in range(n_volumes)]))
    return float(rmse(estimate, truth, mask) / size) if size > 0 else float("nan")


def ssim(estimate: np.ndarray, truth: np.ndarray, mask: np.ndarray, data_range: float) -> float:
    """Mean structural similarity over the mask, from windows in the plane of the slices.

    estimate    (X, Y, Z) or (X, Y, Z, V)  data units
    truth       as estimate                data units
    mask        (X, Y, Z)                  where to measure
    data_range  scalar                     of the truth, data units: `range_of`

    1 is perfect; NaN for slices smaller than the window. Outside the mask the estimate is
    replaced by the truth, so what a method does to the air does not count, not even at the rim.
    """
    n_volumes = _checked_volumes(estimate, truth, mask)
    if data_range <= 0:
        raise ValueError(f"data_range is {data_range}; it must be positive.")
    if min(mask.shape[:2]) < SSIM_WINDOW:
        return float("nan")
    from skimage.metrics import structural_similarity  # only for those who judge

    total = 0.0
    for v in range(n_volumes):
        x0 = truth if truth.ndim == 3 else truth[..., v]
        x0_hat = np.where(mask, estimate if estimate.ndim == 3 else estimate[..., v], x0)
        for z in np.flatnonzero(mask.any(axis=(0, 1))):
            _, similarity = structural_similarity(
                x0[..., z].astype(np.float64),
                x0_hat[..., z].astype(np.float64),
                data_range=data_range,
                gaussian_weights=True,  # of sd 1.5, as in the paper
                use_sample_covariance=False,
                full=True,
            )
            total += float(similarity[mask[..., z]].sum())
    return total / (n_volumes * int(mask.sum()))


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
