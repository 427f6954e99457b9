"""Noise of the coils, measured at the edge of k-space, and coils made alike by it.

Paper   Roemer et al. 1990, Magn Reson Med 16:192 (the noise covariance of coils);
        Pruessmann et al. 1999, Magn Reson Med 42:952 (decorrelating them).
Idea    Far from its centre k-space holds next to no signal. What is left there is the noise of
        the coils, Gaussian and the same everywhere.
Here    The samples farthest from the centre, in the corners, and of repetitions only how they
        differ from their mean; outlying ones (spikes, interference, signal) are left out; then
        each coil has unit noise that no other coil shares.
Differs No noise scan is read: the files that come here have none.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from ..series import InputError
from .acquisition import KSpace
from .coverage import measured_box

SHARE_MIN, SHARE_MAX = 0.01, 0.1  # of k-space, counted from its corners
SAMPLES, SAMPLES_PER_COIL = 2000, 100  # sigma to 1.6 %, and N x N numbers that hold for N coils
KEPT = 0.999  # of pure noise; what lies farther out is taken for something else
DEPENDENT = 1e-6  # smallest eigenvalue of the coils' correlations that can still be inverted


@dataclass(frozen=True)
class CoilNoise:
    """Noise of the coils in k-space."""

    covariance: np.ndarray  # (N, N) complex128: E[n nᴴ], unit of k-space, squared
    n_samples: int  # it was measured from
    excess: float  # power of the inner half of those samples over the outer half; 1 for noise


def coil_noise(kspace: KSpace) -> CoilNoise:
    """Noise covariance of the coils, from the samples farthest from the centre of k-space.

    Raises InputError for coils without noise, or that repeat each other.
    """
    samples = _outermost(kspace)  # from the outside inwards
    if len(samples) < 4 * kspace.n_coils:
        raise InputError(
            f"{kspace.path} is too small to measure the noise of {kspace.n_coils} coils: "
            f"{len(samples)} samples lie at the edge of its k-space; give the whole scan"
        )
    power = np.mean(np.abs(samples) ** 2, axis=0)
    if kspace.n_repetitions > 1 and not power.any():
        raise InputError(f"{kspace.path}: its repetitions are the same data; give each scan once")
    for coil in np.flatnonzero(power == 0):
        raise InputError(
            f"{kspace.path} has no noise in coil {coil} (counted from 0); "
            "leave that coil out, or give the raw data before it was filtered"
        )
    unit = samples / np.sqrt(power)  # coils may differ by orders of magnitude
    correlation = robust_covariance(unit)
    if np.linalg.eigvalsh(correlation)[0] < DEPENDENT:
        raise InputError(
            f"{kspace.path} has coils that repeat each other, so their noise can't be parted; "
            "leave the repeated ones out"
        )
    outer, inner = np.array_split(np.sum(np.abs(unit) ** 2, axis=1), 2)
    return CoilNoise(
        covariance=correlation * np.sqrt(np.outer(power, power)),
        n_samples=len(samples),
        excess=float(np.median(inner) / np.median(outer)),
    )


def _outermost(kspace: KSpace) -> np.ndarray:
    """(samples, N) farthest from the centre of k-space, as a share of the way to its edge."""
    box = measured_box(kspace.data, kspace.mask)
    distance = np.zeros(())
    for n, part in zip(kspace.data.shape, box, strict=False):
        steps = np.abs(np.arange(n)[part] - n // 2).astype(float)
        distance = np.add.outer(distance, (steps / max(steps.max(), 1)) ** 2)
    n_here = distance.size
    needed = max(SAMPLES, SAMPLES_PER_COIL * kspace.n_coils)
    wanted = needed / (kspace.data.shape[2] * kspace.n_repetitions)
    n_taken = int(np.ceil(np.clip(wanted, SHARE_MIN * n_here, SHARE_MAX * n_here)))
    order = np.argsort(-distance.ravel(), kind="stable")[:n_taken]
    x, y = np.unravel_index(order, distance.shape)
    samples = kspace.data[box][x, y]  # (n, Z, N, V)
    samples = np.moveaxis(samples, 2, 3).astype(np.complex128)  # (n, Z, V, N)
    if (n := kspace.n_repetitions) > 1:  # the signal goes, and a share 1/V of the noise with it
        samples = (samples - samples.mean(axis=2, keepdims=True)) * np.sqrt(n / (n - 1))
    return samples.reshape(-1, kspace.n_coils)


def robust_covariance(samples: np.ndarray) -> np.ndarray:
    """(N, N) E[n nᴴ] of complex Gaussian samples, whatever a few others among them are.

    samples  (n, N)  complex

    Twice the squared length of a whitened sample is chi-square with 2N degrees of freedom. Samples
    beyond its 99.9 % are left out, and the variance that noise itself loses by that is given back.
    """
    n_coils = samples.shape[1]
    # quantiles and distribution of chi-square; scipy.stats would take a while to load
    limit, median = (2 * special.gammaincinv(n_coils, share) for share in (KEPT, 0.5))
    lost = special.gammainc(n_coils + 1, limit / 2) / KEPT
    covariance = _covariance(samples)
    lengths = _lengths(samples, covariance)
    covariance *= np.median(lengths) / median  # a start that outliers have not widened
    for _ in range(5):
        lengths = _lengths(samples, covariance)
        covariance = _covariance(samples[lengths <= limit]) / lost
    return covariance


def _covariance(samples: np.ndarray) -> np.ndarray:
    covariance = np.asarray(samples.T @ samples.conj() / len(samples))
    # the floor is far below DEPENDENT: coils that repeat each other are refused, not divided by
    return covariance + 1e-12 * np.trace(covariance).real * np.eye(len(covariance))


def _lengths(samples: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """(n,) twice the squared length of each sample in units of the noise."""
    solved = np.linalg.solve(covariance, samples.T).T
    return 2 * np.sum(samples.conj() * solved, axis=1).real


def whiten(data: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Coils whose noise has sigma 1 in its real and in its imaginary part, and is not shared.

    data        (X, Y, Z, N, V)  k-space or images
    covariance  (N, N)           E[n nᴴ] of the coils

    The symmetric root is taken, √2 C^(-1/2): of all whitened coils, those nearest to the coils.
    """
    scale = np.sqrt(np.diag(covariance).real)
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    root = np.sqrt(2) * (vectors / np.sqrt(values)) @ vectors.conj().T / scale
    return np.matmul(root.astype(np.complex64), data)
