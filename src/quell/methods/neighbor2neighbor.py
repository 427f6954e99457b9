"""Neighbor2Neighbor: pixels side by side make two noisy images of almost the same thing.

Paper   Huang, Li, Jia, Lu, Liu, "Neighbor2Neighbor: self-supervised denoising from single noisy
        images", CVPR 2021, arXiv:2101.02824.
Idea    In every cell of 2 x 2 pixels two neighbours are drawn, one for g₁(y) and one for g₂(y):
        two images of half the size whose noise is independent, so that one can be learned from
        the other (Noise2Noise). They are not quite the same image; what the denoised image itself
        differs by between the two, g₁(f(y)) − g₂(f(y)), is therefore taken out of the difference:
            ‖f(g₁(y)) − g₂(y)‖² + Γ ‖f(g₁(y)) − g₂(y) − (g₁(f(y)) − g₂(f(y)))‖²
        With f(y) = x₀ the second term is the noise of g₂(y) alone, its least value.
Here    Every volume is an image of its own. Γ grows in step with the training, as in the authors'
        program. An odd last row or column of a patch is left out of the loss. What is shown
        beside the image goes to half the size with g₁.
Differs Neighbours are drawn pair by pair in every cell, as published; network and training are
        those of quell's Corruption2Self, so that the two can be compared; the length of training
        is quell's.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..images import STOPS, Images, learn, restored
from ..noise import NoiseModel
from ..predictor import network
from ..run import Run, State
from ..schedule import like
from ..series import InputError, Series
from ..settings import check_settings
from ..slices import Batch
from ..trainer import Network, load_weights
from ..unet import UNet

# Pixels of a cell are 0 1 over 2 3. Every pair of neighbours in either order; 0 and 3 are none.
PAIRS = torch.tensor([[0, 1], [0, 2], [1, 3], [2, 3], [1, 0], [2, 0], [3, 1], [3, 2]])


def ramped(final: float, progress: float) -> float:
    """Γ grows from 0, as the f(y) in it is worth more and more."""
    return final * progress


def fixed(final: float, progress: float) -> float:
    """Γ is the same all the time."""
    return final


WEIGHTS: dict[str, Callable[[float, float], float]] = {"ramped": ramped, "fixed": fixed}


@dataclass(frozen=True)
class Neighbor2Neighbor:
    """Neighbor2Neighbor; its fields are its settings."""

    gamma: float = 2.0  # Γ, at the end of training where it is ramped
    weight: str = "ramped"  # how Γ gets there; "fixed": it is there from the start
    steps: int = 500  # of training
    channels: int = 32  # of the U-Net at full resolution
    patches: int = 8  # per step
    patch: int = 64  # edge of a patch, voxels
    images_at_once: int = 8  # slices of one pass
    stop: str = "held-out"  # when held-out voxels get no better; "never": after all steps

    name: ClassVar[str] = "neighbor2neighbor"
    paper: ClassVar[str] = "Huang et al. 2021, arXiv:2101.02824"
    needs: ClassVar[str] = (
        "one image or more, of white noise and not interpolated: correlated noise is kept as signal"
    )
    units: ClassVar[str] = "sigma"
    assumes_white: ClassVar[bool] = True
    summary: ClassVar[str] = "one image, two of half the size made of pixels side by side"
    learns_many: ClassVar[bool] = True  # one network may learn from many scans
    takes_one_image: ClassVar[bool] = True
    takes_contrasts: ClassVar[bool] = True
    after_learning: ClassVar[tuple[str, ...]] = ("images_at_once",)
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "fast":    {"steps": 250},
        "default": {},
        "paper":   {"channels": 48, "patches": 4, "patch": 256, "steps": 10_000, "stop": "never"},
    }  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self, {"weight": WEIGHTS, "stop": STOPS}, may_be_zero=("gamma",))
        if self.patch < 2:
            raise InputError(f"patch={self.patch} holds no two pixels; give 2 or more", 2)

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """The network f, from all volumes of all scans."""
        images = Images.of_all(scans)
        if min(size for im in images for size in im.data.shape[:2]) < 2:
            raise InputError("a slice one voxel wide has no cells of 2 x 2 pixels")
        return learn(
            self.network(images[0].n_beside, run),
            images,
            lambda f, b, rng: self.loss(f, b, images[b.scan], rng),
            self,
            run,
        )

    def loss(self, net: Network, batch: Batch, images: Images, rng: torch.Generator) -> Tensor:
        """‖f(g₁(y)) − g₂(y)‖² + Γ ‖f(g₁(y)) − g₂(y) − (g₁(f(y)) − g₂(f(y)))‖²."""
        pairs = self.pairs(batch.y, rng)
        (g1_y, g2_y), (m1, m2) = halves(batch.y, pairs), halves(batch.mask[:, None], pairs)
        difference = self.estimate(net, g1_y, batch.group, images) - g2_y[:, :1]
        with torch.no_grad():
            f_y = self.estimate(net, batch.y, batch.group, images)
        g1_f, g2_f = halves(f_y, pairs)
        gamma = WEIGHTS[self.weight](self.gamma, batch.progress)
        there = replace(batch, mask=(m1 * m2)[:, 0])  # both pixels count
        return there.mean(difference**2 + gamma * (difference - (g1_f - g2_f)) ** 2)

    def pairs(self, y: Tensor, rng: torch.Generator) -> Tensor:
        """Which two neighbours each cell gives, (B, H/2, W/2, 2) int."""
        B, _, H, W = y.shape
        return PAIRS[torch.randint(len(PAIRS), (B, H // 2, W // 2), generator=rng)].to(y.device)

    def estimate(self, net: Network, y: Tensor, group: Tensor, images: Images) -> Tensor:
        """f, (B, 1, H, W); untrained it is the volume's mean."""
        mean, sd = (like(table[group, 0], y) for table in (images.mean, images.sd))
        return mean + sd * net(images.standardised(y, group))

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """One pass of every slice of every volume, at its full size."""
        im = Images.of(scan)
        net = load_weights(self.network(im.n_beside, run), state, "network.").to(run.device)
        return restored(lambda b: self.estimate(net, b.y, b.group, im), im, self, run)

    def network(self, n_beside: int, run: Run) -> UNet:
        """The U-Net, untrained."""
        return network("lean", self.channels, 1 + n_beside, 0, 2, run, "network")


def halves(y: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """g₁(y) and g₂(y), (B, C, H/2, W/2) each.

    y      (B, C, H, W)  an odd last row or column is left out
    pairs  (B, H/2, W/2, 2) int  pixels of each cell, counted as in PAIRS
    """
    (B, C, *_), (h, w) = y.shape, pairs.shape[1:3]
    cells = y[:, :, : 2 * h, : 2 * w].reshape(B, C, h, 2, w, 2).transpose(3, 4).flatten(4)
    first, second = (pairs[:, None, ..., [k]].expand(B, C, h, w, 1) for k in (0, 1))
    return cells.gather(4, first)[..., 0], cells.gather(4, second)[..., 0]
