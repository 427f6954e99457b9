"""Sampling: from a noisy image at step t of a schedule back to a clean one, in batches.

Papers  Ho, Jain, Abbeel, NeurIPS 2020, arXiv:2006.11239 (ancestral steps); Song, Meng, Ermon,
        ICLR 2021, arXiv:2010.02502 (DDIM); Wu et al., "Di-Fusion", ICLR 2025, arXiv:2501.13514
        (Run-Walk).
Idea    At every step the network says what the clean image x0 may be; a rule mixes x0_hat and
        x_t into the state x_s of an earlier step s < t.
Here    Every image of a batch has its own path of steps and its own random numbers, so the
        result does not depend on which images share a batch.
Differs Steps may be skipped by any rule. The result is the last x0_hat, which is also where the
        rules lead at s = 0.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .run import onto
from .schedule import Schedule, like

Restore = Callable[[Tensor, Tensor, Tensor], Tensor]  # x_t, t, rows of the batch -> x0_hat
Watch = Callable[[Tensor, Tensor, Tensor], Tensor | None]  # x0_hat, t, rows -> which have ended

RULES = (
    "posterior",  # mean and variance of Bayes' rule: ancestral sampling
    "beta",  # ... with β itself as the variance, as DDM²'s text says
    "mean",  # the mean alone, as Di-Fusion samples
    "ddim",
    "mean-one-step",  # Di-Fusion's code of 2024: weights of one step whatever the jump
    "mean-mixed",  # Di-Fusion's released code: one-step β with ᾱ of the jump; loses amplitude
)


@dataclass(frozen=True)
class Sampler:
    """How to go from x_t to x_s.

    rule  one of RULES
    eta   noise of DDIM: 0 none, 1 that of the posterior
    """

    schedule: Schedule
    rule: str = "posterior"
    eta: float = 0.0

    def step(self, x_t: Tensor, x0_hat: Tensor, t: Tensor, s: Tensor, eps: Tensor) -> Tensor:
        """x_s (B, C, H, W).

        x_t, x0_hat, eps  (B, C, H, W)
        t, s              (B,) int
        """
        if self.rule == "ddim":
            return self._ddim(x_t, x0_hat, t, s, eps)
        if self.rule in ("mean-one-step", "mean-mixed"):
            a, b = self._published_weights(t, s)
            return like(a, x_t) * x0_hat + like(b, x_t) * x_t
        mean, variance = self.schedule.posterior(x_t, x0_hat, t, s)
        if self.rule == "mean":
            return mean
        if self.rule == "beta":
            alpha_bar = self.schedule.alpha_bar
            beta = 1 - alpha_bar[t] / alpha_bar[s]
            variance = like(torch.where(s > 0, beta, 0.0), x_t)  # none at the last step
        return mean + variance.sqrt() * eps

    def _ddim(self, x_t: Tensor, x0_hat: Tensor, t: Tensor, s: Tensor, eps: Tensor) -> Tensor:
        now, before = self.schedule.alpha_bar[t], self.schedule.alpha_bar[s]
        fresh = self.eta**2 * (1 - before) / (1 - now) * (1 - now / before)  # Song 2021, Eq. 16
        direction = (x_t - like(now.sqrt(), x_t) * x0_hat) / like((1 - now).sqrt(), x_t)
        kept = like((1 - before - fresh).clamp(min=0).sqrt(), x_t)
        return like(before.sqrt(), x_t) * x0_hat + kept * direction + like(fresh.sqrt(), x_t) * eps

    def _published_weights(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """The weights of x0_hat and x_t that Di-Fusion's programs use."""
        if self.rule == "mean-one-step":
            return self.schedule.posterior_weights(t)
        now, before = self.schedule.alpha_bar[t], self.schedule.alpha_bar[s]
        beta = self.schedule.betas[t]
        return (
            beta * before.sqrt() / (1 - now),
            (1 - beta).sqrt() * (1 - before) / (1 - now),
        )

    def reverse(
        self,
        x: Tensor,
        paths: list[list[int]],
        restore: Restore,
        rngs: list[torch.Generator],
        watch: Watch | None = None,
    ) -> Tensor:
        """The last x0_hat of every image, (B, C, H, W).

        x        (B, C, H, W)  every image at the first step of its path
        paths    for each image its steps, falling, the last one above 0; empty: x comes back
        restore  x0_hat of (x_t, t, rows): the rows of the batch that are still on their way
        rngs     one for each image
        watch    told of every x0_hat; may say which of the rows end there
        """
        result, state = x.clone(), x.clone()
        rows = torch.tensor([b for b, path in enumerate(paths) if path], dtype=torch.long)
        k = 0
        while len(rows):
            t = torch.tensor([paths[b][k] for b in rows])
            s = torch.tensor([(*paths[b], 0)[k + 1] for b in rows])
            on_device = onto(rows, x.device)
            x_t = state[on_device]
            x0_hat = restore(x_t, t, rows)
            result[on_device] = x0_hat
            ended = None if watch is None else watch(x0_hat, t, rows)
            goes_on = s > 0 if ended is None else (s > 0) & ~ended.cpu()
            rows, k = rows[goes_on], k + 1
            if len(rows):
                here = onto(goes_on, x.device)
                shape = (1, *x.shape[1:])
                eps = torch.cat([torch.randn(shape, generator=rngs[b]) for b in rows])
                eps = onto(eps.to(x.dtype), x.device)
                x_s = self.step(x_t[here], x0_hat[here], t[goes_on], s[goes_on], eps)
                state[onto(rows, x.device)] = x_s
        return result


def run_walk(start: int, stride: int, walk_from: int) -> list[int]:
    """Di-Fusion's path: steps of `stride` down to `walk_from`, then every step down to 1.

    start      first step, T_c
    stride     p
    walk_from  T_r
    """
    walk_from = min(walk_from, start)
    return [*range(start, walk_from, -stride), *range(walk_from, 0, -1)]


def even_path(start: int, n: int) -> list[int]:
    """At most n steps, evenly spaced, from `start` down to 1 or more."""
    n = min(n, start)
    return [round(start * (n - i) / n) for i in range(n)]
