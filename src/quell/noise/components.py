"""Principal components over the volumes of a scan, and the images of pure noise among them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ..scaling import Scale
from ..series import Series
from .edge import noise_edge

ROWS_AT_ONCE = 4096  # of a covariance: few enough that sums of float32 keep their digits
FEW_VOLUMES = 8  # below it the trailing components still hold signal
BULK_EDGE = 1.15  # an eigenvalue this far above the mean of those below it is signal
SLACK = 1.07  # of the noise edge: no noise map is exact, which makes the bulk a little wider


@dataclass(frozen=True)
class NoiseImages:
    """Images of pure noise: the volumes, centred, times `projector`.

    values     (n, voxels in mask)
    mean       (V,)  of each volume in the mask
    projector  (V, n)  unit columns: trailing eigenvectors, or differences of two volumes
    spectrum   (V,)  eigenvalues, largest first, in units of the noise variance
    source     in words
    hold_contrast  whether they are differences of volumes that do not show the same
    """

    values: np.ndarray
    mean: np.ndarray
    projector: np.ndarray
    spectrum: np.ndarray
    source: str
    hold_contrast: bool = False

    def power(self, mask: np.ndarray) -> np.ndarray:
        """(X, Y, Z) mean square of the images, 0 outside the mask."""
        power = np.zeros(mask.shape, dtype=np.float32)
        power[mask] = np.mean(self.values**2, axis=0)
        return power


def noise_images(
    series: Series, mask: np.ndarray, scale: Scale, n_independent: float | None = None
) -> NoiseImages:
    """Images of noise in the scale's units.

    n_independent  voxels of independent noise in the mask; None: all
    """
    Y = voxels_in_mask(series.data, mask, scale)
    mean, values, vectors = principal_components(Y)
    if series.n_volumes >= FEW_VOLUMES:
        n = n_noise_components(values, n_independent or float(np.count_nonzero(mask)))
        projector = vectors[:, -n:]
        source = f"{n} noise-only components of {len(values)}"
    else:
        pairs, source = _pairs(series)
        projector = np.zeros((series.n_volumes, len(pairs)))
        for column, (i, j) in enumerate(pairs):
            projector[[i, j], column] = np.sqrt(0.5), -np.sqrt(0.5)
    projector = projector.astype(np.float32)
    Y -= mean  # Y is ours
    noise = (Y @ projector).T
    del Y
    spectrum = values / float(np.mean(noise**2, dtype=np.float64))
    return NoiseImages(noise, mean, projector, spectrum, source, not has_noise_images(series))


def has_noise_images(series: Series) -> bool:
    """Whether trailing components, or differences of volumes that show the same, are noise."""
    is_alike = series.fourth_axis == "repetitions" or np.count_nonzero(series.is_b0) >= 2
    return series.n_volumes >= FEW_VOLUMES or bool(is_alike)


def _pairs(series: Series) -> tuple[list[tuple[int, int]], str]:
    """Pairs of volumes whose difference is mostly noise, for scans of few volumes."""
    if series.fourth_axis == "repetitions":
        return list(pairwise(range(series.n_volumes))), "differences of repetitions"
    b0s = np.flatnonzero(series.is_b0)
    if len(b0s) >= 2:
        return list(pairwise(b0s)), f"differences of {len(b0s)} b0 volumes"
    if series.bvals is None or series.bvecs is None:
        return list(pairwise(range(series.n_volumes))), (
            "differences of consecutive volumes: their contrast counts as noise"
        )
    dwis = np.flatnonzero(~series.is_b0)
    if len(dwis) < 2:
        return [(0, 1)], "the difference of two volumes: their contrast counts as noise"
    closeness = np.abs(series.bvecs[dwis] @ series.bvecs[dwis].T)
    shells = np.round(series.bvals[dwis], -2)
    closeness -= 2.0 * (shells[:, None] != shells[None]) + 4.0 * np.eye(len(dwis))
    nearest = dwis[closeness.argmax(axis=1)]
    pairs = {(min(i, j), max(i, j)) for i, j in zip(dwis, nearest, strict=True)}
    return sorted(pairs), "differences of neighbouring directions: their contrast counts as noise"


def voxels_in_mask(data: np.ndarray, mask: np.ndarray, scale: Scale) -> np.ndarray:
    """(voxels, V) of the mask in the scale's units."""
    Y, sigma = data[mask].astype(np.float32, copy=False), scale.sigma[mask]
    for rows in _chunks(len(Y)):  # a part at a time: no second copy
        inside = replace(scale, sigma=sigma[rows][:, None, None])
        Y[rows] = inside.apply(Y[rows][:, None, None, :])[:, 0, 0, :]
    return Y


def principal_components(Y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (V,), eigenvalues (V,) largest first and eigenvectors (V, V) of the voxels of a scan.

    Y  (voxels, V)
    """
    mean, C = mean_and_covariance(Y)
    values, vectors = np.linalg.eigh(C)
    vectors = vectors[:, ::-1]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(vectors))])
    return mean, values[::-1].copy(), vectors * signs  # eigh leaves the signs open


def mean_and_covariance(Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (V,) and covariance (V, V) of the rows of Y (voxels, V)."""
    mean = Y.mean(axis=0, dtype=np.float64).astype(np.float32)
    C = np.zeros((Y.shape[1], Y.shape[1]))
    size = np.abs(Y[:ROWS_AT_ONCE]).max() or np.float32(1)  # squares of float32 end at 1e38
    for rows in _chunks(len(Y), ROWS_AT_ONCE):
        centred = (Y[rows] - mean) / size
        C += centred.T @ centred
    C *= float(size) ** 2
    return mean, C / len(Y)


def _chunks(n: int, size: int = 65536) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, start + size)


def n_noise_components(values: np.ndarray, n_voxels: float, least: float = BULK_EDGE) -> int:
    """How many trailing eigenvalues are pure noise.

    values    (V,)  eigenvalues, largest first
    n_voxels  independent voxels they were computed from
    least     edge of the noise over its mean, at least

    The smallest third is noise; each next one is, too, while it lies within the noise edge and
    its slack, times the mean of those below it.
    """
    rising = values[::-1]
    edge = max(least, SLACK * noise_edge(len(values), n_voxels))
    n = max(2, len(values) // 3)
    while n < len(values) - 1 and rising[n] <= edge * rising[:n].mean():
        n += 1
    return n
