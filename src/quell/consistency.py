"""Data consistency: an estimate made without a volume, and the volume itself, weighed together.

Idea    The estimate's error e and the volume's noise n are independent, so the best linear
        combination weighs each by the inverse of its variance,
            c = w estimate + (1 - w) x,   w = σ² / (σ² + v),   Var(c - truth) = σ² v / (σ² + v),
        and v = Var(e) can be seen: the mean of (x - estimate)² is σ² + v.
Here    v is the mean over the volumes of one shell and over neighbouring voxels: an estimate from
        other volumes misses the same fibres in all of them.
Differs nothing
"""

import numpy as np
from scipy import ndimage

WINDOW = 1.0  # voxels, standard deviation in plane; the mean over volumes is sharp already
LEAST = 0.02  # of σ²: v below it would take the volume's own say away


def consistent(
    x: np.ndarray, estimate: np.ndarray, sigma: np.ndarray, shell: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """c and the variance of its error, both (X, Y, Z, G).

    x         (X, Y, Z, G)  noisy volumes
    estimate  (X, Y, Z, G)  each made without a look at the same volume of x
    sigma     (X, Y, Z, G) or what broadcasts to it, noise of x
    shell     (G,)          which volumes are alike
    """
    combined, variance = np.empty_like(x), np.empty_like(x)
    noise = np.broadcast_to(np.square(sigma, dtype=np.float32), x.shape)
    for one in np.unique(shell):
        members = np.flatnonzero(shell == one)
        excess = np.zeros(x.shape[:3], dtype=np.float32)
        for g in members:
            excess += ((x[..., g] - estimate[..., g]) ** 2 - noise[..., g]) / len(members)
        excess = ndimage.gaussian_filter(excess, (WINDOW, WINDOW, 0))
        for g in members:
            v = np.maximum(excess, LEAST * noise[..., g] + np.finfo(np.float32).tiny)
            w = noise[..., g] / (noise[..., g] + v)
            combined[..., g] = w * estimate[..., g] + (1 - w) * x[..., g]
            variance[..., g] = w * v
    return combined, variance


def keep_means(result: np.ndarray, x: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The result with the mean that every volume of x has in `where`; (X, Y, Z, G).

    The mean of the noise over N voxels is only σ/√N, while a network may be off by more.
    """
    shift = x[where].mean(axis=0, dtype=np.float64) - result[where].mean(axis=0, dtype=np.float64)
    return result + shift.astype(np.float32)


def keep_means_in(region: np.ndarray, result: np.ndarray, x: np.ndarray) -> None:
    """Give every volume of the result the mean that x has in a region, in place and there alone.

    region     (X, Y, Z) bool
    result, x  (X, Y, Z, G)
    """
    shift = np.zeros(x.shape[3])
    for z in range(x.shape[2]):  # not by volume: those lie strided in memory
        here = region[:, :, z]
        shift += (x[:, :, z][here] - result[:, :, z][here]).sum(axis=0)
    result[region] += (shift / max(1, region.sum())).astype(np.float32)
