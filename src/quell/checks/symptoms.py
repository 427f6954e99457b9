"""Symptoms: what the voxels themselves tell about how a scan was made, in numbers.

Idea    Some of a scan's history is in no header: that it was smoothed, zero-filled, moved or
        clipped shows in its noise, its spectrum and its slice means.
Here    Quick measures on a few slices. `voxels` judges them; the noise model comes later.
Differs Nothing here is taken from a paper.
"""

import numpy as np
from scipy import ndimage

MAX_SLICES = 10  # looked at, in neighbouring pairs
MAX_VOLUMES = 24  # looked at
BLOCK = 12  # voxels, edge of the blocks in which volumes share components


def sampled_slices(mask: np.ndarray) -> np.ndarray:
    """Indices (n,) of slices in neighbouring pairs, spread over the part of the mask that is big.

    mask  (X, Y, Z) bool
    """
    area = mask.sum(axis=(0, 1))
    big = np.flatnonzero(area >= 0.5 * area.max())
    starts = np.linspace(big[0], max(big[-1] - 1, big[0]), MAX_SLICES // 2).astype(int)
    return np.unique(np.concatenate([starts, np.minimum(starts + 1, mask.shape[2] - 1)]))


def noise_like_part(data: np.ndarray, mask: np.ndarray, n_shared: int) -> np.ndarray:
    """What is left (X, Y, n, V) once the strongest components of all volumes are taken away.

    data      (X, Y, n, V)  real, volumes of one contrast
    mask      (X, Y, n)     bool
    n_shared  components taken away, block by block in plane; of V

    Scaled to the noise's own standard deviation, for few components; the more are taken, the lower
    it comes out, as the strongest hold more than their share of the noise.
    """
    n_volumes = data.shape[3]
    left = np.zeros(data.shape, dtype=np.float64)
    if n_volumes <= n_shared:  # one image: nothing tells its noise from what it shows
        return left
    for x in range(0, data.shape[0], BLOCK):
        for y in range(0, data.shape[1], BLOCK):
            here = np.s_[x : x + BLOCK, y : y + BLOCK]
            voxels = np.where(mask[here][..., None], data[here], 0).astype(np.float64)
            voxels = np.moveaxis(voxels, 2, 0).reshape(mask.shape[2], -1, n_volumes)
            _, axes = np.linalg.eigh(np.swapaxes(voxels, 1, 2) @ voxels)  # one block per slice
            rest = axes[:, :, : n_volumes - n_shared]
            voxels = (voxels @ rest) @ np.swapaxes(rest, 1, 2)
            shape = (mask.shape[2], *mask[here].shape[:2], n_volumes)
            left[here] = np.moveaxis(voxels.reshape(shape), 0, 2)
    return left * np.sqrt(n_volumes / (n_volumes - n_shared))


def lag_correlation(residual: np.ndarray, mask: np.ndarray, slices: np.ndarray) -> np.ndarray:
    """Correlation (3,) of the residual with its neighbour along x, y and z; nan where unknown.

    residual  (X, Y, n, V)  noise-like
    mask      (X, Y, n)     bool
    slices    (n,)          where the n slices lie in the scan
    """
    r = np.where(mask[..., None], residual, 0)
    neighbours = slices[1:] == slices[:-1] + 1
    pairs = (
        (r[1:], r[:-1]),
        (r[:, 1:], r[:, :-1]),
        (r[:, :, 1:][:, :, neighbours], r[:, :, :-1][:, :, neighbours]),
    )
    found = []
    for a, b in pairs:
        both = (a != 0) & (b != 0)
        power = np.sum(a * a, where=both) + np.sum(b * b, where=both)
        found.append(2 * np.sum(a * b) / power if power > 0 else np.nan)
    return np.array(found)


def outer_power(images: np.ndarray, mask: np.ndarray, axis: int) -> float:
    """Power of the outermost tenth of k-space along an axis, relative to the tenths inside it.

    images  (X, Y, n)  bright images: the magnitude of weak signal is not band-limited
    mask    (X, Y)     bool, the object
    axis    0 or 1

    Near 1 where white noise fills k-space, near 0 where the scanner filled in zeros.
    """
    inside = [np.flatnonzero(mask.any(axis=1 - a)) for a in (0, 1)]
    spans = [(i[0] + len(i) // 8, i[0] + len(i) - len(i) // 8) for i in inside]
    (x0, x1), (y0, y1) = spans
    taper = np.outer(np.hanning(x1 - x0), np.hanning(y1 - y0))[..., None]  # no edge of the object
    spectrum = np.abs(np.fft.fft2(images[x0:x1, y0:y1] * taper, axes=(0, 1))) ** 2
    kx, ky = (np.abs(np.fft.fftfreq(n)) for n in taper.shape[:2])
    along, across = (kx, ky) if axis == 0 else (ky, kx)
    power = np.compress(across > 0.2, spectrum, axis=1 - axis).mean(axis=(1 - axis, 2))
    reference = power[(along > 0.25) & (along < 0.35)].mean()
    return float(power[along >= 0.46].mean() / reference) if reference > 0 else 1.0


def signal_over_noise(
    data: np.ndarray, residual: np.ndarray, mask: np.ndarray, sigma: np.ndarray | None = None
) -> np.ndarray:
    """Mean over volumes divided by the noise's standard deviation, in the mask's voxels.

    data      (X, Y, n, V)  volumes of one contrast
    residual  (X, Y, n, V)  noise-like; its local mean square stands in where sigma is None
    sigma     (X, Y, n)     noise map, same unit as data
    """
    if sigma is None:
        inside = ndimage.uniform_filter(mask.astype(np.float64), size=(9, 9, 1))
        power = ndimage.uniform_filter((residual**2).mean(axis=3) * mask, size=(9, 9, 1)).clip(0)
        sigma = np.sqrt(np.divide(power, inside, out=np.zeros_like(power), where=inside > 0))
    mean, s = data.mean(axis=3)[mask], np.asarray(sigma)[mask]
    return np.divide(mean, s, out=np.full_like(mean, np.inf, dtype=np.float64), where=s > 0)


def slice_means(data: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean (Z, V) of each slice inside the mask; nan where the mask holds under 50 voxels.

    data  (X, Y, Z, V)  any unit
    mask  (X, Y, Z)     bool
    """
    means = np.full(data.shape[2:], np.nan)
    for z in np.flatnonzero(np.count_nonzero(mask, axis=(0, 1)) >= 50):
        means[z] = np.abs(data[:, :, z][mask[:, :, z]]).mean(axis=0, dtype=np.float64)
    return means


def in_plane_shifts(data: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Shift (V, 2) of every volume against the mean of all, in voxels along x and y.

    data  (X, Y, n, V)  volumes of one contrast
    mask  (X, Y, n)     bool

    One linear step:  volume ≈ a·mean + c − a·(sx ∂x mean + sy ∂y mean), solved for a, c, sx, sy.
    """
    smooth = ndimage.gaussian_filter(data, (2, 2, 0, 0))
    mean = smooth.mean(axis=3)
    slopes = [np.gradient(mean, axis=axis)[mask] for axis in (0, 1)]
    design = np.column_stack([mean[mask], np.ones(mask.sum()), *slopes]).astype(np.float64)
    found = np.linalg.lstsq(design, smooth[mask].astype(np.float64), rcond=None)[0]
    return np.asarray(-found[2:] / np.where(found[0] == 0, np.nan, found[0])).T
