"""Demodulation: complex volumes as real ones, twice as many, and back.

Source  Eichner et al., "Real diffusion-weighted MRI enabling true signal averaging and increased
        diffusion contrast", NeuroImage 122:373-384, 2015.
Idea    The phase of an image is smooth, its noise is not. Turned back by its own smooth phase, a
        complex image has its signal in the real part and hardly any in the imaginary part, and
        both hold Gaussian noise of one sigma: no noise floor.
Here    The smooth phase is that of the image after a Gaussian window in k-space. It is kept and put
        back at the end, so an error in it costs nothing but contrast between the two parts.
Differs nothing
"""

from dataclasses import replace

import numpy as np
from scipy import fft

from .series import Series

WINDOW = 0.06  # standard deviation of the window in k-space, cycles per voxel


def demodulate(scan: Series) -> tuple[Series, np.ndarray]:
    """A real series of all real parts and then all imaginary parts, and the phase taken out.

    scan  complex, V volumes

    Returns the series of 2 V volumes and the phase (X, Y, Z, V) complex64, of magnitude 1.
    """
    phase = np.empty_like(scan.data)
    for v in range(scan.n_volumes):
        kspace = fft.fft2(scan.data[..., v], axes=(0, 1))
        smooth = fft.ifft2(kspace * _window(kspace), axes=(0, 1))
        phase[..., v] = np.exp(1j * np.angle(smooth))
    plain = scan.data * phase.conj()
    twice = None if scan.bvals is None else np.tile(scan.bvals, 2)
    return (
        replace(
            scan,
            data=np.concatenate([plain.real, plain.imag], axis=3),
            bvals=twice,
            bvecs=None if scan.bvecs is None else np.tile(scan.bvecs, (2, 1)),
            parts=np.repeat([0, 1], scan.n_volumes),
        ),
        phase,
    )


def _window(kspace: np.ndarray) -> np.ndarray:
    """(X, Y, 1) a Gaussian about the strongest sample, which an echo shift moves off the centre."""
    power = (np.abs(kspace) ** 2).sum(axis=2)
    peak = np.unravel_index(int(power.argmax()), power.shape)
    window = np.ones(power.shape)
    for axis, (n, at) in enumerate(zip(power.shape, peak, strict=True)):
        away = (np.arange(n) - at + n // 2) % n - n // 2  # samples, around the ends
        window *= np.exp(-0.5 * (away / n / WINDOW) ** 2)[:, None].swapaxes(0, axis)
    return window[..., None]


def along(result: np.ndarray, noisy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scan and result as real volumes, along the phase of the result, to be looked at and measured.

    result, noisy  (X, Y, Z, V)  complex

    Returns the noisy scan's part in that direction, its noise as before, and the result's size.
    """
    turn = np.exp(-1j * np.angle(result)).astype(np.complex64)
    return (noisy * turn).real, np.abs(result)


def remodulate(parts: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """Complex volumes (X, Y, Z, V) from real and imaginary parts (X, Y, Z, 2 V) and their phase."""
    V = phase.shape[3]
    return np.asarray((parts[..., :V] + 1j * parts[..., V:]) * phase, dtype=np.complex64)
