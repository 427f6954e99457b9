"""Brain: where the head is, to estimate and to measure; never where to process."""

import numpy as np
from scipy import ndimage

from .air import level_above_air, otsu_level
from .scan import B0_MAX, Series

FEWEST_OUTSIDE = 200  # voxels


def mask_of(series: Series) -> np.ndarray:
    """(X, Y, Z) bool: the series' own mask, or a computed one without its NaN/Inf voxels."""
    if series.mask is not None:
        return series.mask
    mask = brain_mask(series.data, series.bvals)
    return mask if series.nonfinite is None else mask & ~series.nonfinite


def outside_mask(series: Series) -> np.ndarray:
    """(X, Y, Z) bool: what lies outside the mask and is not empty; nowhere if that is too little.

    Too little is what has no principal components of its own over the volumes.
    """
    outside = ~series.where
    for z in range(outside.shape[2]):  # slice by slice: no copy of the scan
        outside[:, :, z] &= (series.data[:, :, z] != 0).any(axis=-1)
    fewest = max(FEWEST_OUTSIDE, 4 * series.n_volumes)
    return outside if np.count_nonzero(outside) >= fewest else np.zeros_like(outside)


def brain_mask(data: np.ndarray, bvals: np.ndarray | None = None) -> np.ndarray:
    """Where the head is: median filter, Otsu threshold, biggest piece, holes filled.

    data   (X, Y, Z, V)  any unit
    bvals  (V,) s/mm²    the mean b0 is used, or the mean of all volumes without one
    """
    is_b0 = np.zeros(data.shape[3], dtype=bool) if bvals is None else bvals <= B0_MAX
    mean = np.zeros(data.shape[:3], dtype=np.float32)
    for v in np.flatnonzero(is_b0) if is_b0.any() else range(data.shape[3]):
        mean += np.abs(data[..., v])
    weighting = np.array([]) if bvals is None else bvals
    smooth = ndimage.median_filter(mean, size=(5, 5, 1))
    mask = _biggest_piece(smooth > _level_of_head(smooth, data, weighting))
    if not 0 < mask.mean() <= 0.95:
        mask = mean > _level_of_head(mean, data, weighting)
    return mask if mask.any() else np.ones_like(mask)


def _level_of_head(image: np.ndarray, data: np.ndarray, bvals: np.ndarray) -> float:
    """Threshold between air and the object; 0 where there is no air."""
    return level_above_air(image, _head_threshold(image), data, bvals)


def _head_threshold(image: np.ndarray) -> float:
    """Otsu's threshold between background and tissue, undisturbed by bright fluid, eyes and fat."""
    if np.ptp(image) == 0:
        return 0.0
    level = otsu_level(np.minimum(image, np.quantile(image[image > 0], 0.98)))
    below, n_above = image[image <= level], np.count_nonzero(image > level)
    if (
        below.size and np.ptp(below) > 0
    ):  # did it part fluid from tissue, rather than tissue from background?
        second = otsu_level(below)
        tissue, background = below[below > second], below[below <= second]
        if tissue.size > 2 * n_above and tissue.mean() > 4 * background.mean():  # noise: about 2
            level = second
    if not np.any(image > level):
        return level
    return otsu_level(np.minimum(image, np.median(image[image > level])))


def _biggest_piece(mask: np.ndarray) -> np.ndarray:
    """The largest connected piece, thin bridges cut, holes filled slice by slice."""
    in_plane = ndimage.generate_binary_structure(3, 1)
    in_plane[1, 1, (0, 2)] = False  # slices are few and thick
    pieces, n_pieces = ndimage.label(ndimage.binary_erosion(mask, in_plane))
    if n_pieces > 1:
        core = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
        mask = mask & ndimage.binary_dilation(core, in_plane, iterations=2)
    mask = ndimage.binary_dilation(mask, in_plane, iterations=2)  # a signal void is still brain
    mask = ndimage.binary_erosion(mask, in_plane, iterations=2, border_value=1)
    return np.asarray(ndimage.binary_fill_holes(mask, in_plane))
