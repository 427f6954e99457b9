"""The power spectrum of the residual in plane, beside the one that the noise model gives it.

Idea    Anatomy is strong at low frequencies. A residual with more power there than the noise has
        took some of it along; one with less left smooth noise in the image.
Here    The expectation is that of the masked noise, E|F(w n)|² = F(C · (w ⋆ w)): autocorrelation
        of the noise times that of the mask. So the mask's own edges are in both curves.
"""

from dataclasses import dataclass

import numpy as np
from scipy import fft

from .reference import finite

N_SLICES, N_VOLUMES = 16, 40  # of those there are, evenly spaced: a thousand spectra are enough
FEWEST_VOXELS = 64  # of the mask in a slice
N_BINS = 24  # of spatial frequency
NYQUIST = 0.5  # cycles per voxel


@dataclass(frozen=True, eq=False)
class ResidualSpectrum:
    """Power of residual/σ against spatial frequency; white noise of the right size has 1."""

    frequency: np.ndarray  # (K,) cycles per voxel
    measured: np.ndarray  # (K,) σ²
    expected: np.ndarray  # (K,) of the noise model, σ²


def residual_spectrum(
    noisy: np.ndarray,
    denoised: np.ndarray,
    sigma: np.ndarray,
    mask: np.ndarray,
    covariance: np.ndarray | None,
) -> ResidualSpectrum | None:
    """Mean over slices and volumes; None where no slice has enough of the mask.

    noisy, denoised  (X, Y, Z, V)           data units
    sigma            (X, Y, Z)              noise map; (X, Y, Z, V) where volumes differ in it
    mask             (X, Y, Z)              where to measure
    covariance       (2Lx+1, 2Ly+1, 2Lz+1)  noise autocorrelation, centre 1; None for white noise
    """
    levels = sigma if sigma.ndim == 3 else sigma[..., 0]
    where = mask & np.isfinite(levels) & (levels > 0)
    slices = np.flatnonzero(where.sum(axis=(0, 1)) >= FEWEST_VOXELS)
    if not slices.size:
        return None
    plane = np.ones((1, 1)) if covariance is None else covariance[:, :, covariance.shape[2] // 2]
    grid = [fft.next_fast_len(n + lag) for n, lag in zip(where.shape[:2], plane.shape, strict=True)]
    bins, frequency = _rings(grid)
    volumes = _spread(np.arange(noisy.shape[3]), N_VOLUMES)
    measured, expected = np.zeros(grid), np.zeros(grid)
    for z in _spread(slices, N_SLICES):
        w = where[:, :, z]
        own = np.abs(fft.fft2(w.astype(float), grid)) ** 2
        expected += _of_masked(own, plane) / w.sum()
        for v in volumes:
            noise = levels[:, :, z] if sigma.ndim == 3 else sigma[:, :, z, v]
            removed = finite(noisy[:, :, z, v] - denoised[:, :, z, v])
            r = np.where(w, removed / np.where(w, noise, 1), 0)
            measured += np.abs(fft.fft2(r.astype(np.float32), grid)) ** 2 / (w.sum() * len(volumes))
    n = np.bincount(bins.ravel(), minlength=N_BINS + 1)[:N_BINS]
    curves = [
        np.bincount(bins.ravel(), power.ravel(), N_BINS + 1)[:N_BINS] / np.maximum(n, 1)
        for power in (measured, expected)
    ]
    n_slices, has = len(_spread(slices, N_SLICES)), n > 0
    return ResidualSpectrum(frequency[has], curves[0][has] / n_slices, curves[1][has] / n_slices)


def _of_masked(own: np.ndarray, plane: np.ndarray) -> np.ndarray:
    """F(C · (w ⋆ w)): what noise of that autocorrelation has within a mask.

    own    (H, W)          |F(w)|²
    plane  (2Lx+1, 2Ly+1)  C, lag 0 in the centre
    """
    C = np.zeros_like(own)
    lx, ly = (n // 2 for n in plane.shape)
    rows, columns = np.arange(-lx, lx + 1), np.arange(-ly, ly + 1)
    C[np.ix_(rows, columns)] = plane / plane[lx, ly]
    return np.asarray(fft.fft2(C * fft.ifft2(own).real).real)


def _rings(grid: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Ring of every frequency of a grid (H, W), N_BINS in the corners, and each ring's middle."""
    f = np.hypot(*np.meshgrid(*(fft.fftfreq(n) for n in grid), indexing="ij"))
    bins = np.minimum((f / NYQUIST * N_BINS).astype(int), N_BINS)
    return bins, (np.arange(N_BINS) + 0.5) * NYQUIST / N_BINS


def _spread(values: np.ndarray, most: int) -> np.ndarray:
    """At most so many of them, evenly spaced."""
    if len(values) <= most:
        return values
    return values[np.round(np.linspace(0, len(values) - 1, most)).astype(int)]
