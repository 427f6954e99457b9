"""Images from fully sampled Cartesian k-space, with noise of a known law and of sigma 1.

Idea    Whiten the coils, transform each slice, combine the coils. All of it is linear with weights
        of length one (but for a magnitude at the end), so noise stays Gaussian and of sigma 1.
Here    A centred orthonormal Fourier transform in 2-D for each slice. Where z is phase-encoded
        (3-D acquisitions), transform along z beforehand; that is out of scope here.
Differs Nothing is filtered, interpolated or corrected: whoever wants to denoise wants the noise as
        it was measured.
"""

from importlib.metadata import version
from typing import Any

import numpy as np
from scipy import fft

from ..series import InputError, Series
from .acquisition import KSpace
from .combination import adaptive_combination, root_sum_of_squares
from .coverage import measured_box
from .geometry import nifti_header
from .whitening import CoilNoise, coil_noise, whiten

COMBINATIONS = {  # -> noise law of the images; see `noise_law`
    "adaptive": "gaussian",
    "rss": "nc-chi",
    "magnitude": "rician",
    "none": "gaussian",
}
EXCESS_MAX = 1.15  # power along the edge samples, inner over outer; noise has 1
CORNER = 12  # 1/12 of each edge of a slice: air, in nearly every scan
CORNER_RANGE = (0.8, 1.25)  # of sigma in the corners of the images; else it is worth a word


def to_images(data: np.ndarray) -> np.ndarray:
    """K-space to images, slice by slice: the centred orthonormal inverse Fourier transform.

    data  (X, Y, ...)  k-space, its centre at X // 2, Y // 2
    """
    shifted = fft.ifftshift(data, axes=(0, 1))
    return np.asarray(fft.fftshift(fft.ifft2(shifted, axes=(0, 1), norm="ortho"), axes=(0, 1)))


def to_kspace(images: np.ndarray) -> np.ndarray:
    """Images to k-space: undoes `to_images`.

    images  (X, Y, ...)
    """
    shifted = fft.ifftshift(images, axes=(0, 1))
    return np.asarray(fft.fftshift(fft.fft2(shifted, axes=(0, 1), norm="ortho"), axes=(0, 1)))


def reconstruct(kspace: KSpace, combine: str = "adaptive") -> Series:
    """Images of a raw scan, in units of its noise: sigma is 1.

    kspace   fully sampled
    combine  "adaptive": complex64, Gaussian noise in each part (Walsh 2000);
             "magnitude": its size, float32, Rician; "rss": root of the sum of squares over coils,
             float32, non-central chi with as many coils; "none": the image of a single coil

    The 4th axis are the repetitions. The sidecar says what was done, and what sigma means.

    Raises InputError for a combination that does not exist or does not fit the coils.
    """
    _refuse_combination(kspace, combine)
    noise = coil_noise(kspace)
    images = _crop(to_images(whiten(kspace.data, noise.covariance)), kspace.image_size)
    # zeros hold no noise: without this, sigma would fall with the share of k-space they take
    images *= np.float32(1 / np.sqrt(_measured_share(kspace)))
    corners = _sigma_in_corners(images)
    if combine == "rss":
        data = root_sum_of_squares(images)
    elif kspace.n_coils == 1:
        data = images[:, :, :, 0]
    else:
        data = adaptive_combination(images)
    if combine == "magnitude":
        data = np.abs(data)
    header = nifti_header(data.shape, _voxel_mm(kspace), kspace.is_affine_true)
    header.set_data_dtype(data.dtype)
    return Series(
        data=data,
        affine=kspace.affine,
        header=header,
        fourth_axis="repetitions",
        path=kspace.path,
        sidecar=_sidecar(kspace, combine, noise, corners),
        stored_dtype=data.dtype.name,
    )


def noise_law(combine: str, n_coils: int) -> str:
    """The law of the noise in the images: "gaussian" (in each part), "rician" or "nc-chi"."""
    return "rician" if combine == "rss" and n_coils == 1 else COMBINATIONS[combine]


def _refuse_combination(kspace: KSpace, combine: str) -> None:
    if combine not in COMBINATIONS:
        known = ", ".join(COMBINATIONS)
        raise InputError(f"there is no combination of coils called {combine}; give {known}", 2)
    if combine == "none" and kspace.n_coils > 1:
        raise InputError(
            f"{kspace.path} has {kspace.n_coils} coils, which need a combination; "
            "give adaptive, rss or magnitude",
            2,
        )


def _crop(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of the images along x and y; their centres stay at half their size."""
    x, y = (n // 2 - kept // 2 for n, kept in zip(images.shape, size, strict=False))
    return images[x : x + size[0], y : y + size[1]]


def _measured_share(kspace: KSpace) -> float:
    """Measured samples over all samples of the plane that is transformed."""
    box = measured_box(kspace.data, kspace.mask)
    measured = np.prod([part.stop - part.start for part in box])
    return float(measured / np.prod(kspace.data.shape[:2]))


def _sigma_in_corners(images: np.ndarray) -> float:
    """What sigma is where there should be air, by the median; 1 if the edge of k-space was right.

    images  (X, Y, Z, N, V)  whitened
    """
    x, y = (max(1, n // CORNER) for n in images.shape[:2])
    values = [
        np.abs(images[i, j]).ravel()
        for i in (slice(0, x), slice(-x, None))
        for j in (slice(0, y), slice(-y, None))
    ]
    # the corner with the least: fat, a shoulder or a ghost may lie in another
    return float(min(np.median(v) for v in values) / np.sqrt(2 * np.log(2)))


def _voxel_mm(kspace: KSpace) -> tuple[float, ...]:
    return tuple(float(mm) for mm in np.sqrt((kspace.affine[:3, :3] ** 2).sum(axis=0)))


def _sidecar(kspace: KSpace, combine: str, noise: CoilNoise, corners: float) -> dict[str, Any]:
    """What was done, under BIDS' own names where it has them."""
    return {
        "CoilCombinationMethod": {"rss": "Sum of Squares", "none": "Single coil"}.get(
            combine, "Adaptive Combine" if kspace.n_coils > 1 else "Single coil"
        ),
        # not BIDS' Sources and GeneratedBy: `quell check` takes those for images made from images
        "Reconstruction": {
            "Software": f"quell {version('quell')}",
            "RawFiles": [kspace.path.name] if kspace.path else [],
            "Combination": combine,
            "NoiseLaw": noise_law(combine, kspace.n_coils),
            "Coils": kspace.n_coils,
            "Repetitions": kspace.n_repetitions,
            "Sigma": 1.0,
            "SigmaMeans": "standard deviation of the noise in the real and in the imaginary part "
            "of a whitened coil, and of the combined image before its magnitude is taken",
            "NoiseFrom": f"{noise.n_samples} samples at the edge of k-space",
            "NoiseEdgeExcess": round(noise.excess, 3),
            "SigmaInCorners": round(corners, 3),
            "MeasuredShare": round(_measured_share(kspace), 4),
            "VoxelSizeKnown": kspace.is_affine_true,
            "OrientationKnown": False,
            "Notes": [*kspace.notes, *_doubts(noise, corners)],
        },
    }


def _doubts(noise: CoilNoise, corners: float) -> list[str]:
    """Where the images may not have the sigma that is claimed."""
    said = []
    if noise.excess > EXCESS_MAX:
        said.append(
            f"power falls by {noise.excess:.2f} along the edge of k-space, as noise does not: "
            "signal is left there (sigma is below 1 then), or k-space was filtered before (above 1)"
        )
    if corners > CORNER_RANGE[1]:
        said.append(
            f"sigma is {corners:.2f} in the corners of the images, not 1: k-space was filtered "
            "before, or holds interference or ghosts; have the noise learned from the scan"
        )
    elif corners < CORNER_RANGE[0]:
        said.append(
            f"sigma is {corners:.2f} in the corners of the images, not 1: the receiver's filter "
            "dims the noise there, and sigma is somewhat above 1 in the middle"
        )
    return said
