"""The noise map: how strong the noise is in every voxel, from images of pure noise."""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from ..scaling import Scale
from ..series import Series
from .components import NoiseImages, n_noise_components, voxels_in_mask

SMOOTHING_MM = 5.0  # standard deviation of the window of the noise map; coil maps vary slower
SUPPORT = 0.1  # share of the window that must be known; also that many voxels of a small window:
ENOUGH = 20.0
PER_IMAGE = 20  # voxels outside the mask, for each image of noise, to tell signal from noise there
SAMPLED = 40_000  # of them, at most


def noise_left(images: NoiseImages, mask: np.ndarray, series: Series) -> np.ndarray:
    """(X, Y, Z) noise in images of it, smooth: 1 where their scale is right.

    Of a mask that fills no window, as one slice of many or a thin cord, the best supported half.
    """
    level, support = _local_rms(images.power(mask), mask, series.voxel_mm)
    return fill(level, (support > min(SUPPORT, support.max() / 2)) & (level > 0))


def continue_outside(
    series: Series, mask: np.ndarray, scale: Scale, images: NoiseImages
) -> np.ndarray:
    """The noise map, outside the mask from what the same projector finds there.

    Many scanners dim or zero the air around the head: the map in the head says nothing about it.
    Where nothing is measured outside, or too little to tell, as in the specks that a skull strip
    leaves or a pinhole of the mask, the noise is that of the nearest place where it is known.
    """
    air, shown = np.zeros(mask.shape, dtype=np.float32), np.zeros_like(mask)
    for z in range(mask.shape[2]):  # slice by slice: no copy of the scan
        shown[:, :, z] = ~mask[:, :, z] & _shows_noise(series.data[:, :, z])
    projector = _of_noise_there(series, shown, scale, images)
    for z in range(mask.shape[2]):
        if not shown[:, :, z].any():
            continue
        here = np.zeros_like(shown)
        here[:, :, z] = shown[:, :, z]
        air[here] = np.mean(_projected(series, here, scale, images, projector) ** 2, axis=1)
    level, support = _local_rms(air, shown, series.voxel_mm)
    is_known = ~mask & (support > _enough(series.voxel_mm)) & ~(level == 0)  # NaN is said later
    return fill(np.where(mask, scale.sigma, scale.sigma * level), mask | is_known)


def _projected(
    series: Series, where: np.ndarray, scale: Scale, images: NoiseImages, projector: np.ndarray
) -> np.ndarray:
    """(voxels, n) images of noise elsewhere than in the mask that they were learned in."""
    slices = np.flatnonzero(where.any(axis=(0, 1)))
    few = replace(scale, sigma=scale.sigma[:, :, slices])
    Y = voxels_in_mask(series.data[:, :, slices], where[:, :, slices], few)
    return np.asarray((Y - images.mean) @ projector)


def _of_noise_there(
    series: Series, shown: np.ndarray, scale: Scale, images: NoiseImages
) -> np.ndarray:
    """(V, n) the projector without what is signal outside the mask.

    A mask of white matter knows nothing of grey matter, fat or fluid: what they show would pass
    for noise many times as strong. So the components are taken apart once more, outside.
    """
    P = images.projector
    places = np.flatnonzero(shown)
    is_orthonormal = np.allclose(P.T @ P, np.eye(P.shape[1]), atol=1e-3)  # pairs are not
    if len(places) < PER_IMAGE * P.shape[1] or P.shape[1] < 3 or not is_orthonormal:
        return P
    some = np.zeros_like(shown)
    some.flat[places[:: -(-len(places) // SAMPLED)]] = True
    found = _projected(series, some, scale, images, P).astype(np.float64)
    if not np.all(np.isfinite(found)):
        return P
    values, vectors = np.linalg.eigh(found.T @ found / len(found))
    n = n_noise_components(values[::-1], len(found) / 4.0)
    return np.asarray(P @ vectors[:, :n], dtype=np.float32)


def _shows_noise(data: np.ndarray) -> np.ndarray:
    """(X, Y) bool: voxels with a value in most volumes, and not one value in all of them.

    data  (X, Y, V)
    """
    n_values = np.count_nonzero(data, axis=-1)
    return np.asarray((2 * n_values > data.shape[-1]) & np.any(data != data[..., :1], axis=-1))


def _local_rms(
    power: np.ndarray, known: np.ndarray, voxel_mm: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """(X, Y, Z) root of the local mean of `power` over the known voxels, and their local share."""
    width = _width(voxel_mm)
    share = ndimage.gaussian_filter(known.astype(np.float32), width)
    smooth = ndimage.gaussian_filter(power * known, width) / np.maximum(share, 1e-6)
    return np.sqrt(np.maximum(smooth, 0)), share


def _width(voxel_mm: tuple[float, ...]) -> list[float]:
    """Standard deviation of the window along each axis, voxels."""
    return [float(np.clip(SMOOTHING_MM / mm, 0.7, 4.0)) for mm in voxel_mm]


def _enough(voxel_mm: tuple[float, ...]) -> float:
    """The share of the window that must be known; a Gaussian has the volume (2 √π sd)³."""
    volume = np.prod([2 * np.sqrt(np.pi) * sd for sd in _width(voxel_mm)])
    return max(SUPPORT, min(0.5, ENOUGH / float(volume)))


def fill(volume: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Unknown voxels take the value of the nearest known one."""
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.ascontiguousarray(volume[tuple(nearest)], dtype=np.float32)
