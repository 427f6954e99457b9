"""Bias-free network: a U-Net in which nothing is added, so its answer scales with the image.

Paper   Mohan, Kadkhodaie, Simoncelli, Fernandez-Granda, "Robust and interpretable blind image
        denoising via bias-free convolutional neural networks", ICLR 2020, arXiv:1906.05478.
Idea    Convolutions without bias and rectifiers are homogeneous, f(a y) = a f(y) for a > 0, and
        piecewise linear, f(y) = A_y y. What such a network has learned at one noise level it can do
        at others: it can't tell an image with little noise from a faint one with much.
Here    A network of the size of quell's lean U-Net; the noise level is not among what it is told.
Differs The paper's main network is a plain one of 20 layers with a batch normalisation that does
        not subtract the mean. Here of that only the learned factor of each channel is left, which
        is what it comes to at work; with orthogonal steps (`muon`) such a network learns.
        The last convolution starts at zero: untrained, it returns zero.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .run import Run
from .unet import Enlarge, Pool, weights_from

MULTIPLIERS = (1, 2, 2)  # channels of each level, in units of `channels`, as in the lean U-Net


class BiasFree(nn.Module):
    """(B, 1, H, W) to (B, 1, H, W), homogeneous of degree one.

    channels  at full resolution
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = [channels * m for m in MULTIPLIERS]
        self.enter = _conv(1, widths[0])
        self.down = nn.ModuleList(
            Homogeneous(before, width)
            for before, width in zip([widths[0], *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            Homogeneous(below + width, width)
            for below, width in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.leave = _conv(widths[0], 1)
        nn.init.zeros_(self.leave.weight)
        self.pool, self.enlarge = Pool(2), Enlarge()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def of(cls, channels: int, run: Run) -> "BiasFree":
        """An untrained one, its weights from the run's seed."""
        with weights_from(run.rng("prior network")):
            return cls(channels)

    def forward(self, y: Tensor) -> Tensor:
        H, W = y.shape[2:]
        multiple = 2 ** (len(MULTIPLIERS) - 1)
        x = self.enter(F.pad(y, (0, -W % multiple, 0, -H % multiple), mode="replicate"))
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            if level > 0:
                skips.append(x)
                x = self.pool(x, None)
            x = block(x)
        for block in self.up:
            x = block(torch.cat([self.enlarge(x, None), skips.pop()], dim=1))
        result: Tensor = self.leave(F.relu(x))[..., :H, :W]
        return result


class Homogeneous(nn.Module):
    """Residual block of two convolutions and rectifiers."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first, self.second = _conv(n_in, n_out), _conv(n_out, n_out)
        self.gain = nn.Parameter(torch.ones(n_out))  # of each channel
        self.skip = _conv(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        nn.init.zeros_(self.second.weight)  # every block starts as its skip connection

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(F.relu(x)) * self.gain[:, None, None]
        result: Tensor = self.skip(x) + self.second(F.relu(h))
        return result


def _conv(n_in: int, n_out: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, size, padding=size // 2, bias=False)
