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
from scipy import ndimage, special

FEW = 1000  # values of air that are needed
FAR = 4  # voxels of distance from the head
NEAR = 9  # voxels, edge of the squares whose mean square tells scalp and ghosts from air ...
BRIGHT = 4.0  # ... where it is further above the lower quarter than so many times its own spread
AROUND = 6.0  # voxels, standard deviation of the window in which the noise is as strong as here
DISTANT = 4  # voxels along x and along y; noise does not reach so far
CERTAIN = 4.5  # standard errors: of hundreds of lags none is taken for more than chance
QUIET = 0.85  # low decile of the root mean square of white noise over such squares, over sigma
LEAST_DETAIL = 0.1  # of the variance; less is taken for an interpolated image, not for strong noise
MAD = 1.4826  # standard deviation of a Gaussian over its median absolute deviation


def air_of(data: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """(X, Y, Z) bool: air, away from the head; None where it was zeroed or there is too little.

    data  (X, Y, Z, V)
    """
    air = ~ndimage.binary_dilation(mask, iterations=FAR)
    V = data.shape[3]
    n_values, n_zeros = V * int(np.count_nonzero(air)), 0
    is_zero = np.zeros_like(air)
    for v in range(V):  # a volume at a time: no copy of the scan
        zero = air & (data[..., v] == 0)
        n_zeros += int(np.count_nonzero(zero))
        is_zero |= zero
    if n_values < FEW or n_zeros > 0.1 * n_values:
        return None
    air &= ~is_zero
    if not air.any():
        return None
    is_bright = np.zeros_like(air)
    for v in range(V):
        is_bright |= _bright(data[..., v], air)
    air &= ~is_bright
    return air if np.count_nonzero(air) * V >= FEW else None


def _bright(volume: np.ndarray, air: np.ndarray) -> np.ndarray:
    """(X, Y, Z) bool: scalp and ghosts, which a mask of the brain leaves among the air.

    volume, air  (X, Y, Z)
    """
    square = (NEAR, NEAR, 1)
    share = ndimage.uniform_filter(air.astype(np.float32), square)
    centre = np.median(volume[air]) if volume.min() < 0 else 0.0
    power = ndimage.uniform_filter(
        np.where(air, volume - centre, 0).astype(np.float32) ** 2, square
    )
    power += (1 - share) * np.quantile(power[air] / share[air], 0.25)  # few values decide little
    lowest, low = np.quantile(power[air], [0.05, 0.25])  # of air, even if half of it is none
    return np.asarray(air & (power > low + BRIGHT * (low - lowest)))


def robust_sd(values: np.ndarray) -> np.ndarray:
    """(...) standard deviation along the first axis, by the median, which outliers hardly move."""
    return np.asarray(MAD * np.median(np.abs(values - np.median(values, axis=0)), axis=0))


def sigma_of_air(values: np.ndarray, law: str, n_coils: float) -> np.ndarray:
    """(V,) noise of each volume from its air, (voxels, V)."""
    if law == "gaussian":
        return robust_sd(values)
    middle = 2 * special.gammaincinv(n_coils, 0.5)  # median of chi-square, 2 N degrees of freedom
    return np.asarray(np.sqrt(np.median(values**2, axis=0) / middle))


def sigma_of_detail(
    data: np.ndarray, mask: np.ndarray, covariance: np.ndarray | None = None
) -> np.ndarray:
    """(V,) noise of each volume from its finest detail in the mask.

    covariance  by lag, lag 0 in the centre; None: the noise is white
    """
    d = _detail(data)
    inside = mask[1:, 1:] & mask[1:, :-1] & mask[:-1, 1:] & mask[:-1, :-1]
    values = d[inside if inside.any() else np.ones_like(inside)]
    share = 1.0 if covariance is None else variance_of_detail(covariance)
    return np.asarray(MAD * np.median(np.abs(values), axis=0) / np.sqrt(share))


def variance_of_detail(covariance: np.ndarray) -> float:
    """Variance of the finest detail of noise over that of the noise; 1 where it is white."""
    i, j, k = (n // 2 for n in covariance.shape)
    c = covariance[:, :, k]
    across = (c[i + 1, j + 1] + c[i + 1, j - 1]) / 2
    return float(max(1 - c[i + 1, j] - c[i, j + 1] + across, LEAST_DETAIL))


def _detail(images: np.ndarray) -> np.ndarray:
    """(X - 1, Y - 1, ...) (a - b - c + d) / 2 of the four voxels of every square in plane.

    White noise keeps its variance, and all that is smooth, or an edge along x or y, cancels.
    """
    a, b, c, d = images[1:, 1:], images[1:, :-1], images[:-1, 1:], images[:-1, :-1]
    return (a - b - c + d) / 2


def quiet_detail(data: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(V,) noise of each volume where the head shows least: a low decile of its local detail."""
    found = []
    for v in range(data.shape[3]):
        local = np.sqrt(ndimage.uniform_filter(_detail(data[..., v]) ** 2, (NEAR, NEAR, 1)))
        inside = mask[1:, 1:]
        found.append(np.quantile(local[inside], 0.1) / QUIET if inside.any() else 0.0)
    return np.array(found)


def images_of_air(data: np.ndarray, air: np.ndarray, law: str) -> np.ndarray:
    """(V, voxels of the air): what is as correlated as the noise, or in magnitude data its square.

    Each voxel in units of the noise around it: where noise is stronger in one place than in
    another, squares would seem to correlate at any distance.
    """
    images = np.empty((data.shape[3], int(np.count_nonzero(air))))
    share = ndimage.gaussian_filter(air.astype(np.float32), (AROUND, AROUND, 0))[air]
    for v, values in enumerate(images):
        volume = data[..., v].astype(np.float32)
        volume = volume - np.median(volume[air]) if law == "gaussian" else volume
        power = ndimage.gaussian_filter(np.where(air, volume**2, 0), (AROUND, AROUND, 0))[air]
        level = np.sqrt(power / share)
        values[:] = volume[air] / level if law == "gaussian" else (volume[air] / level) ** 2
        values -= np.median(values)
        limit = 6 * MAD * np.median(np.abs(values))
        np.clip(values, -limit, limit, out=values)
        values -= values.mean()
    return images


def above_distant(correlation: np.ndarray) -> np.ndarray:
    """The correlation above that of voxels far apart, which ghosts and shading alone have.

    correlation  (2Lx+1, 2Ly+1, 2Lz+1), in plane to lags of 6
    """
    far = np.ones(correlation.shape[:2], dtype=bool)
    for axis in (0, 1):
        n = correlation.shape[axis]
        is_far = np.abs(np.arange(n) - n // 2) >= DISTANT
        far &= is_far[:, None].swapaxes(0, axis)
    base = np.median(correlation[far], axis=0)
    above = np.asarray((correlation - base) / (1 - base))
    above[tuple(n // 2 for n in above.shape)] = 1.0
    return above


def correlation_of_squares(
    correlation: np.ndarray, n: np.ndarray, near: float = CERTAIN
) -> np.ndarray:
    """The correlation of the noise from that of m²: its root, 0 where it is not certain.

    correlation  by lag, lag 0 in the centre
    n            pairs of voxels that each was measured from
    near         standard errors that the next neighbours need
    """
    lags = np.indices(correlation.shape)
    for axis, size in enumerate(correlation.shape):
        lags[axis] -= size // 2
    least = np.where(np.abs(lags).sum(axis=0) == 1, near, CERTAIN)
    is_certain = correlation > least / np.sqrt(np.maximum(n, 1))
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
