"""Structures of known size and strength, added to a scan as the scanner would have seen them.

Idea    What a denoiser erases is seen by adding something and asking for it back. A blob is a ball
        of uniform strength, in one volume, in some that are alike, or in all of them.
Source  Gudbjartsson and Patz 1995; Constantinides et al. 1997 (the laws of magnitudes).
Here    Strengths are in units of the scan's own noise, voxel by voxel. The noise of the scan is
        kept: its signal gets stronger, nothing is drawn anew. In complex data a blob has the phase
        of the signal around it.
Trap    A magnitude y of low signal does not grow by b. The signal S lies along one axis of the 2 N
        parts of N coils, the parts that were measured at an angle θ to it that is no longer known,
        and |y + b|² = y² + 2 y b cos θ + b². Given y and S, the density of θ is proportional to
        exp(y S / σ² cos θ) sin^(2N - 2) θ, so θ is drawn from it, and S is taken from the mean
        square of the neighbours, E y² = S² + 2 N σ². Well above the noise this is y + b.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..noise import NoiseModel

ANGLES = 256  # at which the density of θ is computed
NEAR = (5, 5, 3)  # voxels; fewer would take noise for signal where there is none
WIDTHS = 6.0  # of that density; the rest of the circle is empty


@dataclass(frozen=True)
class Kind:
    """What a blob is like.

    radius    voxels
    strength  in units of the noise's standard deviation
    volumes   in how many it is seen
    """

    radius: float
    strength: float
    volumes: int


@dataclass(frozen=True, eq=False)
class Blob:
    """One structure in a scan.

    voxels   (3, n)  where it is
    volumes  (k,)    those that show it
    is_edge  whether it lies where the anatomy is steep, not flat
    """

    kind: Kind
    voxels: np.ndarray
    volumes: np.ndarray
    is_edge: bool

    @property
    def centre(self) -> np.ndarray:
        """(3,) its middle voxel."""
        return np.round(self.voxels.mean(axis=1)).astype(int)


def ball(radius: float, n_slices: int) -> np.ndarray:
    """(3, n) offsets of the voxels of a ball from its middle.

    n_slices  of the grid; a ball that is too high for it is cut to its middle slices
    """
    r = int(radius)
    grid = np.mgrid[-r : r + 1, -r : r + 1, -r : r + 1].reshape(3, -1)
    is_inside = (grid**2).sum(axis=0) <= radius**2
    return np.asarray(grid[:, is_inside & (np.abs(grid[2]) <= (n_slices - 1) // 2)])


def detectability(kind: Kind, voxels: np.ndarray, covariance: np.ndarray) -> float:
    """The mean of a blob over the standard deviation that noise alone gives this mean.

    voxels      (3, n)  of it
    covariance  (2Lx+1, 2Ly+1, 2Lz+1)  correlation of the noise at those lags, 1 in the centre

    A √k n / √Σ C, C over all pairs of its voxels; √(k n) A for white noise.
    """
    middle = np.array(covariance.shape)[:, None, None] // 2
    at = voxels[:, :, None] - voxels[:, None, :] + middle
    is_known = ((at >= 0) & (at < 2 * middle + 1)).all(axis=0)
    n, total = voxels.shape[1], float(covariance[tuple(at[:, is_known])].sum())
    return float(kind.strength * n * np.sqrt(kind.volumes / max(total, 1.0)))


def add_blobs(
    data: np.ndarray,
    blobs: Sequence[Blob],
    noise: NoiseModel,
    rng: np.random.Generator,
    phase: np.ndarray | None = None,
) -> np.ndarray:
    """The scan with the blobs in it, (X, Y, Z, V).

    data   (X, Y, Z, V)  scanner units, not changed; complex with a phase
    blobs  that do not touch each other in a volume
    phase  (X, Y, Z, V)  complex of magnitude 1, of the signal; None for real data
    """
    more = data.copy()
    for blob in blobs:
        x, y, z = (axis[:, None] for axis in blob.voxels)
        at = (x, y, z, blob.volumes[None, :])
        sigma = sigma_of(noise, blob)
        b = np.float32(blob.kind.strength) * sigma
        if phase is not None:
            more[at] = data[at] + b * phase[at]
        elif noise.law == "gaussian":
            more[at] = data[at] + b
        else:
            cosine = _cosines(data[at], _signal(data, blob, noise), sigma, noise.n_coils, rng)
            more[at] = np.sqrt(data[at] ** 2 + 2 * data[at] * b * cosine + b**2)
    return more


def sigma_of(noise: NoiseModel, blob: Blob) -> np.ndarray:
    """(n, k) noise of a blob's voxels in its volumes."""
    sigma = noise.sigma[tuple(blob.voxels)][:, None]
    levels = 1.0 if noise.levels is None else noise.levels[blob.volumes][None, :]
    shape = (blob.voxels.shape[1], len(blob.volumes))
    return np.broadcast_to(np.asarray(sigma * levels, dtype=np.float32), shape)


def _signal(data: np.ndarray, blob: Blob, noise: NoiseModel) -> np.ndarray:
    """(n, k) the signal S at a blob's voxels, from the mean square of `NEAR` around each."""
    beyond = np.array(NEAR) // 2
    low = np.maximum(blob.voxels.min(axis=1) - beyond, 0)
    high = np.minimum(blob.voxels.max(axis=1) + beyond + 1, data.shape[:3])
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    power = data[box][..., blob.volumes].astype(np.float64) ** 2
    mean = ndimage.uniform_filter(power, (*NEAR, 1), mode="nearest")
    x, y, z = blob.voxels - low[:, None]
    floor = 2 * noise.n_coils * sigma_of(noise, blob) ** 2
    return np.asarray(np.sqrt(np.maximum(mean[x, y, z] - floor, 0)))


def _cosines(
    y: np.ndarray, S: np.ndarray, sigma: np.ndarray, N: float, rng: np.random.Generator
) -> np.ndarray:
    """cos θ of measured magnitudes, drawn given y and S, all of one shape."""
    kappa = (y * S / sigma**2).astype(np.float64)[..., None]
    widest = np.minimum(np.pi, (WIDTHS + np.sqrt(2 * N)) / np.sqrt(np.maximum(kappa, 1e-9)))
    theta = (np.arange(ANGLES) + 0.5) / ANGLES * widest
    with np.errstate(divide="ignore"):
        log = kappa * (np.cos(theta) - 1) + (2 * N - 2) * np.log(np.sin(theta))
    weights = np.cumsum(np.exp(log - log.max(axis=-1, keepdims=True)), axis=-1)
    u = rng.random(y.shape)[..., None] * weights[..., -1:]
    drawn = np.take_along_axis(theta, (weights < u).sum(axis=-1, keepdims=True), axis=-1)
    return np.asarray(np.cos(drawn[..., 0]), dtype=np.float32)
