"""State matching: which step of a diffusion chain is as noisy as a slice.

Paper   Xiang et al., "DDM²", ICLR 2023, arXiv:2302.03018, stage II (Eq. 4 and 5).
Idea    X = s_t Y + σ_t ε with Y an estimate of the clean slice: the state is the t whose σ_t is
        the standard deviation of X - s_t Y.
Here    That deviation follows from five moments of X and Y for every t at once.
Differs Eq. 5 prints √β_t for σ_t; it is at most 0.1 and constant over the first 300 steps, so it
        cannot tell them apart. It is there by name.
"""

import numpy as np
from torch import Tensor

from .schedule import Schedule, like

MATCHINGS = ("residual", "noise-model", "sqrt-beta", "half")
FEW_VOXELS = 50  # a slice with fewer in the mask takes the state of its volume's other slices


def match(
    schedule: Schedule, X: np.ndarray, Y: np.ndarray, where: np.ndarray, by: str, sigma: np.ndarray
) -> np.ndarray:
    """Stage II: the state of every slice, (G, Z) int.

    X, Y   (X, Y, Z, G)  noisy series and Phi's estimate, [-1, 1]
    where  (X, Y, Z) bool
    by     "residual": σ_t nearest to the standard deviation of X - s_t Y, at the first t after
           which they part again (five moments give it for every t at once); "sqrt-beta": √β_t
           instead, Eq. 5 as printed;
           "noise-model": σ_t / s_t nearest to sigma; "half": T / 2
    sigma  (G,)  noise of every volume, [-1, 1] units

    A slice with hardly a voxel in `where`, or with NaN, takes the median of its volume.
    """
    G, Z = X.shape[3], X.shape[2]
    s = schedule.alpha_bar.sqrt().numpy()
    levels = np.sqrt(1 - s**2)
    if by == "half":
        return np.full((G, Z), schedule.T // 2)
    if by == "noise-model":
        return np.repeat(nearest_state(schedule, sigma)[:, None], Z, axis=1)
    states = np.full((G, Z), -1)
    for z in range(Z):
        inside = where[:, :, z]
        x, y = (a[:, :, z][inside].astype(np.float64) for a in (X, Y))
        if len(x) < min(FEW_VOXELS, where.shape[0] * where.shape[1]):
            continue
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)
        var_x, cov, var_y = (x**2).mean(axis=0), (x * y).mean(axis=0), (y**2).mean(axis=0)
        var = var_x[:, None] - 2 * s * cov[:, None] + s**2 * var_y[:, None]  # (G, T + 1)
        scale = schedule.betas.sqrt().numpy() if by == "sqrt-beta" else levels
        distance = np.abs(scale - np.sqrt(np.maximum(var, 0)))
        rises = np.diff(distance, axis=1) > 0
        first = np.where(rises.any(axis=1), rises.argmax(axis=1), schedule.T)
        states[:, z] = np.where(np.isfinite(var).all(axis=1), first, -1)
    for g in range(G):
        known = states[g][states[g] >= 0]
        states[g][states[g] < 0] = int(np.median(known)) if len(known) else 0
    return states


def match_variance(schedule: Schedule, variance: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The state of every slice, (G, Z), whose σ_t / s_t is nearest to the known error.

    variance  (X, Y, Z, G)  of the error

    A slice without a voxel in `where` takes the mean of its volume.
    """
    inside = where[..., None] if where.any() else np.ones_like(where)[..., None]
    n = inside.sum(axis=(0, 1))
    total = (variance * inside).sum(axis=(0, 1))  # (Z, G)
    mean = np.where(n > 0, total / np.maximum(n, 1), total.sum(axis=0) / n.sum())
    return nearest_state(schedule, np.sqrt(mean).T)


def nearest_state(schedule: Schedule, sigma: np.ndarray) -> np.ndarray:
    """The t whose σ_t / s_t, noise over signal, is nearest to sigma; int, as sigma."""
    s = schedule.alpha_bar.sqrt().numpy()
    return np.asarray(np.abs(np.sqrt(1 - s**2) / s - sigma[..., None]).argmin(axis=-1))


def calibrate(X: Tensor, Y: Tensor, schedule: Schedule, m: Tensor) -> tuple[Tensor, Tensor]:
    """Y' and ε such that s_m Y' + σ_m ε = X exactly and ε has mean 0 in every image (Eq. 4)."""
    s_m, sigma_m = like(schedule.alpha_bar[m].sqrt(), X), like(schedule.sigma(m), X)
    eps = (X - s_m * Y) / sigma_m
    mean = eps.flatten(1).mean(dim=1).reshape(-1, *[1] * (X.ndim - 1))
    return Y + mean * sigma_m / s_m, eps - mean
