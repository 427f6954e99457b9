"""Background: the noise of a few images, from the air around the head.

Idea    Air gives no signal, so what is there is noise. Complex and signed data show it as it is; in
        magnitude data with N coils m² / sigma² is chi-square with 2 N degrees of freedom.
Here    Medians, so that a ghost or a vessel that pulses into the air changes little. One sigma for
        each volume, everywhere the same: air says nothing about how it varies inside the head.
        Where the scanner zeroed the air, the finest detail in the mask stands in: its noise is
        taken for white, and edges count as noise.
Differs Of m² only the square of the correlation shows; its sign is taken to be positive, as
        filters and zero-filling make it.
"""

import numpy as np
from scipy import ndimage, special, stats

FEW = 1000  # values of air that are needed
FAR = 4  # voxels of distance from the head
MAD = 1.4826  # standard deviation of a Gaussian over its median absolute deviation


def air_of(data: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """(X, Y, Z) bool: air, away from the head; None where it was zeroed or there is too little.

    data  (X, Y, Z, V)
    """
    air = ~ndimage.binary_dilation(mask, iterations=FAR)
    values = data[air]
    if values.size < FEW or np.mean(values == 0) > 0.1:
        return None
    return np.asarray(air & (data != 0).all(axis=3))


def sigma_of_air(values: np.ndarray, law: str, n_coils: float) -> np.ndarray:
    """(V,) noise of each volume from its air, (voxels, V)."""
    if law == "gaussian":
        return np.asarray(MAD * np.median(np.abs(values - np.median(values, axis=0)), axis=0))
    return np.asarray(np.sqrt(np.median(values**2, axis=0) / stats.chi2.median(2 * n_coils)))


def sigma_of_detail(data: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(V,) noise of each volume from the differences of diagonal neighbours in the mask.

    (a - b - c + d) / 2 of four voxels in a square: white noise keeps its variance, and all that
    is smooth, or an edge along x or y, cancels.
    """
    d = (data[1:, 1:] - data[1:, :-1] - data[:-1, 1:] + data[:-1, :-1]) / 2
    inside = mask[1:, 1:] & mask[1:, :-1] & mask[:-1, 1:] & mask[:-1, :-1]
    values = d[inside if inside.any() else np.ones_like(inside)]
    return np.asarray(MAD * np.median(np.abs(values), axis=0))


def images_of_air(data: np.ndarray, air: np.ndarray, sigma: np.ndarray, law: str) -> np.ndarray:
    """(V, voxels of the air): what is as correlated as the noise, or in magnitude data its square.

    sigma  (V,)
    """
    values = (data[air] / sigma).T.astype(np.float64)
    values = values if law == "gaussian" else values**2
    values -= np.median(values, axis=1, keepdims=True)
    spread = MAD * np.median(np.abs(values), axis=1, keepdims=True)
    clipped = np.clip(values, -6 * spread, 6 * spread)
    return np.asarray(clipped - clipped.mean(axis=1, keepdims=True))


def correlation_of_squares(correlation: np.ndarray, n: int) -> np.ndarray:
    """The correlation of the noise from that of m², over n voxels: its root, 0 if not certain."""
    is_certain = correlation > 4 / np.sqrt(n)
    return np.where(is_certain, np.sqrt(np.maximum(correlation, 0)), 0.0)


def coils_of_background(data: np.ndarray, mask: np.ndarray) -> float | None:
    """N of nc-chi from the air around the head: (mean m)² / mean m² grows with N.

    (mean m)² comes from products of different volumes, so sigma may vary from voxel to voxel.
    None where the scanner zeroed the background, there is too little of it, or one volume only.
    """
    air = ~ndimage.binary_dilation(mask, iterations=FAR)
    values = data[air].astype(np.float64)
    if values.size < FEW or values.shape[1] < 2 or np.mean(values == 0) > 0.1:
        return None
    power = (values**2).mean(axis=1)
    values = values[power < 2 * np.quantile(power, 0.25)]  # scalp and ghosts are no air
    square = np.sum(values**2)
    ratio = (np.sum(values.sum(axis=1) ** 2) - square) / ((values.shape[1] - 1) * square)
    n = np.geomspace(0.5, 64, 200)
    expected = np.exp(2 * (special.gammaln(n + 0.5) - special.gammaln(n))) / n
    return float(np.interp(ratio, expected, n))
