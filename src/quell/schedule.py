"""Schedules: how much signal and how much noise x_t holds at step t, and the step back.

Papers  Ho, Jain, Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020,
        arXiv:2006.11239; Xiang et al., "DDM²", ICLR 2023, arXiv:2302.03018 (the reverse warm-up).
Idea    x_t = √ᾱ_t x₀ + √(1-ᾱ_t) ε with ᾱ_t = Π (1-β_i) over i ≤ t. Given x₀ and x_t, the state
        one step before is Gaussian, and its mean and variance follow from Bayes' rule.
Here    Steps are 1…T; t = 0 means no noise, so ᾱ_0 = 1 and β_0 = 0 stand in the tables and
        every table is indexed by t itself. Tables are float64, results have the type of x.
Differs Nothing.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .run import onto


@dataclass(frozen=True, eq=False)
class Schedule:
    """One noise schedule; make it with `linear` or `reverse_warmup`.

    betas      (T + 1,) float64  variance that step t adds; betas[0] = 0
    alpha_bar  (T + 1,) float64  variance that x₀ keeps up to step t; alpha_bar[0] = 1
    """

    betas: Tensor

    def __post_init__(self) -> None:
        inner = self.betas[1:]
        if self.betas.ndim != 1 or len(inner) == 0 or self.betas[0] != 0:
            raise ValueError("betas must hold a 0 for t = 0 and then one value a step.")
        if not bool(((inner > 0) & (inner < 1)).all()):
            raise ValueError("every beta must lie between 0 and 1.")

    @property
    def T(self) -> int:  # noqa: N802  the papers' symbol
        return len(self.betas) - 1

    @cached_property
    def alpha_bar(self) -> Tensor:
        return torch.cumprod(1 - self.betas, dim=0)

    def diffuse(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_t: signal x0 with the noise of step t.

        x0   (B, C, H, W)  scaled
        t    (B,) int      step, 0…T, one for each image
        eps  (B, C, H, W)  noise, sd 1
        """
        a = at(self.alpha_bar, t, x0)
        b = at(1 - self.alpha_bar, t, x0)  # subtracted in float64: 5e-5 at t = 1
        return a.sqrt() * x0 + b.sqrt() * eps  # Ho 2020, Eq. 4

    def posterior(
        self, x_t: Tensor, x0_hat: Tensor, t: Tensor, s: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean (B, C, H, W) and variance (B, 1, 1, 1) of the earlier state x_s, if x0_hat is true.

        x_t     (B, C, H, W)  scaled
        x0_hat  (B, C, H, W)  scaled
        t       (B,) int      step, 1…T; there is none before 0, ValueError
        s       (B,) int      step to go to, 0…t-1; None: t-1

        At s = 0 the mean is x0_hat and the variance 0.
        """
        of_x0, of_x_t = self.posterior_weights(t, s)
        s = t - 1 if s is None else s
        now, before = self.alpha_bar[t.cpu()], self.alpha_bar[s.cpu()]
        variance = (1 - now / before) * (1 - before) / (1 - now)
        mean = like(of_x0, x_t) * x0_hat + like(of_x_t, x_t) * x_t
        return mean, like(variance, x_t)

    def posterior_weights(self, t: Tensor, s: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Weights (B,) of x0 and of x_t in the mean of x_s; arguments as in `posterior`.

        A jump t -> s is one step whose β is 1 - ᾱ_t / ᾱ_s. While β is constant and small the
        weights are (t - s) / t and s / t: the chain is a running mean.
        """
        s = t - 1 if s is None else s
        if bool((t < 1).any()):
            raise ValueError("t = 0 is the image without noise: no step leads back from there.")
        if bool((s < 0).any() or (s >= t).any()):
            raise ValueError("a step back from t must end at 0…t-1.")
        now, before = self.alpha_bar[t.cpu()], self.alpha_bar[s.cpu()]
        beta = 1 - now / before
        of_x0 = before.sqrt() * beta / (1 - now)  # Ho 2020, Eq. 7
        of_x_t = (now / before).sqrt() * (1 - before) / (1 - now)
        return of_x0, of_x_t

    def sigma(self, t: Tensor) -> Tensor:
        """√(1-ᾱ_t), the noise of step t; any shape."""
        return (1 - self.alpha_bar[t.cpu()]).sqrt()

    def between(self, t: Tensor, rng: torch.Generator) -> Tensor:
        """√ᾱ (B,) uniform between that of steps t-1 and t: a continuous noise level."""
        s, u = self.alpha_bar.sqrt(), torch.rand(len(t), generator=rng)
        return (s[t] + u * (s[t - 1] - s[t])).float()


def like(values: Tensor, x: Tensor) -> Tensor:
    """(B,) as (B, 1, 1, 1), or as many axes as x has, of its type and on its device."""
    return onto(values.to(x.dtype), x.device).reshape(-1, *[1] * (x.ndim - 1))


def at(table: Tensor, i: Tensor, x: Tensor) -> Tensor:
    """table[i] as (B, 1, 1, 1), or as many axes as x has, of its type and on its device."""
    i = i.to(table.device)
    if bool((i < 0).any()):
        raise ValueError("a step below 0 would be read from the end of the schedule.")
    return like(table[i], x)


def linear(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 2e-2) -> Schedule:
    """β rises from beta_start at step 1 to beta_end at step T in equal increments (Ho 2020)."""
    return with_betas(torch.linspace(beta_start, beta_end, T, dtype=torch.float64))


def reverse_warmup(
    T: int = 1000, beta_start: float = 5e-5, beta_end: float = 1e-2, warmup: float = 0.7
) -> Schedule:
    """DDM²'s schedule: many steps of little noise first, to tell low noise levels apart.

    T           number of steps
    beta_start  β of the first (1 - warmup)·T steps, and where the rise starts
    beta_end    β of step T
    warmup      share of the steps, the last ones, over which β rises linearly; 0…1
    """
    n_rising = round(T * warmup)
    level = torch.full((T - n_rising,), beta_start, dtype=torch.float64)
    rising = torch.linspace(beta_start, beta_end, n_rising, dtype=torch.float64)
    return with_betas(torch.cat([level, rising]))


def with_betas(betas: Tensor) -> Schedule:
    """The schedule of these β, (T,) from step 1 on."""
    return Schedule(torch.cat([betas.new_zeros(1), betas]))
