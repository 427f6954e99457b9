"""The spatial correlation of noise, from images of it."""

import numpy as np
import torch
from scipy import fft

from .model import IMAGES_FOR_COVARIANCE, LAGS


def autocorrelation(images: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(2Lx+1, 2Ly+1, 2Lz+1) correlation of images of noise at small lags, pairs in the mask."""
    grid = _grid(mask.shape)
    field = np.zeros(mask.shape, dtype=np.float32)
    power = np.zeros((grid[0], grid[1], grid[2] // 2 + 1))
    for image in images[-IMAGES_FOR_COVARIANCE:]:
        field[mask] = image
        power += np.abs(fft.rfftn(field, grid, workers=torch.get_num_threads())) ** 2
    products = fft.irfftn(power, grid)[_at_lags()]
    correlation = products / np.maximum(pairs_at_lags(mask), 1.0)
    return np.asarray(correlation / correlation[LAGS])


def pairs_at_lags(mask: np.ndarray) -> np.ndarray:
    """(2Lx+1, 2Ly+1, 2Lz+1) how many pairs of voxels in the mask lie so far apart."""
    grid = _grid(mask.shape)
    pairs = fft.irfftn(np.abs(fft.rfftn(mask.astype(np.float64), grid)) ** 2, grid)
    return np.asarray(np.round(pairs[_at_lags()]))


def _grid(shape: tuple[int, ...]) -> list[int]:
    """The size of a periodic field in which nothing of such a shape meets itself at small lags."""
    return [fft.next_fast_len(n + lag, real=True) for n, lag in zip(shape, LAGS, strict=True)]


def _at_lags() -> tuple[np.ndarray, ...]:
    """Where the lags lie in a periodic field."""
    return np.ix_(*(np.arange(-lag, lag + 1) for lag in LAGS))
