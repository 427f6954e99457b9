"""Downstream: maps of diffusion kurtosis, where two shells allow them.

Source  Jensen and Helpern, NMR Biomed 23:698 (2010); DIPY's DiffusionKurtosisModel, weighted least
        squares.
Here    All shells up to b = 3000 s/mm². Kurtosis is cut to 0 ... 3, as tissue has it: noise throws
        single voxels far out, and one of them would rule the score.
Trap    Kurtosis asks for the signal of high b, where magnitudes have their noise floor: what keeps
        the floor gets its kurtosis wrong, however little noise is left.
"""

from dataclasses import dataclass

import numpy as np

from ..series import B0_MAX
from .directions import shells
from .reference import psnr, ssim
from .tensor import gradients_of

B_MAX = 3000.0  # s/mm²; above, the expansion that defines kurtosis does not hold
LEAST_DIRECTIONS = 21  # as many as diffusion and kurtosis tensor have numbers
LEAST_SHELLS = 2
LIMITS = {"min_kurtosis": 0.0, "max_kurtosis": 3.0}  # of tissue
CHUNK = 20_000  # voxels that are fitted at once, for memory


@dataclass(frozen=True)
class KurtosisMaps:
    """What the kurtosis tensors say, 0 outside the mask."""

    mk: np.ndarray  # (X, Y, Z) float32, mean kurtosis
    ak: np.ndarray  # (X, Y, Z) float32, along the principal direction
    rk: np.ndarray  # (X, Y, Z) float32, across it


def kurtosis_volumes(bvals: np.ndarray) -> np.ndarray | None:
    """(G,) the volumes that kurtosis is fitted to; None where they don't allow it.

    bvals  (V,)  s/mm²
    """
    kept = np.flatnonzero(bvals <= B_MAX)
    n_weighted = int(np.sum(bvals[kept] > B0_MAX))
    n_shells = len(shells(bvals[kept], len(kept)))
    has_b0 = n_weighted < len(kept)
    is_enough = n_shells > LEAST_SHELLS and n_weighted >= LEAST_DIRECTIONS  # b=0 is one of them
    return kept if has_b0 and is_enough else None


def kurtosis_maps(
    data: np.ndarray, bvals: np.ndarray, bvecs: np.ndarray, mask: np.ndarray
) -> KurtosisMaps:
    """Fit diffusion and kurtosis tensors in the voxels of the mask.

    data   (X, Y, Z, G)  data units, of `kurtosis_volumes`
    bvals  (G,)          s/mm²
    bvecs  (G, 3)        unit vectors, zeros for b=0
    mask   (X, Y, Z)     where to fit
    """
    from dipy.reconst.dki import DiffusionKurtosisModel  # large: only for those who fit

    model = DiffusionKurtosisModel(gradients_of(bvals, bvecs), fit_method="WLS")
    values, found = data[mask], []
    for start in range(0, len(values), CHUNK):
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            fit = model.fit(values[start : start + CHUNK])
            found.append(np.stack([fit.mk(**LIMITS), fit.ak(**LIMITS), fit.rk(**LIMITS)]))
    maps = np.zeros((3, *mask.shape), dtype=np.float32)
    maps[:, mask] = np.nan_to_num(np.concatenate(found, axis=1))
    return KurtosisMaps(*maps)


def kurtosis_scores(
    estimate: KurtosisMaps, truth: KurtosisMaps, mask: np.ndarray
) -> dict[str, float]:
    """PSNR (dB) and SSIM of each map in the mask (X, Y, Z), for a range of 1."""
    found = {}
    for name in ("mk", "ak", "rk"):
        pair = getattr(estimate, name), getattr(truth, name)
        found[f"{name}_psnr"] = psnr(*pair, mask, 1.0)
        found[f"{name}_ssim"] = ssim(*pair, mask, 1.0)
    return found
