"""Noise2Void: every pixel is learned from those around it, hidden from the network itself.

Paper   Krull, Buchholz, Jug, "Noise2Void", CVPR 2019, arXiv:1811.10980.
Idea    Noise that is independent from pixel to pixel can't be predicted from the neighbours,
        signal can. A few pixels of a patch are hidden, each behind the value of a pixel near it,
        and the network says what they were: E[x_i | the others] is the signal. To denoise, it is
        given the image as it is.
Here    Every volume is an image of its own; nothing need be known of the noise but that it is
        white. Hidden pixels lie one in every box of `spacing` by `spacing` voxels, anywhere in it.
Differs More pixels are hidden than published (one in 22 x 22, 0.2 %): the loss counts only there,
        and a scan is short of pixels. The value that hides a pixel is never itself hidden, so
        that no pixel is seen through another one. Network and training are those of quell's
        Corruption2Self, so that the two can be compared; the length of training is quell's.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..consistency import keep_means
from ..images import Images, draw_from
from ..noise import NoiseModel
from ..predictor import network
from ..run import Run, State
from ..schedule import like
from ..series import InputError, Series
from ..settings import check_settings
from ..slices import Batch, map_images
from ..trainer import Network, Training, load_weights, train
from ..unet import UNet


@dataclass(frozen=True)
class Noise2Void:
    """Noise2Void; its fields are its settings."""

    spacing: int = 4  # one pixel is hidden in every box of so many voxels squared
    radius: int = 5  # voxels; how far off the pixel may be whose value hides another
    steps: int = 500  # of training
    channels: int = 32  # of the U-Net at full resolution
    patches: int = 8  # per step
    patch: int = 64  # edge of a patch, voxels
    images_at_once: int = 8  # slices of one pass

    name: ClassVar[str] = "noise2void"
    paper: ClassVar[str] = "Krull et al. 2019, arXiv:1811.10980"
    needs: ClassVar[str] = "one image or more, of white noise: correlated noise is kept as signal"
    units: ClassVar[str] = "sigma"
    summary: ClassVar[str] = "one image, every pixel learned from its neighbours (blind spot)"
    learns_many: ClassVar[bool] = True  # one network may learn from many scans
    takes_one_image: ClassVar[bool] = True
    takes_contrasts: ClassVar[bool] = True
    after_learning: ClassVar[tuple[str, ...]] = ("images_at_once",)
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "fast":    {"steps": 250},
        "default": {},
        "paper":   {"spacing": 22, "patches": 128, "steps": 10_000},
    }  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self, {})
        if self.spacing < 2:
            raise InputError(f"spacing={self.spacing} hides every pixel; give 2 or more", 2)

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """The network h, from all volumes of all scans."""
        images = Images.of_all(scans)
        weights = train(
            self.network(images[0].n_beside, run),
            lambda rng: draw_from(images, self.patches, self.patch, rng),
            lambda h, b, rng: self.loss(h, b, images[b.scan], rng),
            Training(self.steps, parts=run.parts),
            run,
        )
        return {f"network.{name}": value for name, value in weights.items()}

    def loss(self, net: Network, batch: Batch, images: Images, rng: torch.Generator) -> Tensor:
        """Mean of (h_i − x_i)² over hidden pixels i in the mask."""
        y, hidden = self.hide(batch.y, rng)
        h = self.estimate(net, y, batch.group, images)
        there = replace(batch, mask=batch.mask * hidden)
        return there.mean((h - batch.y[:, :1]) ** 2)

    def hide(self, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images whose first channel has hidden pixels (B, C, H, W), and which they are (B, H, W).

        A pixel is hidden by one that is not hidden, at most `radius` away along each axis.
        """
        (B, _, H, W), b, r = y.shape, self.spacing, self.radius
        corner = torch.meshgrid(torch.arange(0, H, b), torch.arange(0, W, b), indexing="ij")
        i, j = (c + torch.randint(b, (B, *c.shape), generator=rng) for c in corner)
        n = torch.arange(B)[:, None, None].expand_as(i)
        inside = (i < H) & (j < W)  # boxes may reach over the edge
        n, i, j = n[inside], i[inside], j[inside]
        hidden = torch.zeros((B, H, W), dtype=torch.bool)
        hidden[n, i, j] = True
        di, dj = torch.cartesian_prod(torch.arange(-r, r + 1), torch.arange(-r, r + 1)).T
        near_i, near_j = i[:, None] + di, j[:, None] + dj  # (pixels, window)
        inside = (near_i >= 0) & (near_i < H) & (near_j >= 0) & (near_j < W)
        near_i, near_j = near_i.clamp(0, H - 1), near_j.clamp(0, W - 1)
        may = inside & ~hidden[n[:, None], near_i, near_j]
        lot = (torch.rand(may.shape, generator=rng) * may).argmax(dim=1, keepdim=True)
        by_i, by_j = near_i.gather(1, lot)[:, 0], near_j.gather(1, lot)[:, 0]
        y = y.clone()
        y[n, 0, i, j] = y[n, 0, by_i, by_j]
        return y, hidden.to(y.device)

    def estimate(self, net: Network, y: Tensor, group: Tensor, images: Images) -> Tensor:
        """h, (B, 1, H, W); untrained it is the volume's mean."""
        mean, sd = (like(table[group, 0], y) for table in (images.mean, images.sd))
        return mean + sd * net(images.standardised(y, group))

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """One pass of every slice of every volume, nothing hidden."""
        im = Images.of(scan)
        net = self.network(im.n_beside, run)
        load_weights(net, state, "network.").to(run.device)
        restored = map_images(
            lambda b: self.estimate(net, b.y, b.group, im),
            im.data, im.where, im.groups, run, self.images_at_once,
        )  # fmt: skip
        return keep_means(restored, scan.data, im.where)

    def network(self, n_beside: int, run: Run) -> UNet:
        """The U-Net, untrained."""
        return network("lean", self.channels, 1 + n_beside, 0, 2, run, "network")
