"""The noise edge: the largest eigenvalue that noise alone would have, in a scan over its volumes.

Source  V. Marchenko and L. Pastur, "Distribution of eigenvalues for some sets of random matrices",
        Mathematics of the USSR-Sbornik 1(4):457-483, 1967.
Idea    (1 + √γ)², γ = V / n, in units of sigma². Of voxels whose noise correlates, n counts those
        that are independent: the number of voxels over Σ correlation².
Here    One edge for all who part signal from noise: the noise model, and the methods through it.
Trap    A correlation that was measured is never quite zero. Its square, added up over hundreds of
        lags, would halve a small mask: only what stands above chance is counted. Far lags have
        fewer pairs of voxels, as many as in a cube of that size.
"""

import numpy as np

CERTAIN = 4.0  # standard errors: of hundreds of lags hardly one is above them by chance


def noise_edge(
    n_volumes: int, n_voxels: float, covariance: np.ndarray | None = None, n_images: int = 0
) -> float:
    """The largest eigenvalue of noise of variance 1; 1 where the number of voxels is not known.

    n_volumes   V
    n_voxels    in the mask; 0: not known
    covariance  (2Lx+1, 2Ly+1, 2Lz+1) correlation of the noise at small lags; None: white
    n_images    images of noise that it was measured from; 0: it is exact
    """
    if not n_voxels:
        return 1.0
    n = independent_voxels(n_voxels, covariance, n_images)
    return float((1 + np.sqrt(n_volumes / n)) ** 2)


def independent_voxels(
    n_voxels: float, covariance: np.ndarray | None = None, n_images: int = 0
) -> float:
    """How many voxels of independent noise tell as much as these; the arguments of `noise_edge`."""
    if covariance is None:
        return float(n_voxels)
    edge, share = n_voxels ** (1 / 3), np.ones(())
    for n_lags in covariance.shape:
        lag = np.abs(np.arange(n_lags) - n_lags // 2)
        share = np.multiply.outer(share, np.maximum(1 - lag / edge, 0))
    squares = covariance.astype(np.float64) ** 2
    chance = CERTAIN**2 / (n_voxels * n_images) if n_images else 0.0
    return float(n_voxels / squares[share * squares > chance].sum())
