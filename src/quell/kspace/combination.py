"""Coils into one image: the root of their squares, or weights that follow the coils.

Paper   Roemer et al. 1990, Magn Reson Med 16:192; Walsh, Gmitro, Marcellin 2000, Magn Reson Med
        43:682 (adaptive combination).
Idea    Near a voxel all coils see the same anatomy through their own sensitivities. The leading
        eigenvector of the coils' covariance around it is those sensitivities, up to a factor; as
        weights of length one, they add the signals in phase and leave the noise as it is.
Here    For whitened coils, slice by slice.
Differs The covariance around a voxel leaves out that voxel and those that touch it. Walsh's
        weights know the noise they are applied to, and follow it where there is no signal: sigma
        rises there, by a quarter with this block. Weights from the surroundings don't, and sigma
        is 1 everywhere.
"""

import numpy as np
from scipy import ndimage

BLOCK = 9  # voxels: sensitivities hardly change over it, and 72 voxels tell them from noise
HOLE = 3  # voxels around the one in question that have no say; zero filling correlates neighbours
STEPS = 20  # of the power iteration; where it needs more there is no signal to be lost


def root_sum_of_squares(images: np.ndarray) -> np.ndarray:
    """(X, Y, Z, V) float32: √Σ|coil|², non-central chi with N coils when the coils are whitened.

    images  (X, Y, Z, N, V)  complex
    """
    squares = sum(np.abs(images[:, :, :, n]) ** 2 for n in range(images.shape[3]))
    return np.sqrt(squares).astype(np.float32)


def adaptive_combination(images: np.ndarray, block: int = BLOCK) -> np.ndarray:
    """(X, Y, Z, V) complex64: coils added in phase, with noise as in each of them (Walsh 2000).

    images  (X, Y, Z, N, V)  complex, noise of sigma 1 in each part, coils independent
    block   voxels           edge of the surroundings that weights are taken from; odd

    All repetitions are combined with one set of weights, from their mean: better weights, and the
    repetitions differ by their noise alone. They share the errors of the weights, so signal is
    lost to the same small part in each; a dependence that is weak where there is signal.
    """
    weights = adaptive_weights(images.mean(axis=4), block)
    return np.matmul(weights.conj()[..., None, :], images)[..., 0, :].astype(np.complex64)


def adaptive_weights(images: np.ndarray, block: int = BLOCK) -> np.ndarray:
    """(X, Y, Z, N) complex64 of length one: the sensitivities of the coils at each voxel.

    images  (X, Y, Z, N)  complex, whitened coils
    block   voxels        edge of the surroundings that weights are taken from; odd

    Their phase is that of one virtual coil, the combination of coils that holds most signal in all
    slices: an eigenvector has none of its own, and voxels must agree.
    """
    if block % 2 == 0 or block <= HOLE:
        raise ValueError(f"block {block} is not odd and above {HOLE}")
    virtual = _virtual_coil(images)
    weights = np.empty(images.shape, dtype=np.complex64)
    for z in range(images.shape[2]):
        covariance = _around(images[:, :, z].astype(np.complex64), block)
        weights[:, :, z] = _in_phase(_leading(covariance, virtual), virtual)
    return weights


def _virtual_coil(images: np.ndarray) -> np.ndarray:
    """(N,) of length one: the leading direction of the coils over the whole volume."""
    coils = images.reshape(-1, images.shape[3]).astype(np.complex128)
    _, vectors = np.linalg.eigh(coils.T @ coils.conj())
    leading = vectors[:, -1]
    strongest = leading[np.argmax(np.abs(leading))]
    return np.asarray(leading * np.conj(strongest) / np.abs(strongest))


def _around(coils: np.ndarray, block: int) -> np.ndarray:
    """(X, Y, N, N): sums of coil · coil* over the block around each voxel, without its middle."""
    n_coils = coils.shape[2]
    sums = np.empty((*coils.shape, n_coils), dtype=np.complex64)
    for a in range(n_coils):
        for b in range(a, n_coils):
            product = coils[..., a] * coils[..., b].conj()
            # zeros beyond the border: repeated voxels would bring the middle back in
            whole = ndimage.uniform_filter(product, block, mode="constant") * block**2
            middle = ndimage.uniform_filter(product, HOLE, mode="constant") * HOLE**2
            sums[..., a, b] = whole - middle
            sums[..., b, a] = sums[..., a, b].conj()
    return sums


def _leading(covariance: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """(X, Y, N) of length one: leading eigenvectors, by power iteration from the strongest coil.

    covariance  (X, Y, N, N)
    otherwise   (N,)          where the covariance is zero
    """
    energy = np.diagonal(covariance, axis1=2, axis2=3).real
    total = energy.sum(axis=2)
    is_empty = ~(total > 0)
    scaled = covariance / np.where(is_empty, 1, total)[..., None, None]
    strongest = np.argmax(energy, axis=2)[..., None, None]
    vector = np.take_along_axis(scaled, strongest, axis=3)[..., 0]  # never at right angles to it
    vector[is_empty] = otherwise
    for _ in range(STEPS):
        vector = vector / np.maximum(np.linalg.norm(vector, axis=2, keepdims=True), 1e-30)
        step = np.matmul(scaled, vector[..., None])[..., 0]
        vector = np.where(is_empty[..., None], vector, step)
    return np.asarray(vector / np.linalg.norm(vector, axis=2, keepdims=True))


def _in_phase(vectors: np.ndarray, virtual: np.ndarray) -> np.ndarray:
    """The vectors, each turned so that its product with the virtual coil is real and positive."""
    product = vectors @ virtual.conj()
    size = np.abs(product)
    turn = np.where(size > 0, product.conj() / np.where(size > 0, size, 1), 1)
    return np.asarray(vectors * turn[..., None])
