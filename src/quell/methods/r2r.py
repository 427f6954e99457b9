"""Recorrupted2Recorrupted: two noisy images made of one, whose noise is independent.

Paper   Pang, Zheng, Quan, Ji, "Recorrupted-to-Recorrupted: unsupervised deep learning for image
        denoising", CVPR 2021.
Idea    With fresh noise Z that is like the scan's, X + α Z and X - Z / α have independent noise:
        the covariance is σ² - σ² = 0. So the best prediction of the second from the first is
        E[X_0 | X + α Z], as if there were two repetitions (Noise2Noise).
Here    sigma = 1 after `scaling`. Every volume is an image of its own. Z has the scan's own
        correlation. The result is the mean over some draws of Z: the network only knows images
        with noise added.
Differs The network, its training and its start as a pixelwise Wiener filter are those of quell's
        Corruption2Self, of which this is the case of one noise level and weight 1 / γ², so that
        the two can be compared. Preset "paper": white noise, the published patches and draws; the
        length of training is quell's.

Symbols, in units of the scan's noise (sigma = 1):
    X_t      X + α Z;  s_t² = 1 + α²
"""

from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..images import STOPS, Images, filters, learn, restored, steps_of
from ..noise import ADDED, NoiseModel, draw_like
from ..predictor import network
from ..run import Run, State
from ..series import Series
from ..settings import check_settings
from ..slices import Batch
from ..trainer import Network, Training, load_weights
from ..unet import UNet


@dataclass(frozen=True)
class Recorrupted2Recorrupted:
    """Recorrupted2Recorrupted; its fields are its settings."""

    alpha: float = 0.5  # added noise, in units of the scan's
    recorruptions: int = 8  # passes with fresh noise that are averaged
    noise: str = "measured"  # what the added noise is like; "white": the paper's experiments
    steps: int = 500  # of training
    channels: int = 32  # of the U-Net at full resolution
    patches: int = 8  # per step
    patch: int = 64  # edge of a patch, voxels
    images_at_once: int = 8  # slices of one pass
    stop: str = "held-out"  # when held-out voxels get no better; "never": after all steps

    name: ClassVar[str] = "r2r"
    paper: ClassVar[str] = "Pang et al. 2021, CVPR (Recorrupted-to-Recorrupted)"
    needs: ClassVar[str] = "one image or more; each volume is restored by itself"
    units: ClassVar[str] = "sigma"
    summary: ClassVar[str] = "one image learns one noisy version of itself from another (R2R)"
    learns_many: ClassVar[bool] = True  # one network may learn from many scans
    takes_one_image: ClassVar[bool] = True
    takes_contrasts: ClassVar[bool] = True
    after_learning: ClassVar[tuple[str, ...]] = ("recorruptions", "images_at_once")
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "fast":    {"steps": 250},
        "default": {},
        "paper":   {"noise": "white", "recorruptions": 50, "patches": 128, "patch": 40,
                    "steps": 10_000, "stop": "never"},
    }  # fmt: skip

    @property
    def assumes_white(self) -> bool:
        """Whether the noise that is added is white, whatever the scan's."""
        return self.noise == "white"

    def __post_init__(self) -> None:
        check_settings(self, {"noise": ADDED, "stop": STOPS})

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """The network h, from all volumes of all scans."""
        images = Images.of_all(scans)
        roots = filters(noises, self)
        return learn(
            self.network(images[0].n_beside, run),
            images,
            lambda h, b, rng: self.loss(h, b, images[b.scan], roots[b.scan], rng),
            self,
            run,
            Training(steps_of(images, self), parts=run.parts),
        )

    def loss(
        self, net: Network, batch: Batch, images: Images, root: Tensor, rng: torch.Generator
    ) -> Tensor:
        """‖h(X + α Z) − (X − Z / α)‖² in the mask."""
        X = batch.y[:, :1]
        X_t, target = self.pair(X, draw_like(X, root, rng))
        return batch.mean((self.estimate(net, X_t, batch, images) - target) ** 2)

    def pair(self, X: Tensor, Z: Tensor) -> tuple[Tensor, Tensor]:
        """The input and the target, made of the image and of noise like its own."""
        return X + self.alpha * Z, X - Z / self.alpha  # Dᵀ = α, D⁻¹ = 1/α of the paper

    def estimate(self, net: Network, X_t: Tensor, batch: Batch, images: Images) -> Tensor:
        """h(X_t), (B, 1, H, W)."""
        s_t = torch.full((len(X_t),), (1 + self.alpha**2) ** 0.5)
        return images.estimate(net, X_t, batch.y, s_t, batch.group)

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """The mean over recorruptions of every slice of every volume."""
        im = Images.of(scan)
        net = self.network(im.n_beside, run)
        load_weights(net, state, "network.").to(run.device)
        root = noise.to_add(self.noise).in_plane_filter(scan.data.shape[:2])

        def restore(batch: Batch) -> Tensor:
            fresh = islice(im.fresh_noise(batch, root, run), self.recorruptions)
            inputs = (self.pair(batch.y[:, :1], Z)[0] for Z in fresh)
            return torch.stack([self.estimate(net, X_t, batch, im) for X_t in inputs]).mean(dim=0)

        return restored(restore, im, self, run)

    def network(self, n_beside: int, run: Run) -> UNet:
        """The U-Net F, untrained."""
        return network("lean", self.channels, 1 + n_beside, 2, 2, run, "network")
