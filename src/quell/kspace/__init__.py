"""K-space: raw Cartesian scans, read and made into images whose noise is known.

Idea    In k-space the noise is Gaussian and can be measured where the signal has died out. Coils
        are whitened with it, so that every image that is made here has noise of sigma 1.
Here    `acquisition` is what a raw scan is; `files` reads it, with `contents` and `geometry`;
        `coverage` refuses what is undersampled; `whitening`, `combination` and `reconstruction`
        make images.
Differs No undersampled, radial or spiral data, no 3-D transform: those are reconstructed
        elsewhere first.
"""

from .acquisition import AXES, KSpace, join
from .combination import adaptive_combination, adaptive_weights, root_sum_of_squares
from .files import load_images, load_kspace
from .reconstruction import COMBINATIONS, noise_law, reconstruct, to_images, to_kspace
from .whitening import CoilNoise, coil_noise, whiten

__all__ = [
    "AXES",
    "COMBINATIONS",
    "KSpace",
    "CoilNoise",
    "load_kspace",
    "load_images",
    "join",
    "to_images",
    "to_kspace",
    "coil_noise",
    "whiten",
    "root_sum_of_squares",
    "adaptive_weights",
    "adaptive_combination",
    "reconstruct",
    "noise_law",
]
