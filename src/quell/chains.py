"""Chains: the way of every image of a series down a schedule, and how far each went.

Papers  Xiang et al., "DDM²", ICLR 2023, arXiv:2302.03018 (a chain from the state that matches the
        noise); Wu et al., "Di-Fusion", ICLR 2025, arXiv:2501.13514 (an end by distance). The mean
        over flips is that of the released code of DDM².
Here    Image k of a series always has the same random numbers, whatever shares its batch.
Differs nothing
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from .run import Run, onto
from .sampling import Sampler, even_path
from .schedule import like
from .slices import Batch, map_images


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
