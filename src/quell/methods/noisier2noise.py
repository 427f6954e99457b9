"""Noisier2Noise: noise is added to a noisy image, and half of what is then removed is the scan's.

Paper   Moran, Schmidt, Zhong, Coady, "Noisier2Noise: learning to denoise from unpaired noisy
        data", CVPR 2020, arXiv:1910.11908.
Idea    z = y + α n′ with n′ like the scan's own noise n. As n and n′ are alike,
            E[n′ | z] = α E[n | z],   so   E[x | z] = ((1 + α²) E[y | z] - z) / α²,
        and E[y | z] can be learned: predict the noisy image from the noisier one.
Here    sigma = 1 after `scaling`. Every volume is an image of its own. n′ has the scan's own
        correlation. The result is the mean over some draws of n′. What error the network makes of
        E[y | z], the correction enlarges by (1 + α²) / α².
Differs The network and its training are those of quell's Recorrupted2Recorrupted, whose loss is
        this one times a constant, so that the two can be compared; it starts as a pixelwise Wiener
        filter. Preset "paper": α = 1, white noise, one draw; the length of training is quell's.
        Preset "released" is what the program of Di-Fusion has under this name: a network that is
        not told the level learns y from noise of any level up to a quarter of the volume's range,
        and is given y itself. Nothing is corrected, so nothing makes it take off the scan's noise.

Symbols, in units of the scan's noise (sigma = 1):
    y, z     the image, y + α n′;  s_t² = 1 + α²
    f        the network's E[y | z], `Images.estimate` of an image with noise 1 left
"""

from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..images import STOPS, Images, filters, learn, restored
from ..noise import ADDED, NoiseModel, draw_like
from ..predictor import network
from ..run import Run, State
from ..schedule import like
from ..series import Series
from ..settings import check_settings
from ..slices import Batch
from ..trainer import Network, load_weights
from ..unet import UNet

VARIANTS = ("corrected", "released")
MOST_RELEASED = 0.25  # of a volume's range: 0.5 where that is from -1 to 1


@dataclass(frozen=True)
class Noisier2Noise:
    """Noisier2Noise; its fields are its settings."""

    alpha: float = 0.5  # added noise, in units of the scan's
    recorruptions: int = 8  # passes with fresh noise that are averaged
    noise: str = "measured"  # what the added noise is like; "white": the paper's experiments
    variant: str = "corrected"  # "released": any level, blind, without the correction
    steps: int = 500  # of training
    channels: int = 32  # of the U-Net at full resolution
    patches: int = 8  # per step
    patch: int = 64  # edge of a patch, voxels
    images_at_once: int = 8  # slices of one pass
    stop: str = "held-out"  # when held-out voxels get no better; "never": after all steps

    name: ClassVar[str] = "noisier2noise"
    paper: ClassVar[str] = "Moran et al. 2020, arXiv:1910.11908"
    needs: ClassVar[str] = "one image or more; each volume is restored by itself"
    units: ClassVar[str] = "sigma"
    summary: ClassVar[str] = "one image, predicted from itself with more noise (Noisier2Noise)"
    learns_many: ClassVar[bool] = True  # one network may learn from many scans
    takes_one_image: ClassVar[bool] = True
    takes_contrasts: ClassVar[bool] = True
    after_learning: ClassVar[tuple[str, ...]] = ("recorruptions", "images_at_once")
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "fast":     {"steps": 250},
        "default":  {},
        "paper":    {"alpha": 1.0, "noise": "white", "recorruptions": 1, "steps": 10_000,
                     "stop": "never"},
        "released": {"variant": "released", "noise": "white", "steps": 10_000, "stop": "never"},
    }  # fmt: skip

    @property
    def assumes_white(self) -> bool:
        """Whether the noise that is added is white, whatever the scan's."""
        return self.noise == "white"

    def __post_init__(self) -> None:
        check_settings(self, {"noise": ADDED, "variant": VARIANTS, "stop": STOPS})

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """The network f, from all volumes of all scans."""
        images = Images.of_all(scans)
        roots = filters(noises, self)
        ranges = [im.ranges for im in images]
        loss = {"corrected": self.loss, "released": self.loss_as_released}[self.variant]
        return learn(
            self.network(images[0].n_beside, run),
            images,
            lambda f, b, rng: loss(f, b, images[b.scan], roots[b.scan], rng, ranges[b.scan]),
            self,
            run,
        )

    def loss(
        self, net: Network, batch: Batch, images: Images, root: Tensor, rng: torch.Generator,
        ranges: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """‖f(z) − y‖² in the mask."""
        y = batch.y[:, :1]
        z = y + self.alpha * draw_like(y, root, rng)
        return batch.mean((self.expected(net, z, batch, images) - y) ** 2)

    def expected(self, net: Network, z: Tensor, batch: Batch, images: Images) -> Tensor:
        """f(z), which is E[y | z], (B, 1, H, W)."""
        s_t = torch.full((len(z),), (1 + self.alpha**2) ** 0.5)
        return images.estimate(net, z, batch.y, s_t, batch.group, target=1.0)

    def corrected(self, f: Tensor, z: Tensor) -> Tensor:
        """E[x | z] of E[y | z], (B, 1, H, W)."""
        return ((1 + self.alpha**2) * f - z) / self.alpha**2

    def loss_as_released(
        self, net: Network, batch: Batch, images: Images, root: Tensor, rng: torch.Generator,
        ranges: Tensor,
    ) -> Tensor:  # fmt: skip
        """‖f(z) − y‖² in the mask, every patch with a noise level of its own."""
        y = batch.y[:, :1]
        most = MOST_RELEASED * ranges[batch.group]
        z = y + like(most * torch.rand(len(y), generator=rng), y) * draw_like(y, root, rng)
        return batch.mean((self.blind(net, z, batch, images) - y) ** 2)

    def blind(self, net: Network, z: Tensor, batch: Batch, images: Images) -> Tensor:
        """f(z) of a network that is not told the level, (B, 1, H, W); untrained it is z."""
        beside = batch.y[:, 1:]
        seen = images.standardised(torch.cat([z, beside], dim=1), batch.group)
        return z + like(images.sd[batch.group, 0], z) * net(seen)

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """The mean over draws of every slice of every volume; as released, one pass of y."""
        im = Images.of(scan)
        net = self.network(im.n_beside, run)
        load_weights(net, state, "network.").to(run.device)
        root = noise.to_add(self.noise).in_plane_filter(scan.data.shape[:2])

        def restore(batch: Batch) -> Tensor:
            fresh = islice(im.fresh_noise(batch, root, run), self.recorruptions)
            inputs = (batch.y[:, :1] + self.alpha * n for n in fresh)
            each = [self.corrected(self.expected(net, z, batch, im), z) for z in inputs]
            return torch.stack(each).mean(dim=0)

        def restore_as_released(batch: Batch) -> Tensor:
            return self.blind(net, batch.y[:, :1], batch, im)

        one = {"corrected": restore, "released": restore_as_released}[self.variant]
        return restored(one, im, self, run)

    def network(self, n_beside: int, run: Run) -> UNet:
        """The U-Net F, untrained; told the noise level and the signal's size but where released."""
        n_told = {"corrected": 2, "released": 0}[self.variant]
        return network("lean", self.channels, 1 + n_beside, n_told, 2, run, "network")
