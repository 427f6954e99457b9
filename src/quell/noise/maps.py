"""The noise map: how strong the noise is in every voxel, from images of pure noise."""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from ..scaling import Scale
from ..series import Series
from .components import NoiseImages, voxels_in_mask

SMOOTHING_MM = 5.0  # standard deviation of the window of the noise map; coil maps vary slower


def noise_left(images: NoiseImages, mask: np.ndarray, series: Series) -> np.ndarray:
    """(X, Y, Z) noise in images of it, smooth: 1 where their scale is right."""
    return _local_rms(images.power(mask), mask, series.voxel_mm)


def _local_rms(power: np.ndarray, known: np.ndarray, voxel_mm: tuple[float, ...]) -> np.ndarray:
    """(X, Y, Z) root of the local mean of `power` over the known voxels; the nearest elsewhere."""
    width = [float(np.clip(SMOOTHING_MM / mm, 0.7, 4.0)) for mm in voxel_mm]
    weight = ndimage.gaussian_filter(known.astype(np.float32), width)
    smooth = ndimage.gaussian_filter(power * known, width) / np.maximum(weight, 1e-6)
    return fill(np.sqrt(np.maximum(smooth, 0)), (weight > 0.1) & (smooth > 0))


def continue_outside(
    series: Series, mask: np.ndarray, scale: Scale, images: NoiseImages
) -> np.ndarray:
    """The noise map, outside the mask from what the same projector finds there.

    Many scanners dim or zero the air around the head: the map in the head says nothing about it.
    """
    air = np.zeros(mask.shape, dtype=np.float32)
    for z in range(mask.shape[2]):  # slice by slice: no copy of the scan
        here = ~mask[:, :, z] & np.any(series.data[:, :, z] != 0, axis=-1)
        if here.any():
            one = replace(scale, sigma=scale.sigma[:, :, [z]])
            Y = voxels_in_mask(series.data[:, :, [z]], here[:, :, None], one)
            air[here, z] = np.mean(((Y - images.mean) @ images.projector) ** 2, axis=1)
    if not air.any():  # all of it is mask or zero
        return scale.sigma
    outside = scale.sigma * _local_rms(air, air > 0, series.voxel_mm)
    return np.where(mask, scale.sigma, outside)


def fill(volume: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Unknown voxels take the value of the nearest known one."""
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.ascontiguousarray(volume[tuple(nearest)], dtype=np.float32)
