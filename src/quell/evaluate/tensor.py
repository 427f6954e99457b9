"""Downstream: maps of the diffusion tensor, and their error against those of the truth.

Paper   FA from the first six directions: DDM2, Xiang et al., ICLR 2023, figure of FA maps.
Here    DIPY's TensorModel, weighted least squares; a gradient counts as b=0 up to 50 s/mm².
        All volumes are used: drop shells far above b = 1500 s/mm² before, where the signal of
        tissue is no longer a single exponential.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..series import B0_MAX
from .reference import psnr, range_of, ssim

ANISOTROPIC = 0.2  # FA; below it noise alone turns the principal direction about
WORST_CONDITION = 50.0  # of six directions; evenly spread ones have 2
LEAST_SIGNAL = 0.01  # of the median b=0; fluid at b = 1000 s/mm² keeps 5 %


@dataclass(frozen=True)
class TensorMaps:
    """What the diffusion tensors say, 0 outside the mask."""

    fa: np.ndarray  # (X, Y, Z) float32, 0..1
    md: np.ndarray  # (X, Y, Z) float32, mm²/s
    rd: np.ndarray  # (X, Y, Z) float32, across the principal direction, mm²/s
    ad: np.ndarray  # (X, Y, Z) float32, along it, mm²/s
    direction: np.ndarray  # (X, Y, Z, 3) float32, the principal direction, of either sign


def tensor_maps(
    data: np.ndarray, bvals: np.ndarray, bvecs: np.ndarray, mask: np.ndarray
) -> TensorMaps:
    """Fit one tensor per voxel of the mask.

    data   (X, Y, Z, V)  data units; values ≤ 0 are raised to a small positive one by DIPY
    bvals  (V,)          s/mm²
    bvecs  (V, 3)        unit vectors, zeros for b=0
    mask   (X, Y, Z)     where to fit

    Raises ValueError with fewer than 6 diffusion-weighted volumes, or without any b=0.
    """
    fit = fit_tensors(data[mask], bvals, bvecs)
    found = []
    for values in (fit.fa, fit.md, fit.rd, fit.ad, fit.directions[:, 0]):
        found.append(np.zeros((*mask.shape, *values.shape[1:]), dtype=np.float32))
        found[-1][mask] = np.nan_to_num(values)
    return TensorMaps(*found)


def tensor_prediction(
    data: np.ndarray, bvals: np.ndarray, bvecs: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """The series that the tensors fitted to a series say it should be; 0 outside the mask.

    Compared with another acquisition it judges the tensors: FA can't, since the FA of noisy data
    is too high, in the other acquisition as well. Signals below LEAST_SIGNAL are raised to it: the
    logarithm of the next to nothing that noise leaves of a voxel here and there would rule the
    score. Arguments and errors of `tensor_maps`.
    """
    floor = LEAST_SIGNAL * float(np.median(data[mask][:, bvals <= B0_MAX]))
    fit = fit_tensors(data[mask], bvals, bvecs, floor if floor > 0 else None)
    predicted = np.zeros(data.shape, dtype=np.float32)
    with np.errstate(over="ignore"):  # in voxels of noise alone a fit may run away
        signal = np.nan_to_num(fit.predict(gradients_of(bvals, bvecs), S0=fit.S0_hat))
    predicted[mask] = np.clip(signal, 0, data[mask].max(initial=0))
    return predicted


def fa_error(estimate: TensorMaps, truth: TensorMaps, mask: np.ndarray) -> float:
    """Root-mean-square error of FA over the mask (X, Y, Z), dimensionless."""
    return _rms(estimate.fa[mask] - truth.fa[mask])


def md_error(estimate: TensorMaps, truth: TensorMaps, mask: np.ndarray) -> float:
    """Root-mean-square error of MD over the mask (X, Y, Z), mm²/s."""
    return _rms(estimate.md[mask] - truth.md[mask])


def first_six(bvals: np.ndarray, bvecs: np.ndarray) -> np.ndarray | None:
    """(G,) all b=0 and the first six weighted volumes, in their order, as DDM2 shows FA from.

    bvals  (V,)    s/mm²
    bvecs  (V, 3)  unit vectors, zeros for b=0

    None where these six directions don't determine a tensor.
    """
    six = np.flatnonzero(bvals > B0_MAX)[:6]
    x, y, z = bvecs[six].T
    design = np.stack([x * x, y * y, z * z, 2 * x * y, 2 * x * z, 2 * y * z], axis=1)
    if len(six) < 6 or np.linalg.cond(design) > WORST_CONDITION:
        return None
    return np.union1d(np.flatnonzero(bvals <= B0_MAX), six)


def map_scores(estimate: TensorMaps, truth: TensorMaps, mask: np.ndarray) -> dict[str, float]:
    """PSNR (dB) and SSIM of each scalar map, and the angle between principal directions (degrees).

    mask  (X, Y, Z)  where to measure

    The range of a diffusivity is the largest one of the truth in the mask, that of FA is 1. The
    angle is the median over the voxels of the mask where the truth has a direction to speak of.
    """
    found = {}
    for name in ("fa", "md", "rd", "ad"):
        of_truth, of_estimate = getattr(truth, name), getattr(estimate, name)
        data_range = 1.0 if name == "fa" else range_of(of_truth, mask)
        found[f"{name}_psnr"] = psnr(of_estimate, of_truth, mask, data_range)
        found[f"{name}_ssim"] = ssim(of_estimate, of_truth, mask, data_range)
    found["angle"] = direction_error(estimate, truth, mask)
    return found


def direction_error(estimate: TensorMaps, truth: TensorMaps, mask: np.ndarray) -> float:
    """Median angle between both principal directions where the true FA is high, degrees.

    mask  (X, Y, Z)  where to measure; NaN where nothing in it is anisotropic
    """
    where = mask & (truth.fa > ANISOTROPIC)
    cosines = np.abs(np.sum(estimate.direction[where] * truth.direction[where], axis=-1))
    if not cosines.size:
        return float("nan")
    return float(np.median(np.degrees(np.arccos(np.clip(cosines, 0, 1)))))


def fit_tensors(
    values: np.ndarray, bvals: np.ndarray, bvecs: np.ndarray, least: float | None = None
) -> Any:
    """DIPY's fit to the voxels (N, V).

    least  lower signals are raised to it; None: to the smallest one above 0

    Raises ValueError with fewer than 6 diffusion-weighted volumes, or without any b=0.
    """
    from dipy.reconst.dti import TensorModel  # large: only for those who fit tensors

    n_b0 = int(np.sum(bvals <= B0_MAX))
    n_dwi = len(bvals) - n_b0
    if n_b0 == 0 or n_dwi < 6:
        raise ValueError(f"a tensor needs a b=0 and 6 directions; here are {n_b0} and {n_dwi}.")
    gradients = gradients_of(bvals, bvecs)
    model = TensorModel(gradients, fit_method="WLS", return_S0_hat=True, min_signal=least)
    with np.errstate(over="ignore"):
        return model.fit(values)


def gradients_of(bvals: np.ndarray, bvecs: np.ndarray) -> Any:
    """DIPY's gradient table, with quell's own threshold of b=0.

    bvals  (V,)    s/mm²
    bvecs  (V, 3)  unit vectors, zeros for b=0
    """
    from dipy.core.gradients import gradient_table

    return gradient_table(bvals, bvecs=bvecs, b0_threshold=B0_MAX)


def _rms(difference: np.ndarray) -> float:
    return float(np.sqrt(np.mean(difference.astype(np.float64) ** 2)))
