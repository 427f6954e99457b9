"""SURE: a network learns to denoise by the mean squared error itself, estimated without the truth.

Papers  Stein, "Estimation of the mean of a multivariate normal distribution", Annals of Statistics
        9:1135, 1981; as a loss: Metzler, Mousavi, Heckel, Baraniuk, "Unsupervised learning with
        Stein's unbiased risk estimator", arXiv:1805.10531; Soltanayev, Chun, "Training deep
        learning based denoisers without ground truth data", NeurIPS 2018.
Idea    How far f(y) is from y says too little: f(y) = y would be best. What is missing is how much
        of the noise f keeps, and for Gaussian noise that is its derivative J:
            E‖f(y) - x‖² = E‖f(y) - y‖² - M σ² + 2 E tr(J Σ),   M pixels, noise of covariance Σ.
        The trace comes from a second pass with a little noise added (`divergence`).
Here    sigma = 1 after `scaling`. Every volume is an image of its own. Σ is the scan's own.
Differs The papers have white noise, Σ = σ² I: noise="white". The network, its training and its
        start as a pixelwise Wiener filter are those of quell's Corruption2Self, so that the two
        can be compared. Preset "paper": white noise; patches and length of training are quell's.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..divergence import kept_noise, stein_risk
from ..images import STOPS, Images, filters, learn, restored
from ..noise import ADDED, NoiseModel, draw_like
from ..predictor import network
from ..run import Run, State
from ..series import Series
from ..settings import check_settings
from ..slices import Batch
from ..trainer import Network, load_weights
from ..unet import UNet


@dataclass(frozen=True)
class Sure:
    """SURE; its fields are its settings."""

    noise: str = "measured"  # what the scan's noise is taken to be like; "white": the papers
    steps: int = 500  # of training
    channels: int = 32  # of the U-Net at full resolution
    patches: int = 8  # per step
    patch: int = 64  # edge of a patch, voxels
    images_at_once: int = 8  # slices of one pass
    stop: str = "held-out"  # when held-out voxels get no better; "never": after all steps

    name: ClassVar[str] = "sure"
    paper: ClassVar[str] = "Stein 1981; Metzler et al. 2018, arXiv:1805.10531"
    needs: ClassVar[str] = "one image or more; each volume is restored by itself"
    units: ClassVar[str] = "sigma"
    summary: ClassVar[str] = "one image, by an unbiased estimate of the error (SURE)"
    learns_many: ClassVar[bool] = True  # one network may learn from many scans
    takes_one_image: ClassVar[bool] = True
    takes_contrasts: ClassVar[bool] = True
    after_learning: ClassVar[tuple[str, ...]] = ("images_at_once",)
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "fast":    {"steps": 250},
        "default": {},
        "paper":   {"noise": "white", "patches": 128, "patch": 40, "steps": 10_000,
                    "stop": "never"},
    }  # fmt: skip

    @property
    def assumes_white(self) -> bool:
        """Whether the noise is taken to be white, whatever it is."""
        return self.noise == "white"

    def __post_init__(self) -> None:
        check_settings(self, {"noise": ADDED, "stop": STOPS})

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """The network f, from all volumes of all scans."""
        images = Images.of_all(scans)
        roots = filters(noises, self)
        return learn(
            self.network(images[0].n_beside, run),
            images,
            lambda f, b, rng: self.loss(f, b, images[b.scan], roots[b.scan], rng),
            self,
            run,
        )

    def loss(
        self, net: Network, batch: Batch, images: Images, root: Tensor, rng: torch.Generator
    ) -> Tensor:
        """‖f(y) − y‖² / M − 1 + 2 tr(J Σ) / M in the mask."""
        y = batch.y[:, :1]
        b = draw_like(y, root, rng)
        f_y, kept = kept_noise(lambda y: self.estimate(net, y, batch, images), y, b)
        return batch.mean(stein_risk(f_y, y, kept))

    def estimate(self, net: Network, y: Tensor, batch: Batch, images: Images) -> Tensor:
        """f(y), (B, 1, H, W)."""
        return images.estimate(net, y, batch.y, torch.ones(len(y)), batch.group)

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """One pass of every slice of every volume."""
        im = Images.of(scan)
        net = self.network(im.n_beside, run)
        load_weights(net, state, "network.").to(run.device)
        return restored(lambda b: self.estimate(net, b.y[:, :1], b, im), im, self, run)

    def network(self, n_beside: int, run: Run) -> UNet:
        """The U-Net F, untrained."""
        return network("lean", self.channels, 1 + n_beside, 2, 2, run, "network")
