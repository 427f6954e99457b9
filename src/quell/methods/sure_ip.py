"""SURE + IP: a network trained by SURE, and its result climbed further up an implicit prior.

Papers  SURE: Stein 1981; Metzler et al. 2018, arXiv:1805.10531. The prior: Kadkhodaie, Simoncelli,
        NeurIPS 2021, arXiv:2007.13640. The two together are a comparison that was used for
        denoising of diffusion MRI by learned methods.
Idea    What the first network leaves of the noise, or blurs, is unlikely in images: a blind
        denoiser takes a few more steps from its result towards likely ones.
Here    Both networks learn from the scan alone, one after the other. Each volume is an image.
Differs How the two were joined was not described. Here the ascent of `implicit_prior` starts at
        the result of `sure`. That has the least error a network can reach already, and the ascent
        knows nothing of the scan any more: expect smoother images and not a smaller error.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..consistency import keep_means
from ..divergence import kept_noise, stein_risk
from ..images import Images, filters, learn
from ..implicit import Ascent, climb, learn_prior
from ..noise import NoiseModel, draw_like
from ..predictor import network
from ..run import Run, State
from ..series import Series
from ..slices import Batch, map_images
from ..trainer import Network, load_weights
from ..unet import UNet


@dataclass(frozen=True)
class SureIp(Ascent):
    """SURE + IP; its fields are its settings."""

    name: ClassVar[str] = "sure_ip"
    paper: ClassVar[str] = "Metzler et al. 2018, arXiv:1805.10531; Kadkhodaie & Simoncelli 2021"
    summary: ClassVar[str] = "SURE, and its result climbed up an implicit prior (SURE + IP)"

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """Both networks, from all volumes of all scans."""
        images = Images.of_all(scans)
        roots = filters(noises, self)
        first = learn(
            self.network(run),
            images,
            lambda f, b, rng: self.loss(f, b, images[b.scan], roots[b.scan], rng),
            self,
            run,
            is_all=False,
        )
        return learn_prior(self, images, noises, run, first)

    def loss(
        self, net: Network, batch: Batch, images: Images, root: Tensor, rng: torch.Generator
    ) -> Tensor:
        """‖f(y) − y‖² / M − 1 + 2 tr(J Σ) / M in the mask."""
        b = draw_like(batch.y, root, rng)
        f_y, kept = kept_noise(lambda y: self.estimate(net, y, batch, images), batch.y, b)
        return batch.mean(stein_risk(f_y, batch.y, kept))

    def estimate(self, net: Network, y: Tensor, batch: Batch, images: Images) -> Tensor:
        """f(y), (B, 1, H, W)."""
        return images.estimate(net, y, batch.y, torch.ones(len(y)), batch.group)

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """One pass of the first network, then the ascent, of every slice of every volume."""
        im = Images.of(scan)
        net = load_weights(self.network(run), state, "network.").to(run.device)
        first = map_images(
            lambda b: self.estimate(net, b.y, b, im),
            im.data, im.where, im.groups, run, self.images_at_once,
        )  # fmt: skip
        return keep_means(climb(self, first, im, noise, state, run), scan.data, im.where)

    def network(self, run: Run) -> UNet:
        """The first network, untrained."""
        return network("lean", self.channels, 1, 2, 2, run, "network")
