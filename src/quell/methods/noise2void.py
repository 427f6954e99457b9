"""Noise2Void: every pixel is learned from those around it, hidden from the network itself.

Paper   Krull, Buchholz, Jug, "Noise2Void", CVPR 2019, arXiv:1811.10980. Preset "n2v2": Hoeck,
        Buchholz, Brachmann, Jug, Freytag, "N2V2", ECCV workshops 2022, arXiv:2211.08512. Preset
        "struct": Broaddus, Krull, Weigert, Schmidt, Myers, "Removing structured noise with
        self-supervised blind-spot networks", ISBI 2020.
Idea    Noise that is independent from pixel to pixel can't be predicted from the neighbours,
        signal can. A few pixels of a patch are hidden, each behind the value of a pixel near it,
        and the network says what they were: E[x_i | the others] is the signal. To denoise, it is
        given the image as it is. N2V2: a pixel hides behind the median of those near it, and the
        network blurs before it halves and has no skip at full resolution, so that hidden pixels
        leave no checkerboard. structN2V: the neighbours whose noise correlates with a pixel's are
        hidden with it, so that its noise can't be predicted from theirs; the loss counts at the
        pixel alone.
Here    Every volume is an image of its own; nothing need be known of the noise but that it is
        white. Hidden pixels lie one in every box of `spacing` by `spacing` voxels, anywhere in it.
Differs More pixels are hidden than published (one in 22 x 22, 0.2 %): the loss counts only there,
        and a scan is short of pixels. The value that hides a pixel is never itself hidden, so
        that no pixel is seen through another one. The neighbours that structN2V hides are hidden
        like the pixel itself, where the paper has random numbers. Network and training are those
        of quell's Corruption2Self, so that the two can be compared; "n2v2" keeps that network's
        blocks, and the length of training is quell's.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..images import STOPS, Images, learn, restored
from ..noise import NoiseModel
from ..predictor import LEAN, network
from ..run import Run, State
from ..schedule import like
from ..series import InputError, Series
from ..settings import check_settings
from ..slices import Batch
from ..trainer import Network, load_weights
from ..unet import UNet


def any_one(values: Tensor, may: Tensor, rng: torch.Generator) -> Tensor:
    """One value of each row, at random among those that may.

    values  (pixels, window)
    may     (pixels, window) bool
    """
    lot = torch.rand(may.shape, generator=rng).to(may.device) * may
    return values.gather(1, lot.argmax(dim=1, keepdim=True))[:, 0]


def median(values: Tensor, may: Tensor, rng: torch.Generator) -> Tensor:
    """The median of those that may, the mean of the middle two where their number is even."""
    ranked, n = values.masked_fill(~may, torch.inf).sort(dim=1).values, may.sum(dim=1, keepdim=True)
    return (ranked.gather(1, (n - 1) // 2) + ranked.gather(1, n // 2))[:, 0] / 2


def mean(values: Tensor, may: Tensor, rng: torch.Generator) -> Tensor:
    """The mean of those that may."""
    return values.masked_fill(~may, torch.nan).nanmean(dim=1)


HIDES: dict[str, Callable[[Tensor, Tensor, torch.Generator], Tensor]] = {
    "random": any_one, "median": median, "mean": mean,
}  # fmt: skip


@dataclass(frozen=True)
class Noise2Void:
    """Noise2Void; its fields are its settings."""

    spacing: int = 4  # one pixel is hidden in every box of so many voxels squared
    radius: int = 5  # voxels; how far off the pixels may be whose value hides another
    hides: str = "random"  # which of their values: any one's, or the "median" or "mean" of all
    mask_x: int = 0  # voxels to each side along x that are hidden with a pixel; 0: none
    mask_y: int = 0  # the same along y; with both, all of a rectangle
    network: str = "lean"  # "n2v2": blurs before it pools, no skip at full resolution
    steps: int = 500  # of training
    channels: int = 32  # of the U-Net at full resolution
    patches: int = 8  # per step
    patch: int = 64  # edge of a patch, voxels
    images_at_once: int = 8  # slices of one pass
    stop: str = "held-out"  # when held-out voxels get no better; "never": after all steps

    name: ClassVar[str] = "noise2void"
    paper: ClassVar[str] = "Krull et al. 2019, arXiv:1811.10980"
    needs: ClassVar[str] = (
        "one image or more, of white noise: correlated noise is kept as signal, unless mask_x and "
        "mask_y reach as far as it correlates"
    )
    units: ClassVar[str] = "sigma"
    summary: ClassVar[str] = "one image, every pixel learned from its neighbours (blind spot)"
    learns_many: ClassVar[bool] = True  # one network may learn from many scans
    takes_one_image: ClassVar[bool] = True
    takes_contrasts: ClassVar[bool] = True
    after_learning: ClassVar[tuple[str, ...]] = ("images_at_once",)
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "fast":    {"steps": 250},
        "default": {},
        "paper":   {"spacing": 22, "patches": 128, "steps": 10_000, "stop": "never"},
        "n2v2":    {"hides": "median", "network": "n2v2"},
        "struct":  {"spacing": 8, "mask_x": 1, "mask_y": 1, "steps": 1000},
    }  # fmt: skip

    @property
    def assumes_white(self) -> bool:
        """Whether nothing is hidden along x or along y: correlation along it is not allowed for."""
        return self.mask_x == 0 or self.mask_y == 0

    def __post_init__(self) -> None:
        check_settings(
            self, {"hides": HIDES, "network": LEAN, "stop": STOPS}, may_be_zero=("mask_x", "mask_y")
        )
        if self.spacing < 2:
            raise InputError(f"spacing={self.spacing} hides every pixel; give 2 or more", 2)
        area = (2 * self.mask_x + 1) * (2 * self.mask_y + 1)
        if area > 1 and 2 * area > self.spacing**2:
            raise InputError(
                f"a mask of {area} pixels in every box of {self.spacing}² hides more than half of "
                "the image; give a larger spacing, or a smaller mask_x or mask_y",
                2,
            )
        if self.radius <= max(self.mask_x, self.mask_y):
            raise InputError(
                f"radius={self.radius} does not reach out of the mask; give a larger one", 2
            )

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """The network h, from all volumes of all scans."""
        images = Images.of_all(scans)
        return learn(
            self.untrained(images[0].n_beside, run),
            images,
            lambda h, b, rng: self.loss(h, b, images[b.scan], rng),
            self,
            run,
        )

    def loss(self, net: Network, batch: Batch, images: Images, rng: torch.Generator) -> Tensor:
        """Mean of (h_i − x_i)² over hidden pixels i in the mask."""
        y, hidden = self.hide(batch.y, rng)
        h = self.estimate(net, y, batch.group, images)
        there = replace(batch, mask=batch.mask * hidden)
        return there.mean((h - batch.y[:, :1]) ** 2)

    def hide(self, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images whose first channel has hidden pixels (B, C, H, W), and where the loss counts.

        The latter (B, H, W) are the pixels of the boxes; those of the mask around each are hidden,
        too. A pixel is hidden by ones that are not, at most `radius` away along each axis.
        """
        (B, _, H, W), b, r = y.shape, self.spacing, self.radius
        corner = torch.meshgrid(torch.arange(0, H, b), torch.arange(0, W, b), indexing="ij")
        i, j = (c + torch.randint(b, (B, *c.shape), generator=rng) for c in corner)
        n = torch.arange(B)[:, None, None].expand_as(i)
        inside = (i < H) & (j < W)  # boxes may reach over the edge
        n, i, j = n[inside], i[inside], j[inside]
        centres = torch.zeros((B, H, W), dtype=torch.bool)
        centres[n, i, j] = True
        sides = self.mask_x, self.mask_y
        reach = tuple(2 * side + 1 for side in sides)
        hidden = nn.functional.max_pool2d(centres.float(), reach, stride=1, padding=sides) > 0
        around = (hidden & ~centres).nonzero(as_tuple=True)
        n, i, j = (torch.cat(pair) for pair in zip((n, i, j), around, strict=True))
        di, dj = torch.cartesian_prod(torch.arange(-r, r + 1), torch.arange(-r, r + 1)).T
        near_i, near_j = i[:, None] + di, j[:, None] + dj  # (pixels, window)
        inside = (near_i >= 0) & (near_i < H) & (near_j >= 0) & (near_j < W)
        near_i, near_j = near_i.clamp(0, H - 1), near_j.clamp(0, W - 1)
        may = inside & ~hidden[n[:, None], near_i, near_j]
        may |= ~may.any(dim=1, keepdim=True)  # no other pixel near: a patch of a few voxels
        y, values = y.clone(), y[n[:, None], 0, near_i, near_j]
        y[n, 0, i, j] = HIDES[self.hides](values, may.to(y.device), rng)
        return y, centres.to(y.device)

    def estimate(self, net: Network, y: Tensor, group: Tensor, images: Images) -> Tensor:
        """h, (B, 1, H, W); untrained it is the volume's mean."""
        mean, sd = (like(table[group, 0], y) for table in (images.mean, images.sd))
        return mean + sd * net(images.standardised(y, group))

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """One pass of every slice of every volume, nothing hidden."""
        im = Images.of(scan)
        net = self.untrained(im.n_beside, run)
        load_weights(net, state, "network.").to(run.device)
        return restored(lambda b: self.estimate(net, b.y, b.group, im), im, self, run)

    def untrained(self, n_beside: int, run: Run) -> UNet:
        """The U-Net."""
        return network(self.network, self.channels, 1 + n_beside, 0, 2, run, "network")
