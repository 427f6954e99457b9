"""Predictor: a U-Net that says what the clean image is, from a noisy one and its noise level.

Paper   The mixing of input and output is that of Karras et al., "Elucidating the design space of
        diffusion-based generative models", NeurIPS 2022, arXiv:2206.00364, Eq. 7.
Idea    x = s x0 + σ ε with s = √ᾱ, σ = √(1-ᾱ). An untrained network answers with the best
        pixelwise linear estimate, and its own output is always about one in size.
Here    The network is told log(σ / s), which tells every level from every other.
Differs "published" hands x and s to the network of the papers as they are: between states 1 and
        300, s changes by less than a hundredth, so that network hardly sees the level.
"""

from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .run import Run
from .unet import PUBLISHED, UNet, UNetSettings, weights_from

NETWORKS = ("lean", "published")
LEAN: dict[str, dict[str, Any]] = {
    "lean": {},
    "n2v2": {"pooling": "max-blur", "skips_from": 1},  # Hoeck et al. 2022
}  # networks of quell's own size
AS_PUBLISHED = {
    "steps": 100_000, "network": "published", "flips": 4, "patches": 32, "patch": 4096,
    "everywhere": True, "intensities": "volume-maximum", "neighbours": "acquisition",
}  # what the released programs of DDM² and Di-Fusion share  # fmt: skip


class HasNetwork(Protocol):
    """A method's settings that say what its networks are."""

    @property
    def network(self) -> str: ...
    @property
    def channels(self) -> int: ...
    @property
    def dimensions(self) -> int: ...


class Standardised(nn.Module):
    """A U-Net and the size of what it sees.

    unet     the network
    centre   mean of clean images
    spread   their standard deviation
    is_lean  False: as published, nothing is standardised
    """

    def __init__(self, unet: UNet, centre: float, spread: float, is_lean: bool) -> None:
        super().__init__()
        self.unet, self.is_lean = unet, is_lean
        self.centre: Tensor
        self.spread: Tensor
        self.register_buffer("centre", torch.tensor(float(centre)))
        self.register_buffer("spread", torch.tensor(float(spread)))


class Predictor(Standardised):
    """x0_hat of x_t.

    unet     one channel in, one out, one number
    centre   mean of clean images
    spread   their standard deviation
    """

    @classmethod
    def of(cls, method: HasNetwork, run: Run, centre: float = 0, spread: float = 1) -> "Predictor":
        """An untrained one, F of the papers."""
        kind, channels, dimensions = method.network, method.channels, method.dimensions
        unet = network(kind, channels, 1, 1, dimensions, run, "F")
        return cls(unet, centre, spread, kind == "lean")

    def forward(self, x_t: Tensor, s: Tensor) -> Tensor:
        """(B, 1, H, W).

        x_t  (B, 1, H, W)
        s    (B,)  √ᾱ of each image
        """
        if not self.is_lean:
            result: Tensor = self.unet(x_t, s[:, None])
            return result
        sigma = (1 - s**2).clamp(min=1e-8).sqrt()
        level = (sigma / s).log()[:, None]
        s, sigma = (v.reshape(-1, *[1] * (x_t.ndim - 1)) for v in (s, sigma))
        total = ((s * self.spread) ** 2 + sigma**2).sqrt()
        x = (x_t - s * self.centre) / total
        skip = s * self.spread**2 / total
        out: Tensor = self.unet(x, level)
        return self.centre + skip * x + (sigma * self.spread / total) * out


class VolumePredictor(Standardised):
    """A volume from others like it; a lean network corrects their mean, a published one says it.

    unet     n channels in, one out, no numbers
    centre   mean of clean images
    spread   their standard deviation
    """

    @classmethod
    def of(
        cls, method: HasNetwork, n: int, run: Run, centre: float = 0, spread: float = 1
    ) -> "VolumePredictor":
        """An untrained one, Phi of DDM², for n others."""
        kind, channels, dimensions = method.network, method.channels, method.dimensions
        unet = network(kind, channels, n, 0, dimensions, run, "Phi")
        return cls(unet, centre, spread, kind == "lean")

    def forward(self, others: Tensor) -> Tensor:
        """(B, 1, H, W) from others (B, n, H, W)."""
        if not self.is_lean:
            result: Tensor = self.unet(others)
            return result
        correction: Tensor = self.unet((others - self.centre) / self.spread)
        return others.mean(dim=1, keepdim=True) + self.spread * correction


def network(
    kind: str,
    channels: int,
    n_in: int,
    n_condition: int,
    dimensions: int,
    run: Run,
    purpose: str,
    attention: tuple[int, ...] = (),
) -> UNet:
    """A U-Net whose weights come from the run's seed.

    kind       one of LEAN, or "published": 24 million parameters; with a condition started
               orthogonally (gain 1), without one (Phi) as torch does
    channels   of a lean one at full resolution
    attention  levels of a lean one with noise-conditioned attention, 0 the finest, 2 the coarsest
    """
    with weights_from(run.rng(purpose)):
        if kind in LEAN:
            settings = UNetSettings(
                channels, (1, 2, 2), dimensions=dimensions, attention=attention, **LEAN[kind]
            )
            return UNet(n_in, 1, n_condition, settings)
        net = UNet(n_in, 1, n_condition, replace(PUBLISHED, dimensions=dimensions))
        for name, parameter in net.named_parameters():
            if n_condition and parameter.ndim > 1:  # Phi keeps torch's own start
                start = nn.init.orthogonal_(torch.empty(parameter.shape))  # needs plain memory
                parameter.data.copy_(start)
            elif n_condition and name.endswith("bias"):
                nn.init.zeros_(parameter)
        return net
