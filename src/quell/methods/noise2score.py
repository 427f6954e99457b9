"""Noise2Score: the score of the noisy image is learned, and Tweedie's formula does the rest.

Paper   Kim, Ye, "Noise2Score: Tweedie's approach to self-supervised image denoising without clean
        images", NeurIPS 2021, arXiv:2106.07009; the loss is that of Lim et al. 2020 (`score`).
Idea    For Gaussian noise of covariance Σ the best estimate is
            x̂ = y + Σ ∇log p(y)   (Tweedie),
        and the score ∇log p(y) of noisy images needs noisy images only: R that brings
        ‖u + σ_a R(y + σ_a u)‖² down, with u from N(0, I) and σ_a small.
Here    sigma = 1 after `scaling`. Every volume is an image of its own. u has the scan's own
        correlation, so that R is Σ ∇log p at once. With white u ("filtered") Σ is laid over R
        afterwards: the same in the limit, but where the noise has no power, R has to be huge.
Differs σ_a is drawn from N(0, δ²), the network is told it and used at 0, as in AR-DAE proper. The
        paper, and its program, lower σ_a from 0.1 to 0.001 of the range of the images: "annealed".
        By then the loss is all noise. With R as parameterised here the loss is Corruption2Self's
        with weight 1 / τ², τ = σ_a, so what is left to compare are the levels. Preset "paper":
        annealed, white, its batches of 8; the length of training is quell's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..images import STOPS, Images, learn, restored
from ..noise import NoiseModel, covary, draw_like
from ..predictor import network
from ..run import Run, State
from ..score import Score, levels, score_loss, score_of
from ..series import Series
from ..settings import check_settings
from ..slices import Batch
from ..trainer import Network, load_weights
from ..unet import UNet

NOISE = ("measured", "filtered", "white")
LEVELS = ("random", "annealed")


@dataclass(frozen=True)
class Noise2Score:
    """Noise2Score; its fields are its settings."""

    noise: str = "measured"  # that of u; "filtered": u white, R filtered; "white": the paper
    sigma_a: str = "random"  # how levels are drawn; "annealed": the paper
    delta: float = 1.0  # of "random": standard deviation, in units of the scan's noise
    first: float = 0.1  # of "annealed": shares of a volume's range
    last: float = 0.001
    steps: int = 500  # of training
    channels: int = 32  # of the U-Net at full resolution
    patches: int = 8  # per step
    patch: int = 64  # edge of a patch, voxels
    images_at_once: int = 8  # slices of one pass
    stop: str = "held-out"  # when held-out voxels get no better; "never": after all steps

    name: ClassVar[str] = "noise2score"
    paper: ClassVar[str] = "Kim & Ye 2021, arXiv:2106.07009"
    needs: ClassVar[str] = "one image or more; each volume is restored by itself"
    units: ClassVar[str] = "sigma"
    summary: ClassVar[str] = "one image, by the learned score of itself (Noise2Score)"
    learns_many: ClassVar[bool] = True  # one network may learn from many scans
    takes_one_image: ClassVar[bool] = True
    takes_contrasts: ClassVar[bool] = True
    after_learning: ClassVar[tuple[str, ...]] = ("images_at_once",)
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "fast":    {"steps": 250},
        "default": {},
        "paper":   {"noise": "white", "sigma_a": "annealed", "steps": 10_000, "stop": "never"},
    }  # fmt: skip

    @property
    def assumes_white(self) -> bool:
        """Whether the noise is taken to be white, whatever it is."""
        return self.noise == "white"

    def __post_init__(self) -> None:
        check_settings(self, {"noise": NOISE, "sigma_a": LEVELS, "stop": STOPS})

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """The network, from all volumes of all scans."""
        images = Images.of_all(scans)
        roots = [self.of_u(noise, (self.patch, self.patch)) for noise in noises]
        ranges = [im.ranges for im in images]
        return learn(
            self.network(images[0].n_beside, run),
            images,
            lambda R, b, rng: self.loss(R, b, images[b.scan], roots[b.scan], rng, ranges[b.scan]),
            self,
            run,
        )

    def loss(
        self, net: Network, batch: Batch, images: Images, root: Tensor, rng: torch.Generator,
        ranges: Tensor,
    ) -> Tensor:  # fmt: skip
        """‖u + σ_a R(y + σ_a u)‖² in the mask."""
        y = batch.y[:, :1]
        if self.sigma_a == "random":
            sigma_a = levels(len(y), self.delta, rng)
        else:  # linear from first to last
            share = self.first + (self.last - self.first) * batch.progress
            sigma_a = share * ranges[batch.group]
        u = draw_like(y, root, rng)
        return batch.mean(score_loss(self.R(net, batch, images), y, u, sigma_a))

    def R(self, net: Network, batch: Batch, images: Images) -> Score:  # noqa: N802
        """The score network; annealed, it is not told the level."""
        R = score_of(net, batch, images)
        return R if self.sigma_a == "random" else lambda z, sigma_a: R(z, 0 * sigma_a)

    def of_u(self, noise: NoiseModel, shape: tuple[int, int]) -> Tensor:
        """The filter that u is drawn with."""
        like_u = noise if self.noise == "measured" else noise.as_white()
        return like_u.in_plane_filter(shape)

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """y + Σ ∇log p(y) of every slice of every volume."""
        im = Images.of(scan)
        net = self.network(im.n_beside, run)
        load_weights(net, state, "network.").to(run.device)
        root = noise.in_plane_filter(scan.data.shape[:2])
        tweedie: Callable[[Tensor], Tensor] = (
            (lambda score: covary(score, root)) if self.noise == "filtered" else lambda score: score
        )

        def restore(batch: Batch) -> Tensor:
            y = batch.y[:, :1]
            return y + tweedie(self.R(net, batch, im)(y, torch.zeros(len(y))))

        return restored(restore, im, self, run)

    def network(self, n_beside: int, run: Run) -> UNet:
        """The U-Net F, untrained."""
        return network("lean", self.channels, 1 + n_beside, 2, 2, run, "network")
