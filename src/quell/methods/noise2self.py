"""Noise2Self: a denoiser that does not look at a pixel can be judged by that pixel.

Paper   Batson, Royer, "Noise2Self", ICML 2019, arXiv:1901.11365.
Idea    f is J-invariant if f(y) at the pixels J does not depend on y there. With noise that is
        independent between pixels and zero in the mean, then
            E ‖f(y) − y‖² = E ‖f(y) − x₀‖² + σ²,
        so the best J-invariant f can be learned, and its error known, from the noisy image alone.
Here    J are the pixels of a grid, one in every box of `stride` by `stride` voxels. They are shown
        as the mean of their neighbours, and the loss counts only there. To denoise, each of the
        stride² grids in turn is hidden, and the answers at the hidden pixels make up the image:
        no pixel has any say in its own estimate. "once" is the paper's other way, one pass of the
        image as it is: it sees all, and is J-invariant no more.
Differs A patch gets a grid at random, where the paper takes them in turn. What the paper sets to
        zero is set to the volume's mean, which is what zero stands for here. Network and training
        are those of quell's Corruption2Self, so that the two can be compared; the length of
        training is quell's.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

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

AROUND = torch.tensor([[0.5, 1.0, 0.5], [1.0, 0.0, 1.0], [0.5, 1.0, 0.5]])[None, None]


def neighbours(x: Tensor, rng: torch.Generator) -> Tensor:
    """The mean of the eight pixels around every one, those at its corners counting half."""
    kernel = AROUND.to(x)
    there = nn.functional.conv2d(torch.ones_like(x[:1]), kernel, padding=1)  # fewer at the edge
    return nn.functional.conv2d(x, kernel, padding=1) / there.clamp(min=0.5)


def zero(x: Tensor, rng: torch.Generator) -> Tensor:
    """The mean of the volume, which is 0 here."""
    return torch.zeros_like(x)


def random(x: Tensor, rng: torch.Generator) -> Tensor:
    """Numbers of the mean and the size of the volume's, without any sense."""
    return torch.randn(x.shape, generator=rng).to(x)


HIDES: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "neighbours": neighbours, "zero": zero, "random": random,
}  # fmt: skip


@dataclass(frozen=True)
class Noise2Self:
    """Noise2Self; its fields are its settings."""

    stride: int = 4  # voxels from one hidden pixel to the next
    hides: str = "neighbours"  # what stands in their place; "zero", "random"
    inference: str = "stitched"  # stride² passes, J-invariant; "once": one, of all pixels
    steps: int = 500  # of training
    channels: int = 32  # of the U-Net at full resolution
    patches: int = 8  # per step
    patch: int = 64  # edge of a patch, voxels
    images_at_once: int = 8  # slices of one pass
    stop: str = "held-out"  # when held-out voxels get no better; "never": after all steps

    name: ClassVar[str] = "noise2self"
    paper: ClassVar[str] = "Batson and Royer 2019, arXiv:1901.11365"
    needs: ClassVar[str] = "one image or more, of white noise: correlated noise is kept as signal"
    units: ClassVar[str] = "sigma"
    assumes_white: ClassVar[bool] = True
    summary: ClassVar[str] = "one image, a grid of pixels at a time learned from the others"
    learns_many: ClassVar[bool] = True  # one network may learn from many scans
    takes_one_image: ClassVar[bool] = True
    takes_contrasts: ClassVar[bool] = True
    after_learning: ClassVar[tuple[str, ...]] = ("inference", "images_at_once")
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "fast":    {"steps": 250, "inference": "once"},
        "default": {},
    }  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self, {"hides": HIDES, "inference": WAYS, "stop": STOPS})
        if self.stride < 2:
            raise InputError(f"stride={self.stride} hides every pixel; give 2 or more", 2)

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """The network f, from all volumes of all scans."""
        images = Images.of_all(scans)
        return learn(
            self.network(images[0].n_beside, run),
            images,
            lambda f, b, rng: self.loss(f, b, images[b.scan], rng),
            self,
            run,
        )

    def loss(self, net: Network, batch: Batch, images: Images, rng: torch.Generator) -> Tensor:
        """‖f(y_Jᶜ)_J − y_J‖² over the mask, a grid J for each patch."""
        J = self.grid(torch.randint(self.stride**2, (len(batch.y),), generator=rng), batch.y)
        f = self.estimate(net, batch, J, images, rng)
        there = replace(batch, mask=batch.mask * J[:, 0])
        return there.mean((f - batch.y[:, :1]) ** 2)

    def grid(self, which: Tensor, y: Tensor) -> Tensor:
        """The grids J, (B, 1, H, W) of 0 and 1.

        which  (B,) int      0 … stride² − 1: where in their boxes the pixels lie
        y      (B, C, H, W)  the images
        """
        i, j = (torch.arange(n) % self.stride for n in y.shape[2:])
        place = i[:, None] * self.stride + j
        return (place == which[:, None, None, None]).to(y)

    def estimate(
        self, net: Network, batch: Batch, J: Tensor, images: Images, rng: torch.Generator
    ) -> Tensor:
        """f(y) with the pixels J hidden, (B, 1, H, W)."""
        mean, sd = (like(table[batch.group, 0], batch.y) for table in (images.mean, images.sd))
        x = images.standardised(batch.y, batch.group)
        image = torch.lerp(x[:, :1], HIDES[self.hides](x[:, :1], rng), J)
        return mean + sd * net(torch.cat([image, x[:, 1:]], dim=1))

    def stitched(self, net: Network, batch: Batch, images: Images, rng: torch.Generator) -> Tensor:
        """f(y)_J for every grid J in turn, put together."""
        result = torch.zeros_like(batch.y[:, :1])
        for which in range(self.stride**2):
            J = self.grid(torch.full((len(batch.y),), which), batch.y)
            result += J * self.estimate(net, batch, J, images, rng)
        return result

    def once(self, net: Network, batch: Batch, images: Images, rng: torch.Generator) -> Tensor:
        """f(y) of all pixels, nothing hidden."""
        return self.estimate(net, batch, torch.zeros_like(batch.y[:, :1]), images, rng)

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """Every slice of every volume."""
        im = Images.of(scan)
        net = load_weights(self.network(im.n_beside, run), state, "network.").to(run.device)

        def restore(b: Batch) -> Tensor:
            first = int(b.group[0]) * im.data.shape[2] + int(b.z[0])
            return WAYS[self.inference](self, net, b, im, run.rng("hidden", first))

        return restored(restore, im, self, run)

    def network(self, n_beside: int, run: Run) -> UNet:
        """The U-Net, untrained."""
        return network("lean", self.channels, 1 + n_beside, 0, 2, run, "network")


WAYS: dict[str, Callable[..., Tensor]] = {
    "stitched": Noise2Self.stitched, "once": Noise2Self.once,
}  # fmt: skip
