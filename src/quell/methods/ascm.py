"""ascm: two non-local means filters, mixed in the wavelet domain by what each keeps better.

Paper   Coupe, Manjon, Robles, Collins, "Adaptive multiresolution non-local means filter for
        three-dimensional magnetic resonance image denoising", IET Image Processing 6:558, 2012;
        as implemented in DIPY, `adaptive_soft_matching`.
Idea    Small blocks keep detail, large blocks remove more noise. Where a wavelet coefficient of
        the noisy image is large there is detail and the first is taken, elsewhere the second.
Here    sigma = 1 after `scaling`. Both filters are those of quell's `nlm`; the transform, the
        thresholds T = 1 / √(sd² - 1) of its seven subbands, and the mixing are DIPY's.
Differs The share of the small blocks is 1 / (1 + exp(-slope (|c| - T))), with a slope per sigma.
        That of DIPY is 0.01 per unit of the scanner: the result depends on the units, and is the
        plain mean of the two for values of 0 to 1. The image is continued by its mirror image,
        where DIPY puts zeros and, in slabs, does not give back what it was given.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from ..noise import NoiseModel
from ..nonlocal_means import nonlocal_means
from ..run import Run, State
from ..series import Series
from ..settings import check_settings

DIPY_SLOPE = 0.01  # per unit of what it is given
SHORTEST = 16  # voxels; the wavelet's ten taps must fit, and DIPY takes powers of two


@dataclass(frozen=True)
class AdaptiveSoftMatching:
    """Adaptive soft coefficient matching; its fields are its settings."""

    small: int = 1  # radius of the small blocks, voxels
    large: int = 2  # of the large ones
    search: int = 2  # how far off blocks are looked for, voxels; time grows with its cube
    beta: float = 0.3  # how much difference is taken for noise: more smooths more
    slope: float = 1.0  # how sharply small blocks give way to large ones, per sigma

    name: ClassVar[str] = "ascm"
    paper: ClassVar[str] = "Coupe et al. 2012, IET Image Processing 6:558"
    needs: ClassVar[str] = "one image or more, of white noise; each volume is restored by itself"
    units: ClassVar[str] = "sigma"
    assumes_white: ClassVar[bool] = True  # the thresholds do
    summary: ClassVar[str] = "non-local means at two sizes of block, mixed by wavelets, no training"
    takes_one_image: ClassVar[bool] = True
    presets: ClassVar[dict[str, dict[str, Any]]] = {"default": {}}

    def __post_init__(self) -> None:
        check_settings(self, {}, may_be_zero=("small",))

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """Nothing: the filter is known."""
        return {}

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """Every volume filtered, (X, Y, Z, V)."""
        out = np.empty(scan.data.shape, dtype=np.float32)
        for v in range(scan.n_volumes):
            y = torch.from_numpy(np.ascontiguousarray(scan.data[..., v])).to(run.device)
            few, many = (
                nonlocal_means(y, patch, self.search, self.beta, noise.covariance).cpu().numpy()
                for patch in (self.small, self.large)
            )
            out[..., v] = match(scan.data[..., v], few, many, self.slope)
            run.voice.progress("denoising", v + 1, scan.n_volumes)
        return out


def match(y: np.ndarray, small: np.ndarray, large: np.ndarray, slope: float) -> np.ndarray:
    """Two estimates mixed, coefficient by coefficient; (X, Y, Z).

    y      (X, Y, Z)  noisy, sigma = 1
    small  (X, Y, Z)  its estimate from small blocks
    large  (X, Y, Z)  from large ones
    slope  of the share of the small blocks, per sigma
    """
    from dipy.denoise.adaptive_soft_matching import adaptive_soft_matching  # slow to import

    unit = slope / DIPY_SLOPE  # in these units sigma is `unit`, and DIPY's slope the one asked for
    sizes = [max(SHORTEST, 1 << (n - 1).bit_length()) for n in y.shape]
    margin = [(0, size - n) for size, n in zip(sizes, y.shape, strict=True)]
    noisy, few, many = (
        np.pad(image.astype(np.float64) * unit, margin, mode="symmetric")
        for image in (y, small, large)
    )
    with np.errstate(over="ignore", divide="ignore"):  # no signal in a subband: T is endless
        mixed = adaptive_soft_matching(noisy, few, many, unit)
    return np.asarray(mixed[tuple(slice(n) for n in y.shape)] / unit)
