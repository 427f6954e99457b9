"""nlm: non-local means, every volume restored by itself from blocks of it that look alike.

Paper   Coupe, Yger, Prima, Hellier, Kervrann, Barillot, "An optimized blockwise nonlocal means
        denoising filter for 3-D magnetic resonance images", IEEE Trans Med Imaging 27:425, 2008.
Idea    The same small piece of anatomy is seen many times in one image. Their mean has less noise
        and, unlike that of all neighbours, no blur.
Here    sigma = 1 after `scaling`, so the noise map and the law of magnitudes are known to it. The
        filter itself is `nonlocal_means`. Nothing is learned.
Differs For magnitudes the paper averages as if noise were Gaussian, and later versions average
        squares and subtract 2 σ²; quell stabilises the noise, and the way back keeps its floor
        unless asked. Fewer blocks are looked for, and more alike ones, than published: so it did
        best on a phantom of 2 mm voxels. With correlated noise, near blocks are forgiven less.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from ..noise import ADDED, NoiseModel
from ..nonlocal_means import nonlocal_means
from ..run import Run, State
from ..series import Series
from ..settings import check_settings


@dataclass(frozen=True)
class NonLocalMeans:
    """Non-local means; its fields are its settings."""

    patch: int = 1  # radius of a block, voxels; 2 is better for single slices
    search: int = 2  # how far off blocks are looked for, voxels; time grows with its cube
    beta: float = 0.3  # how much difference is taken for noise: more smooths more
    noise: str = "measured"  # what differences are judged by; "white": as published

    name: ClassVar[str] = "nlm"
    paper: ClassVar[str] = "Coupe et al. 2008, IEEE Trans Med Imaging 27:425"
    needs: ClassVar[str] = "one image or more; each volume is restored by itself"
    units: ClassVar[str] = "sigma"
    summary: ClassVar[str] = "non-local means: blocks that look alike are averaged, no training"
    takes_one_image: ClassVar[bool] = True
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "paper":   {"search": 5, "beta": 1.0, "noise": "white"},
    }  # fmt: skip

    @property
    def assumes_white(self) -> bool:
        """Whether differences are judged as if noise were white, whatever the scan's."""
        return self.noise == "white"

    def __post_init__(self) -> None:
        check_settings(self, {"noise": ADDED}, may_be_zero=("patch",))

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """Nothing: the filter is known."""
        return {}

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """Every volume filtered, (X, Y, Z, V)."""
        out = np.empty(scan.data.shape, dtype=np.float32)
        correlation = noise.to_add(self.noise).covariance
        for v in range(scan.n_volumes):
            y = torch.from_numpy(np.ascontiguousarray(scan.data[..., v])).to(run.device)
            restored = nonlocal_means(y, self.patch, self.search, self.beta, correlation)
            out[..., v] = restored.cpu().numpy()
            run.voice.progress("denoising", v + 1, scan.n_volumes)
        return out
