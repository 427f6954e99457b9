"""Divergence: how much of its own noise a denoiser lets through, from one random probe.

Papers  Stein, "Estimation of the mean of a multivariate normal distribution", Annals of Statistics
        9:1135, 1981; the probe: Ramani, Blu, Unser, "Monte-Carlo SURE", IEEE TIP 17:1540, 2008.
Idea    Of an image y = x + n with Gaussian noise of covariance Σ, what f(y) keeps of n is known
        without x: Stein's lemma, E[n_i f_i(y)] = E[(J Σ)_ii] with J the derivative of f. With b
        drawn like the noise, (J Σ)_ii is the mean of b_i (J b)_i, and J b a difference of two
        passes.
Here    sigma = 1 units. A denoiser is learned through both passes.
Differs The probe is large, as the network is smooth and half precision is coarse; as b is as often
        -b, the error of the difference is of second order.
"""

from collections.abc import Callable

from torch import Tensor

PROBE = 0.1  # ε, units of sigma


def kept_noise(f: Callable[[Tensor], Tensor], y: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """f(y), and b (f(y + ε b) − f(y)) / ε, whose mean over b is the diagonal of J Σ; (B, 1, H, W).

    f  of (B, 1, H, W)
    y  (B, 1, H, W)
    b  (B, 1, H, W)  noise like that of y
    """
    f_y = f(y)
    return f_y, b * (f(y + PROBE * b) - f_y) / PROBE


def stein_risk(f_y: Tensor, y: Tensor, kept: Tensor) -> Tensor:
    """(f(y) − y)² − 1 + 2 (J Σ)_ii, in the mean the squared error of f(y); (B, 1, H, W).

    kept  (B, 1, H, W)  from `kept_noise`
    """
    return (f_y - y) ** 2 - 1 + 2 * kept
