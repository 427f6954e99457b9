"""Noise2Score + IP: a learned score and Tweedie's formula, then further up an implicit prior.

Papers  Noise2Score: Kim, Ye, NeurIPS 2021, arXiv:2106.07009. The prior: Kadkhodaie, Simoncelli,
        NeurIPS 2021, arXiv:2007.13640. The two together are a comparison that was used for
        denoising of diffusion MRI by learned methods.
Idea    What the first network leaves of the noise, or blurs, is unlikely in images: a blind
        denoiser takes a few more steps from its result towards likely ones.
Here    Both networks learn from the scan alone, one after the other. Each volume is an image.
Differs How the two were joined was not described. Here the ascent of `implicit_prior` starts at
        the result of `noise2score`. That comes near the least error there is, and the ascent knows
        nothing of the scan any more: expect smoother images and not a smaller error. Levels of
        σ_a are drawn as there by default; nothing is annealed.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..consistency import keep_means
from ..images import Images, filters, learn
from ..implicit import Ascent, climb, learn_prior
from ..noise import NoiseModel, draw_like
from ..predictor import network
from ..run import Run, State
from ..score import levels, score_loss, score_of
from ..series import Series
from ..slices import Batch, map_images
from ..trainer import Network, load_weights
from ..unet import UNet


@dataclass(frozen=True)
class Noise2ScoreIp(Ascent):
    """Noise2Score + IP; its fields are its settings."""

    delta: float = 1.0  # of the first network, as in `noise2score`

    name: ClassVar[str] = "noise2score_ip"
    paper: ClassVar[str] = "Kim & Ye 2021, arXiv:2106.07009; Kadkhodaie & Simoncelli 2021"
    summary: ClassVar[str] = "Noise2Score, and its result climbed up an implicit prior"

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """Both networks, from all volumes of all scans."""
        images = Images.of_all(scans)
        roots = filters(noises, self)
        first = learn(
            self.network(run),
            images,
            lambda R, b, rng: self.loss(R, b, images[b.scan], roots[b.scan], rng),
            self,
            run,
            is_all=False,
        )
        return learn_prior(self, images, noises, run, first)

    def loss(
        self, net: Network, batch: Batch, images: Images, root: Tensor, rng: torch.Generator
    ) -> Tensor:
        """‖u + σ_a R(y + σ_a u)‖² in the mask."""
        sigma_a = levels(len(batch.y), self.delta, rng)
        u = draw_like(batch.y, root, rng)
        return batch.mean(score_loss(score_of(net, batch, images), batch.y, u, sigma_a))

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """y + Σ ∇log p(y), then the ascent, of every slice of every volume."""
        im = Images.of(scan)
        net = load_weights(self.network(run), state, "network.").to(run.device)
        first = map_images(
            lambda b: b.y + score_of(net, b, im)(b.y, torch.zeros(len(b.y))),
            im.data, im.where, im.groups, run, self.images_at_once,
        )  # fmt: skip
        return keep_means(climb(self, first, im, noise, state, run), scan.data, im.where)

    def network(self, run: Run) -> UNet:
        """The first network, untrained."""
        return network("lean", self.channels, 1, 2, 2, run, "network")
