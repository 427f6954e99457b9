"""Scans through k-space: coils, noise in each of them, lines that are left out, coils combined.

Source  Roemer et al. 1990 (coils); Constantinides et al. 1997 (their root of the sum of squares);
        Walsh et al. 2000 (adaptive combination); the four coils are laid out as M4Raw's, Lyu 2023.
Idea    Each coil sees the image through its own smooth sensitivity and adds complex Gaussian noise
        to each sample of k-space. Samples that are left out are zeros: they hold no noise, and
        voxels then share what there is.
Here    2-D slices, x the readout, y the phase encoding, the orthonormal centred Fourier transform.
        So sigma is the standard deviation of one Gaussian part of one coil, in k-space and, where
        nothing is left out, in its image. All but the last magnitude is linear: one draw of noise
        serves every sigma.
Differs Adaptive weights come from the coils without noise, as from a scan for calibration: noisy
        scan, repeat and truth share them, and what they lose of the signal is in the truth as well.
        Coils whose noise correlates are not whitened: the root of their squares is nc-chi only
        nearly. Sensitivities do not change along z; the phase is the same in all volumes.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np

from ..kspace import adaptive_weights, noise_law, to_images, to_kspace
from ..series import InputError

COMBINATIONS = {"rss": "rss", "adaptive": "magnitude"}  # -> its name in `quell.kspace`
ZERO_FILL_MAX = 4.0  # beyond, hardly anything of a head is left
REACH = 0.35  # squared fields of view, over which one of four coils falls to 1/e


def sensitivities(shape: tuple[int, int], n_coils: int) -> np.ndarray:
    """(X, Y, N) complex128, smooth, root of the sum of squares 1.

    shape    (X, Y)
    n_coils  N, on an ellipse around the image, in opposite pairs where N is even; more than four
             reach less far
    """
    x, y = ((np.arange(n) - n / 2) / n for n in shape)
    k = np.arange(n_coils)
    steps = k // 2 + n_coils / 2 * (1 + k % 2) if n_coils % 2 == 0 else k
    at = np.round(0.5 * np.exp(2j * np.pi * steps / n_coils), 12)
    reach = REACH * min(1.0, (4 / n_coils) ** 0.5)
    maps = np.stack(
        [
            np.exp(-((x[:, None] - a) ** 2 + (y[None] - b) ** 2) / reach)
            * np.exp(1j * (0.7 * i + 1.5 * (x[:, None] * a + y[None] * b)))
            for i, (a, b) in enumerate(zip(at.real, at.imag, strict=True))
        ],
        axis=-1,
    )
    return np.asarray(maps / np.sqrt((np.abs(maps) ** 2).sum(axis=-1, keepdims=True)))


def image_phase(shape: tuple[int, ...]) -> np.ndarray:
    """(X, Y, Z) radians: smooth, with a hill of some turns in front, as above the sinuses.

    It shifts the signal in k-space by some lines, there most, so that the two halves of k-space
    are no mirror images of each other.
    """
    x, y, z = (
        ((np.arange(n) - n / 2) / n).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, n in enumerate(shape[:3])
    )
    hill = np.exp(-(x**2 + (y - 0.25) ** 2) / (2 * 0.12**2))
    return np.asarray(np.pi * (0.6 * y + x * y + 1.2 * y**2 - 0.8 * x**2 + 0.3 * z + 1.5 * hill))


@dataclass(frozen=True)
class Acquisition:
    """How a scan goes through k-space."""

    n_coils: int = 1
    combine: str = "rss"  # or "adaptive": the magnitude of coils added in phase
    partial_fourier: float = 1.0  # share of the phase-encoded lines that is measured
    zero_fill: float = 1.0  # grid of the image over the matrix that is measured, along x and y
    coil_correlation: float = 0.0  # of the noise of any two coils

    def refuse(self) -> None:
        """Raise InputError (status 2) for what can't be meant."""
        if self.n_coils < 1:
            raise InputError(f"{self.n_coils} coils see nothing; give 1 or more", 2)
        if self.combine not in COMBINATIONS:
            known = " or ".join(COMBINATIONS)
            raise InputError(f"coils can't be combined by {self.combine}; give {known}", 2)
        if not 0.5 <= self.partial_fourier <= 1:
            raise InputError(
                f"partial Fourier {self.partial_fourier:g} is no share of the lines that makes an "
                "image; give 0.5 to 1",
                2,
            )
        if not 1 <= self.zero_fill <= ZERO_FILL_MAX:
            raise InputError(
                f"zero filling by {self.zero_fill:g} is not possible; give 1 to {ZERO_FILL_MAX:g}",
                2,
            )
        if not 0 <= self.coil_correlation < 1:
            raise InputError(
                f"noise of coils can't correlate by {self.coil_correlation:g} here; "
                "give 0 or more, below 1",
                2,
            )

    @property
    def law(self) -> str:
        """Law of the magnitude's noise: "rician" or "nc-chi"."""
        return noise_law(COMBINATIONS[self.combine], self.n_coils)

    @property
    def covariance(self) -> np.ndarray:
        """(N, N) of one Gaussian part of the coils' noise, sigma = 1."""
        c = self.coil_correlation
        return (1 - c) * np.eye(self.n_coils) + c

    def box(self, shape: tuple[int, ...]) -> tuple[slice, slice]:
        """The samples along x and y that are measured; the first of the lines y are left out."""
        x, y = (max(1, round(n / self.zero_fill)) for n in shape[:2])
        lines = max(round(self.partial_fourier * y), ceil(y / 2))  # the middle is measured
        start_x, start_y = shape[0] // 2 - x // 2, shape[1] // 2 - y // 2
        return slice(start_x, start_x + x), slice(start_y + y - lines, start_y + y)

    def matrix(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """How many samples along x and lines along y are measured."""
        x, y = self.box(shape)
        return x.stop - x.start, y.stop - y.start

    def share(self, shape: tuple[int, ...]) -> float:
        """Measured samples over all: the variance that is left of the noise."""
        x, y = self.matrix(shape)
        return x * y / (shape[0] * shape[1])

    def correlation(self, shape: tuple[int, ...], lag: int = 1) -> tuple[float, float, float]:
        """Of the real (or imaginary) parts of one coil at two voxels so far apart along x, y, z.

        White noise in n of the X samples along x correlates by the mean over them of
        exp(2πi k lag / X), k = 0 in the middle of k-space. Its real part is that of a box,
        sin(πn lag/X) / (n sin(π lag/X)), times cos(2πk₀ lag/X) where the box has its middle at k₀.
        """
        along = [
            float(np.cos(2 * np.pi * lag * (np.arange(part.start, part.stop) - n // 2) / n).mean())
            for n, part in zip(shape, self.box(shape), strict=False)
        ]
        return along[0], along[1], 0.0


@dataclass(frozen=True)
class Acquired:
    """One draw of noise on one scan, for every sigma: |signal + σ noise|², term by term."""

    signal_power: np.ndarray  # (X, Y, Z, V) |signal|², summed over the coils, combined or not
    shared_power: np.ndarray  # (X, Y, Z, V) Re signal* noise, likewise
    noise_power: np.ndarray  # (X, Y, Z, V) |noise|² at sigma = 1, likewise
    sd_over_sigma: np.ndarray  # (X, Y, Z) of one Gaussian part in the final image

    @property
    def truth(self) -> np.ndarray:
        """(X, Y, Z, V) float32: the magnitude without noise."""
        return np.sqrt(self.signal_power)

    def at(self, sigma: float | np.float32) -> np.ndarray:
        """(X, Y, Z, V) float32: the magnitude with noise of sigma, units of the clean scan."""
        sigma = np.float32(sigma)
        power = sigma * self.noise_power
        power += 2 * self.shared_power
        power *= sigma
        power += self.signal_power
        return np.sqrt(np.maximum(power, 0, out=power), out=power)  # rounding can make it < 0


def acquire(clean: np.ndarray, acquisition: Acquisition, rng: np.random.Generator) -> Acquired:
    """See a scan with coils through k-space, once without noise and once with a draw of it.

    clean        (X, Y, Z, V)  real, any unit
    acquisition  how
    rng          where the noise comes from; independent in every volume

    Raises InputError for an acquisition that can't be meant.
    """
    acquisition.refuse()
    shape, box = clean.shape[:3], acquisition.box(clean.shape)
    coils = sensitivities(clean.shape[:2], acquisition.n_coils)[:, :, None]
    seen = (coils * np.exp(1j * image_phase(shape))[..., None]).astype(np.complex64)
    mixing = np.linalg.cholesky(acquisition.covariance).astype(np.float32)
    weights = None
    if acquisition.combine == "adaptive":
        weights = adaptive_weights(measured(clean.mean(axis=3)[..., None] * seen, box))
    signal_power, shared_power, noise_power = (np.empty(clean.shape, np.float32) for _ in range(3))
    for v in range(clean.shape[3]):  # a volume at a time: all coils of a scan need much memory
        signal = measured(clean[..., v].astype(np.float32)[..., None] * seen, box)
        noise = unit_noise_of_coils(shape, box, mixing, rng)
        if weights is not None:
            signal, noise = over_coils(weights, signal), over_coils(weights, noise)
        signal_power[..., v] = over_coils(signal, signal)[..., 0].real
        shared_power[..., v] = over_coils(signal, noise)[..., 0].real
        noise_power[..., v] = over_coils(noise, noise)[..., 0].real
    sd = sd_over_sigma(acquisition, shape, weights)
    return Acquired(signal_power, shared_power, noise_power, sd)


def over_coils(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(X, Y, Z, 1) Σ one* other of two (X, Y, Z, N)."""
    return np.asarray((one.conj() * other).sum(axis=-1, keepdims=True))


def measured(images: np.ndarray, box: tuple[slice, slice]) -> np.ndarray:
    """(X, Y, Z, N) images of coils, of whose k-space nothing is left outside the box."""
    if all(part == slice(0, n) for part, n in zip(box, images.shape, strict=False)):
        return images  # there and back would only round the zeros of air
    kspace = np.zeros(images.shape, np.complex64)
    kspace[box] = to_kspace(images)[box]
    return to_images(kspace)


def unit_noise_of_coils(
    shape: tuple[int, ...], box: tuple[slice, slice], mixing: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(X, Y, Z, N) images of noise alone, of sigma 1 in the samples of the box.

    mixing  (N, N)  root of the coils' covariance
    """
    kspace = np.zeros((*shape, len(mixing)), np.complex64)
    inside = kspace[box]  # a view
    parts = rng.standard_normal((2, *inside.shape), np.float32) @ mixing.T
    inside.real, inside.imag = parts
    return to_images(kspace)


def sd_over_sigma(
    acquisition: Acquisition, shape: tuple[int, ...], weights: np.ndarray | None
) -> np.ndarray:
    """(X, Y, Z) float32: sd of one part of one coil, or of the coils combined by weights."""
    sd = np.full(shape, np.sqrt(acquisition.share(shape)), np.float32)
    if weights is None:
        return sd
    C = acquisition.covariance
    return sd * np.sqrt(np.einsum("...i,ij,...j->...", weights.conj(), C, weights).real)
