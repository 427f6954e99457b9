"""U-Net: the one network of quell, 2-D and 3-D, any size in, the same size out.

Paper   Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015, arXiv:1505.04597; residual blocks with
        group normalisation as in Ho et al. 2020, arXiv:2006.11239; conditioning by FiLM,
        Perez et al. 2018, arXiv:1709.07871.
Here    One residual block a level on the way down and one on the way up, average pooling,
        nearest-neighbour upsampling. A vector of numbers (noise level, time) scales and shifts
        the channels of every block.
Differs No attention. The last convolution starts at zero, so an untrained network returns zero:
        methods add their own closed-form first guess.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8  # of the group normalisation


@dataclass(frozen=True)
class UNetSettings:
    """Size of a U-Net; widths are multiples of 8."""

    channels: int = 48  # at full resolution
    multipliers: tuple[int, ...] = (1, 2, 2)  # channels of each level, in units of `channels`
    embedding: int = 64  # width of the embedded condition
    dimensions: int = 2  # 2: slices (B, C, H, W); 3: volumes (B, C, D, H, W)


class UNet(nn.Module):
    """A U-Net conditioned on a few numbers.

    n_in         channels in
    n_out        channels out
    n_condition  numbers the network is told beside the image, such as log sigma_t
    """

    def __init__(self, n_in: int, n_out: int, n_condition: int, settings: UNetSettings) -> None:
        super().__init__()
        conv, width = _conv(settings.dimensions), settings.embedding
        widths = [settings.channels * m for m in settings.multipliers]
        self.embed = nn.Sequential(
            nn.Linear(n_condition, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.enter = conv(n_in, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            Block(c_in, c_out, width, settings.dimensions)
            for c_in, c_out in zip([widths[0], *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            Block(below + skip, skip, width, settings.dimensions)
            for below, skip in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.norm = nn.GroupNorm(GROUPS, widths[0])
        self.leave = conv(widths[0], n_out, 3, padding=1)
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)
        self.layout = torch.channels_last if settings.dimensions == 2 else torch.channels_last_3d
        self.to(memory_format=self.layout)  # type: ignore[call-overload]  # kernels like it best
        self.dimensions = settings.dimensions
        self.multiple = 2 ** (len(widths) - 1)  # sizes are padded to a multiple of this

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, n_in, ...), condition (B, n_condition) -> (B, n_out, ...)."""
        size = x.shape[2:]
        x = _pad_to_multiple(x, self.multiple)
        x = x.contiguous(memory_format=self.layout)
        e = self.embed(condition)
        x = self.enter(x)
        skips = []
        for i, block in enumerate(self.down):
            if i > 0:
                x = F.avg_pool2d(x, 2) if self.dimensions == 2 else F.avg_pool3d(x, 2)
            x = block(x, e)
            skips.append(x)
        skips.pop()  # the lowest level has no partner
        for block in self.up:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = block(torch.cat([x, skips.pop()], dim=1), e)
        x = self.leave(F.silu(self.norm(x)))
        for axis, n in enumerate(size, start=2):
            x = x.narrow(axis, 0, n)
        return x


class Block(nn.Module):
    """Residual block: two convolutions, the condition scales and shifts between them."""

    def __init__(self, n_in: int, n_out: int, n_embedding: int, dimensions: int) -> None:
        super().__init__()
        conv = _conv(dimensions)
        self.norm = nn.GroupNorm(GROUPS, n_in)
        self.first = conv(n_in, n_out, 3, padding=1)
        self.film = nn.Linear(n_embedding, 2 * n_out)
        self.second = conv(n_out, n_out, 3, padding=1)
        self.skip = conv(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)
        nn.init.zeros_(self.second.weight)  # every block starts as its skip connection

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.first(F.silu(self.norm(x)))
        scale, shift = self.film(e).reshape(len(e), -1, *[1] * (x.ndim - 2)).chunk(2, dim=1)
        h = h * (1 + scale) + shift
        return self.skip(x) + self.second(F.silu(h))


def _conv(dimensions: int) -> type[nn.Conv2d] | type[nn.Conv3d]:
    return nn.Conv2d if dimensions == 2 else nn.Conv3d


def _pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last rows and columns until every size is a multiple."""
    missing = [(-n) % multiple for n in reversed(x.shape[2:])]
    pads = [p for n in missing for p in (0, n)]
    return F.pad(x, pads, mode="replicate") if any(pads) else x
