"""Score: the gradient of the log-density of noisy images, learned from them alone.

Paper   Lim, Courville, Pal, Huang, "AR-DAE: towards unbiased neural entropy gradient estimation",
        ICML 2020, arXiv:2006.05164.
Idea    Noise σ_a u is added to y. The network that says best where u points, R(z) nearest to
        -u / σ_a at z = y + σ_a u, is the score of z; as σ_a → 0 that of y.
Here    sigma = 1 units. u has some covariance Σ_u: then R is Σ_u ∇log p, as E[σ_a u | z] is
        -σ_a² Σ_u ∇log p(z). The network is told the level, so at σ_a = 0 it is not off by σ_a.
Differs The network's own output is not R, whose target has variance 1 / σ_a², but what it adds to
        a first guess h of the clean image, R = (h - z) / (1 + σ_a²): Tweedie's formula, backwards.
        R then stays about one in size whatever σ_a.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .images import Images
from .schedule import like
from .slices import Batch
from .trainer import Network

Score = Callable[[Tensor, Tensor], Tensor]  # of z (B, 1, H, W) and sigma_a (B,)


def score_of(net: Network, batch: Batch, images: Images) -> Score:
    """R(z, σ_a), (B, 1, H, W), of the images of a batch with more noise."""

    def R(z: Tensor, sigma_a: Tensor) -> Tensor:  # noqa: N802  the paper's symbol
        s_t = (1 + sigma_a**2).sqrt()
        h = images.estimate(net, z, batch.y, s_t, batch.group)
        return (h - z) / like(s_t**2, z)

    return R


def score_loss(R: Score, y: Tensor, u: Tensor, sigma_a: Tensor) -> Tensor:
    """(u + σ_a R(y + σ_a u))², (B, 1, H, W).

    u        (B, 1, H, W)  noise of variance 1
    sigma_a  (B,)          how much of it is added, either sign
    """
    a = like(sigma_a, y)
    return (u + a * R(y + a * u, sigma_a)) ** 2


def levels(n: int, delta: float, rng: torch.Generator) -> Tensor:
    """n values of σ_a from N(0, δ²), as AR-DAE draws them."""
    return delta * torch.randn(n, generator=rng)
