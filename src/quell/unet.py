"""U-Net: the one network of quell, 2-D and 3-D, any size in, the same size out.

Papers  Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015, arXiv:1505.04597; residual blocks with
        group normalisation as in Ho et al. 2020, arXiv:2006.11239; conditioning by FiLM,
        Perez et al. 2018, arXiv:1709.07871. `PUBLISHED` is the network of Saharia et al. 2021,
        arXiv:2104.07636 ("SR3"), which DDM² and Di-Fusion use. Pooling after a blur: Zhang 2019,
        arXiv:1904.11486; with it, and without a skip at full resolution, Hoeck et al. 2022,
        arXiv:2211.08512 ("N2V2").
Here    One residual block a level on the way down and one on the way up, average pooling,
        nearest-neighbour upsampling. A vector of numbers (noise level, time) scales and shifts
        the channels of every block.
Differs Attention only where it is asked for. The last convolution starts at zero, so an untrained
        network returns zero: methods add their own closed-form first guess. `PUBLISHED` has
        attention, learned resampling and more blocks; the noise level only shifts, and nothing
        starts at zero.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class UNetSettings:
    """Size of a U-Net; widths are multiples of `groups`."""

    channels: int = 48  # at full resolution
    multipliers: tuple[int, ...] = (1, 2, 2)  # channels of each level, in units of `channels`
    embedding: int = 64  # width of the embedded condition
    dimensions: int = 2  # 2: slices (B, C, H, W); 3: volumes (B, C, D, H, W)
    groups: int = 8  # of the group normalisation
    is_sr3: bool = False  # the layers of Saharia et al.: 2 blocks a level down, 3 up, attention
    attention: tuple[int, ...] = ()  # levels with self-attention; SR3: beside the middle
    pooling: str = "mean"  # how a lean one halves the resolution, see POOLINGS
    skips_from: int = 0  # finest level of a lean one with a skip connection; N2V2: 1


# 24,325,761 parameters with two channels in and no condition, 24,472,161 with one and one
PUBLISHED = UNetSettings(32, (1, 2, 4, 8, 8), embedding=32, groups=32, is_sr3=True, attention=(3,))


@contextmanager
def weights_from(rng: torch.Generator) -> Iterator[None]:
    """What is made inside draws its weights from `rng`: layers know the global generator only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.initial_seed())
        yield


class UNet(nn.Module):
    """A U-Net conditioned on a few numbers.

    n_in         channels in
    n_out        channels out
    n_condition  numbers the network is told beside the image, such as log sigma_t; 0: none
    """

    def __init__(self, n_in: int, n_out: int, n_condition: int, settings: UNetSettings) -> None:
        super().__init__()
        self.embed = _embedding(n_condition, settings)
        self.encoder, self.middle, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.keeps: list[bool] = []  # for each layer of the encoder: whether a skip starts there
        (self._sr3_layers if settings.is_sr3 else self._lean_layers)(n_in, n_condition, settings)
        width = settings.channels * settings.multipliers[0]
        self.norm = nn.GroupNorm(settings.groups, width)
        self.leave = _conv(settings.dimensions)(width, n_out, 3, padding=1)
        if not settings.is_sr3:
            for parameter in self.leave.parameters():
                nn.init.zeros_(parameter)
        self.layout = torch.channels_last if settings.dimensions == 2 else torch.channels_last_3d
        self.to(memory_format=self.layout)  # type: ignore[call-overload]  # kernels like it best
        # pooling drops odd rows, strided convolutions do not
        self.multiple = 1 if settings.is_sr3 else 2 ** (len(settings.multipliers) - 1)

    def _lean_layers(self, n_in: int, n_condition: int, settings: UNetSettings) -> None:
        widths = [settings.channels * m for m in settings.multipliers]
        self._down(Convolve(n_in, widths[0], settings.dimensions), keep=False)
        for level, (before, width) in enumerate(zip([widths[0], *widths], widths, strict=False)):
            if level > 0:
                self._down(POOLINGS[settings.pooling](settings.dimensions), keep=False)
            has_skip = settings.skips_from <= level < len(widths) - 1  # the lowest has no partner
            has_attention = level in settings.attention
            self._down(Block(before, width, settings), keep=has_skip and not has_attention)
            if has_attention:
                self._down(NoiseAttention(width, settings), keep=has_skip)
        for level in range(len(widths) - 2, -1, -1):
            n_skip = widths[level] if level >= settings.skips_from else 0
            n_in = widths[level + 1] + n_skip
            self.decoder.extend([Enlarge(), Block(n_in, widths[level], settings)])

    def _sr3_layers(self, n_in: int, n_condition: int, settings: UNetSettings) -> None:
        def block(before: int, after: int, has_attention: bool) -> Sr3Block:
            return Sr3Block(before, after, n_condition > 0, has_attention, settings)

        widths = [settings.channels * m for m in settings.multipliers]
        self._down(Convolve(n_in, widths[0], settings.dimensions), keep=True)
        width, skips = widths[0], [widths[0]]
        for level, after in enumerate(widths):
            for before in (width, after):
                self._down(block(before, after, level in settings.attention), keep=True)
                skips.append(after)
            width = after
            if level < len(widths) - 1:
                self._down(Convolve(width, width, settings.dimensions, stride=2), keep=True)
                skips.append(width)
        self.middle.extend([block(width, width, True), block(width, width, False)])
        for level, after in reversed(list(enumerate(widths))):
            for _ in range(3):
                self.decoder.append(block(width + skips.pop(), after, level in settings.attention))
                width = after
            if level > 0:
                self.decoder.extend([Enlarge(), Convolve(width, width, settings.dimensions)])

    def _down(self, layer: nn.Module, keep: bool) -> None:
        self.encoder.append(layer)
        self.keeps.append(keep)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """x (B, n_in, ...), condition (B, n_condition) -> (B, n_out, ...)."""
        size = x.shape[2:]
        x = _pad_to_multiple(x, self.multiple)
        x = x.contiguous(memory_format=self.layout)
        e = None if condition is None else self.embed(condition)
        skips = []
        for layer, is_kept in zip(self.encoder, self.keeps, strict=True):
            x = layer(x, e)
            if is_kept:
                skips.append(x)
        for layer in self.middle:
            x = layer(x, e)
        for layer in self.decoder:
            if isinstance(layer, Block | Sr3Block) and skips:  # the finest levels may have none
                skip = skips.pop()
                if x.shape[2:] != skip.shape[2:]:  # odd sizes: 53 -> 27 -> 54
                    x = F.interpolate(x, size=skip.shape[2:], mode="nearest")
                x = torch.cat([x, skip], dim=1)
            x = layer(x, e)
        x = self.leave(F.silu(self.norm(x)))
        for axis, n in enumerate(size, start=2):
            x = x.narrow(axis, 0, n)
        return x


class Block(nn.Module):
    """Residual block: two convolutions, the condition scales and shifts between them."""

    def __init__(self, n_in: int, n_out: int, settings: UNetSettings) -> None:
        super().__init__()
        conv = _conv(settings.dimensions)
        self.norm = nn.GroupNorm(settings.groups, n_in)
        self.first = conv(n_in, n_out, 3, padding=1)
        self.film = nn.Linear(settings.embedding, 2 * n_out)
        self.second = conv(n_out, n_out, 3, padding=1)
        self.skip = conv(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)
        nn.init.zeros_(self.second.weight)  # every block starts as its skip connection

    def forward(self, x: Tensor, e: Tensor | None) -> Tensor:
        h = self.first(F.silu(self.norm(x)))
        if e is not None:
            scale, shift = self.film(e).reshape(len(e), -1, *[1] * (x.ndim - 2)).chunk(2, dim=1)
            h = h * (1 + scale) + shift
        return self.skip(x) + self.second(F.silu(h))


class Sr3Block(nn.Module):
    """Residual block of SR3: a norm before each convolution, the noise level shifts between them.

    Self-attention over the pixels may follow.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        has_condition: bool,
        has_attention: bool,
        settings: UNetSettings,
    ) -> None:
        super().__init__()
        conv = _conv(settings.dimensions)
        self.norms = nn.ModuleList(nn.GroupNorm(settings.groups, n) for n in (n_in, n_out))
        self.convs = nn.ModuleList(conv(n, n_out, 3, padding=1) for n in (n_in, n_out))
        self.shift = nn.Linear(settings.embedding, n_out) if has_condition else None
        self.skip = conv(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        self.attention = Attention(n_out, settings) if has_attention else nn.Identity()

    def forward(self, x: Tensor, e: Tensor | None) -> Tensor:
        h = self.convs[0](F.silu(self.norms[0](x)))
        if self.shift is not None and e is not None:
            h = h + self.shift(e).reshape(len(e), -1, *[1] * (x.ndim - 2))
        h = self.convs[1](F.silu(self.norms[1](h)))
        result: Tensor = self.attention(self.skip(x) + h)
        return result


class Attention(nn.Module):
    """Self-attention with one head over all pixels, added to its input."""

    def __init__(self, channels: int, settings: UNetSettings) -> None:
        super().__init__()
        conv = _conv(settings.dimensions)
        self.norm = nn.GroupNorm(settings.groups, channels)
        self.qkv = conv(channels, 3 * channels, 1, bias=False)
        self.leave = conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=-1)
        seen = F.scaled_dot_product_attention(q, k, v)  # scale 1/√C
        result: Tensor = x + self.leave(seen.transpose(1, 2).reshape(x.shape))
        return result


class NoiseAttention(nn.Module):
    """Self-attention that knows the noise level: queries, keys and values depend on it, too.

    Source: the "noise-variance-conditioned attention" of Tu et al. 2025, arXiv:2505.05631, whose
    details were not published; queries, keys and values are linear in the features plus linear in
    the embedded level.
    """

    HEADS = 4

    def __init__(self, channels: int, settings: UNetSettings) -> None:
        super().__init__()
        conv = _conv(settings.dimensions)
        self.norm = nn.GroupNorm(settings.groups, channels)
        self.qkv = conv(channels, 3 * channels, 1, bias=False)
        self.of_level = nn.Linear(settings.embedding, 3 * channels)
        self.leave = conv(channels, channels, 1)
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)  # starts as nothing

    def forward(self, x: Tensor, e: Tensor | None) -> Tensor:
        qkv = self.qkv(self.norm(x)).flatten(2)  # (B, 3 C, pixels)
        if e is not None:
            qkv = qkv + self.of_level(e)[..., None]
        q, k, v = qkv.unflatten(1, (3, self.HEADS, -1)).transpose(-1, -2).unbind(1)
        seen = F.scaled_dot_product_attention(q, k, v)  # (B, heads, pixels, C / heads)
        result: Tensor = x + self.leave(seen.transpose(-1, -2).reshape(x.shape))
        return result


class Convolve(nn.Module):
    """A 3 x 3 convolution."""

    def __init__(self, n_in: int, n_out: int, dimensions: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = _conv(dimensions)(n_in, n_out, 3, stride=stride, padding=1)

    def forward(self, x: Tensor, e: Tensor | None) -> Tensor:
        result: Tensor = self.conv(x)
        return result


class Pool(nn.Module):
    """Half the resolution: the mean of 2 x 2 pixels."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.pool = F.avg_pool2d if dimensions == 2 else F.avg_pool3d

    def forward(self, x: Tensor, e: Tensor | None) -> Tensor:
        return self.pool(x, 2)


class MaxBlurPool(nn.Module):
    """Half the resolution: the largest of 2 x 2 pixels everywhere, a blur (1, 2, 1)/4, every other.

    What changes from pixel to pixel is blurred away before it could alias.
    """

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.largest, self.mean = (
            (F.max_pool2d, F.avg_pool2d) if dimensions == 2 else (F.max_pool3d, F.avg_pool3d)
        )
        self.after, self.before = (0, 1) * dimensions, (1, 0) * dimensions  # one pixel more

    def forward(self, x: Tensor, e: Tensor | None) -> Tensor:
        x = self.largest(F.pad(x, self.after, mode="replicate"), 2, stride=1)
        x = self.mean(F.pad(x, self.before, mode="replicate"), 2, stride=1)
        return self.mean(x, 2, stride=2)  # the mean of two, twice: (1, 2, 1)/4


POOLINGS: dict[str, type[Pool] | type[MaxBlurPool]] = {"mean": Pool, "max-blur": MaxBlurPool}


class Enlarge(nn.Module):
    """Twice the resolution: every pixel repeated."""

    def forward(self, x: Tensor, e: Tensor | None) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="nearest")


class Sinusoids(nn.Module):
    """sin and cos of a number times 16 frequencies from 1 down to about 1e-4: (B, 1) -> (B, 32)."""

    def forward(self, s: Tensor) -> Tensor:
        angle = s * torch.exp(-math.log(1e4) / 16 * torch.arange(16, device=s.device))
        return torch.cat([angle.sin(), angle.cos()], dim=1)


def _embedding(n_condition: int, settings: UNetSettings) -> nn.Module:
    """What turns the condition into what the blocks are given."""
    width = settings.embedding
    if n_condition == 0:
        return nn.Identity()
    if settings.is_sr3:
        return nn.Sequential(
            Sinusoids(), nn.Linear(32, 4 * width), nn.SiLU(), nn.Linear(4 * width, width)
        )
    return nn.Sequential(
        nn.Linear(n_condition, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
    )


def _conv(dimensions: int) -> type[nn.Conv2d] | type[nn.Conv3d]:
    return nn.Conv2d if dimensions == 2 else nn.Conv3d


def _pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last rows and columns until every size is a multiple."""
    missing = [(-n) % multiple for n in reversed(x.shape[2:])]
    pads = [p for n in missing for p in (0, n)]
    return F.pad(x, pads, mode="replicate") if any(pads) else x
