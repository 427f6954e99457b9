"""Without a truth, with a second acquisition: the true mean squared error from a repeat.

Idea    Denoise repeat 1 only and compare it with the raw repeat 2. The noise n₂ of repeat 2
        is independent of everything that was done to repeat 1, so
            mean (x̂₁ - y₂)² = mean (x̂₁ - x)² + σ²,   hence   MSE/σ² = mean (x̂₁ - y₂)²/σ² - 1.
        Doing nothing scores 1, the truth scores 0; the number is unbiased, no fit, no model.
Needs   The same head position in both. Motion, drift and (in magnitude data) the noise floor,
        which repeats share, are not seen by it: a biased denoiser is compared with y₂'s own
        mean, which is above the true signal where the SNR is below about 3.
"""

from dataclasses import dataclass

import numpy as np

from .reference import masked


@dataclass(frozen=True)
class RepeatScore:
    """What a repeat says about a denoiser."""

    mse_over_variance: float  # MSE/σ²: 1 = nothing gained, 0 = perfect; may fall below 0 by chance
    standard_error: float  # of it, from the scatter over volumes; NaN with one volume
    n_volumes: int

    @property
    def gain_db(self) -> float:
        """-10 log10(MSE/σ²): 3 dB is like scanning twice as long; inf if the score is ≤ 0."""
        if self.mse_over_variance <= 0:
            return float("inf")
        return float(-10 * np.log10(self.mse_over_variance))


def mse_over_variance(
    denoised: np.ndarray, repeat: np.ndarray, sigma: np.ndarray | float, mask: np.ndarray
) -> RepeatScore:
    """Score a denoised repeat 1 against the raw repeat 2.

    denoised  (X, Y, Z, V)         data units, made from repeat 1 alone
    repeat    (X, Y, Z, V)         data units, raw, the same volumes in the same order
    sigma     scalar or (X, Y, Z)  noise of one raw volume, data units: `sigma_of_repeats`, or a map
    mask      (X, Y, Z)            where to measure; voxels with sigma = 0 are left out

    The standard error treats volumes as independent; it does not hold the error of sigma itself,
    which moves all methods on the same pair alike.
    """
    if denoised.shape != repeat.shape or denoised.shape[:3] != mask.shape:
        raise ValueError(f"shapes differ: {denoised.shape}, {repeat.shape}, mask {mask.shape}.")
    noise = np.broadcast_to(np.asarray(sigma, dtype=np.float64), mask.shape)
    where = mask & (noise > 0)
    if not where.any():
        raise ValueError("no voxel of the mask has a noise level above 0.")
    weights = 1 / noise[where] ** 2
    n_volumes = denoised.shape[3]
    scores = np.empty(n_volumes)
    for v in range(n_volumes):
        difference = masked(denoised, where, v) - masked(repeat, where, v)
        scores[v] = np.mean(difference**2 * weights) - 1
    error = scores.std(ddof=1) / np.sqrt(n_volumes) if n_volumes > 1 else float("nan")
    return RepeatScore(float(scores.mean()), float(error), n_volumes)


def sigma_of_repeats(first: np.ndarray, second: np.ndarray, mask: np.ndarray) -> float:
    """Noise of one volume from two raw repeats: σ = sd(y₁ - y₂) / √2, pooled over the volumes.

    first   (X, Y, Z, V)  data units, raw
    second  (X, Y, Z, V)  data units, raw
    mask    (X, Y, Z)     where to measure

    The signal cancels in the difference, and two independent noises add their variances, hence
    the √2. Each volume's mean difference (drift) is taken off first. With this σ, "do nothing"
    scores 1 by construction, up to that drift.
    """
    variances = [
        np.var(masked(first, mask, v) - masked(second, mask, v)) for v in range(first.shape[3])
    ]
    return float(np.sqrt(np.mean(variances) / 2))
