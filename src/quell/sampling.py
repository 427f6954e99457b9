"""Sampling: from a noisy image at step t of a schedule back to a clean one, in batches.

Papers  Ho, Jain, Abbeel, NeurIPS 2020, arXiv:2006.11239 (ancestral steps); Song, Meng, Ermon,
        ICLR 2021, arXiv:2010.02502 (DDIM); Wu et al., "Di-Fusion", ICLR 2025, arXiv:2501.13514
        (Run-Walk); the mean over flips is that of the released code of DDM².
Idea    At every step the network says what the clean image x0 may be; a rule mixes x0_hat and
        x_t into the state x_s of an earlier step s < t.
Here    Every image of a batch has its own path of steps and its own random numbers, so the
        result does not depend on which images share a batch.
Differs Steps may be skipped by any rule. The result is the last x0_hat, which is also where the
        rules lead at s = 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from .run import Run, onto
from .schedule import Schedule, like
from .slices import Batch, map_images

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


@dataclass(frozen=True)
class Chain:
    """A network on its way down a schedule.

    F        x0_hat of (x_t, √ᾱ_t)
    sampler  from x_t to x_s
    limits   x0_hat is clamped to these
    flips    that F's answer is averaged over: 1, 2 or 4
    """

    F: Callable[[Tensor, Tensor], Tensor]
    sampler: Sampler
    limits: tuple[float, float]
    flips: int

    def run(
        self,
        x: Tensor,
        paths: list[list[int]],
        rngs: list[torch.Generator],
        distance: Callable[[Tensor, Tensor], Tensor] | None = None,
        stop: float = math.inf,
    ) -> tuple[Tensor, Tensor]:
        """The last x0_hat of every image (B, C, H, W), and its distance at every step (B, K).

        x         (B, C, H, W)  every image at the first step of its path
        paths     for each image its steps
        rngs      one for each image
        distance  (x0_hat, rows) -> (rows,), how far it is from the input; NaN after the end
        stop      an image ends where its distance exceeds this
        """
        s = self.sampler.schedule.alpha_bar.sqrt()
        far = torch.full((len(x), max(map(len, paths), default=0)), math.nan)

        def restore(x_t: Tensor, t: Tensor, rows: Tensor) -> Tensor:
            level = onto(s[t].float(), x_t.device)
            return over_flips(lambda x: self.F(x, level), x_t, self.flips).clamp(*self.limits)

        def watch(x0_hat: Tensor, t: Tensor, rows: Tensor) -> Tensor | None:
            if distance is None:
                return None
            now = distance(x0_hat, rows).float().cpu()
            far[rows, far[rows].isnan().float().argmax(dim=1)] = now
            return ~(now <= stop)  # NaN, of an empty slice, ends too

        return self.sampler.reverse(x, paths, restore, rngs, watch), far


def walk_series(
    chain: Chain,
    start: Callable[[Batch, list[torch.Generator]], Tensor],
    paths: Callable[[Batch], list[list[int]]],
    distance: Callable[[Batch, Tensor, Tensor], Tensor],
    data: np.ndarray,
    where: np.ndarray,
    groups: np.ndarray,
    run: Run,
    purpose: str,
    n_at_once: int,
    stop: float = math.inf,
    dimensions: int = 2,
    samples: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The chain of every image of a series.

    start     the images (B, 1, H, W) at the first step of their paths
    paths     for each image its steps
    distance  (batch, x0_hat, rows) -> (rows,), as in `Chain.run`
    data, where, groups, n_at_once, dimensions  as in `slices.map_images`
    purpose   of the random numbers: image k of the series always has the same
    samples   chains of every image

    Returns x0_hat (X, Y, Z, G), the mean over samples; its distances (G, Z, K) in the last one;
    and the standard deviation over samples (X, Y, Z, G), None where there is one.
    """
    n_slices = data.shape[2] if dimensions == 2 else 1
    curves: dict[tuple[int, int], np.ndarray] = {}

    def restore(batch: Batch, sample: int) -> Tensor:
        places = list(zip(batch.group.tolist(), batch.z.tolist(), strict=True))
        rngs = [run.rng(f"{purpose} {sample}", g * n_slices + z) for g, z in places]
        x0_hat, far = chain.run(
            start(batch, rngs), paths(batch), rngs, partial(distance, batch), stop
        )
        curves.update(zip(places, far.numpy(), strict=True))
        return x0_hat

    parts = [
        map_images(
            partial(restore, sample=k), data, where, groups, run, n_at_once, "denoising", dimensions
        )
        for k in range(samples)
    ]
    n_steps = max(len(curve) for curve in curves.values())
    distances = np.full((len(groups), n_slices, n_steps), np.nan, dtype=np.float32)
    for place, curve in curves.items():
        distances[place][: len(curve)] = curve
    spread = np.std(parts, axis=0, ddof=1) if samples > 1 else None
    return np.mean(parts, axis=0), distances, spread


def walk_from_states(
    chain: Chain,
    x: np.ndarray,
    noisy: np.ndarray,
    level: np.ndarray,
    where: np.ndarray,
    m: Tensor,
    n_steps: int,
    is_scaled: bool,
    run: Run,
    n_at_once: int,
    dimensions: int,
    samples: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The chain of every image from a state of its own, as DDM² runs it; returns as `walk_series`.

    x, noisy   (X, Y, Z, G)  where the chains start, and the input that distances are from
    level      (G,)          noise of the input, the unit of distances
    m          (G, Z) int    the states
    n_steps    at most so many from there
    is_scaled  start from s_m x; False: from x itself, as the published program does
    """
    s, G = chain.sampler.schedule.alpha_bar.sqrt(), x.shape[3]

    def start(batch: Batch, rngs: list[torch.Generator]) -> Tensor:
        first = batch.y[:, :1]
        return first * like(s[m[batch.group, batch.z]], first) if is_scaled else first

    def distance(batch: Batch, x0_hat: Tensor, rows: Tensor) -> Tensor:
        unit = torch.from_numpy(level)[batch.group[rows]].to(x0_hat)
        return batch.rms(x0_hat, rows, 1) / unit

    return walk_series(
        chain, start, lambda batch: [even_path(int(t), n_steps) for t in m[batch.group, batch.z]],
        distance, np.concatenate([x, noisy], axis=3), where, np.arange(2 * G).reshape(2, G).T, run,
        "chain", n_at_once, dimensions=dimensions, samples=samples,
    )  # fmt: skip


def draw_images(chain: Chain, shape: tuple[int, ...], n: int, steps: int, run: Run) -> np.ndarray:
    """n images (X, Y, n) by the chain from noise alone, in so many steps."""
    path, images = even_path(chain.sampler.schedule.T, steps), []
    for k in range(n):
        rng = run.rng("sample", k)
        x_T = torch.randn((1, 1, *shape), generator=rng).to(run.device)
        with torch.no_grad():
            images.append(chain.run(x_T, [path], [rng])[0][0, 0].cpu().numpy())
        run.voice.progress("sampling", k + 1, n)
    return np.stack(images, axis=-1)


def keep_spread(spread: np.ndarray, volumes: np.ndarray, top: np.ndarray, run: Run) -> None:
    """Keep the standard deviation over samples, in the series' units; 0 in other volumes.

    spread   (X, Y, Z, G)  [-1, 1] units
    volumes  (G,)  of the scan
    top      (V,)  what became 1
    """
    whole = np.zeros((*spread.shape[:3], len(top)), dtype=np.float32)
    whole[..., volumes] = spread * top[volumes] / 2
    run.keep("spread", whole)


def keep_distances(distances: np.ndarray, volumes: np.ndarray, run: Run) -> None:
    """Keep how far every slice went from its input, and which slices stand out.

    distances  (G, Z, K)
    volumes    (G,)  of the scan
    """
    run.keep("distance from input", distances)
    odd = flagged(distances)
    run.keep("flagged slices", np.stack([volumes[odd[:, 0]], odd[:, 1]], axis=1))


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


FLIPS = ((), (2,), (3,), (2, 3))  # none, along x, along y, both; never along z


def over_flips(restore: Callable[[Tensor], Tensor], x: Tensor, n: int = 4) -> Tensor:
    """Mean over n flips of the un-flipped output, (B, C, H, W); 1: no flips."""
    return torch.stack([restore(x.flip(axes)).flip(axes) for axes in FLIPS[:n]]).mean(dim=0)


def flagged(far: np.ndarray) -> np.ndarray:
    """(n, 2) volume (of those denoised) and slice whose distance from the input stands out.

    far  (G, Z, k)  RMSE between input and x0_hat along the chain

    The last distance is about the noise. Far from that of the same slice in the other volumes
    (5 robust standard deviations) something was kept or taken that was not in the others.
    """
    last = np.take_along_axis(far, (~np.isnan(far)).sum(axis=2)[..., None] - 1, axis=2)[..., 0]
    last = np.where(np.isfinite(last), last, np.nan)  # a slice without signal has no distance
    known = ~np.isnan(last).all(axis=0)
    centre, mad = np.zeros(last.shape[1]), np.full(last.shape[1], np.inf)
    centre[known] = np.nanmedian(last[:, known], axis=0)
    mad[known] = 1.4826 * np.nanmedian(np.abs(last - centre)[:, known], axis=0)
    return np.argwhere(np.abs(last - centre) > 5 * np.maximum(mad, 0.02 * centre))
