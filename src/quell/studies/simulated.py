"""A scan with its truth, and as much noise of a known law as was asked for.

Source  Wu et al., ICLR 2025 (Di-Fusion: four coils, root of the sum of squares, repetitions of one
        volume); Xiang et al., ICLR 2023 (DDM2, appendix G: complex noise in each coil).
Idea    The truth goes through the same acquisition as the noisy scan, only without noise. What
        tells them apart is then noise alone, not resolution, and a judge measures noise.
Here    Noise on the image (`corruption`) or in k-space (`coils`); sigma as given, from an SNR, or
        sought to meet a published PSNR (`levels`).
Differs The truth of a magnitude is the magnitude without noise, not the mean of endless noisy
        ones: whoever judges adds the noise floor. The papers' truths are noisy themselves.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..evaluate import difusion_scores
from ..run import Silent, Voice
from ..simulate.coils import acquire
from ..simulate.corruption import corrupt
from .levels import sigma_for
from .source import Source
from .study import Study

FIRST, SECOND = 0, 1  # acquisitions: each has random numbers of its own


@dataclass(frozen=True)
class Simulated:
    """A scan with its truth.

    study          what was asked
    source         what was scanned
    noisy          (X, Y, Z, V) float32, units of the source
    truth          (X, Y, Z, V) float32, through the same acquisition
    repeat         as noisy, with noise of its own; None where none is asked for
    sigma          standard deviation of one Gaussian part of one coil where all of k-space is
                   measured
    noise_map      (X, Y, Z) float32, of one Gaussian part in the final image
    correlation    of one Gaussian part at neighbours along x, y, z, by formula
    psnr, ssim     the published scores of noisy against truth
    """

    study: Study
    source: Source
    noisy: np.ndarray
    truth: np.ndarray
    repeat: np.ndarray | None
    sigma: float
    noise_map: np.ndarray
    correlation: tuple[float, float, float]
    psnr: float
    ssim: float

    @property
    def snr(self) -> float:
        """Signal of the source over sigma."""
        return self.source.signal / self.sigma


def simulate(study: Study, voice: Voice | None = None) -> Simulated:
    """Scan something with a known truth.

    Raises InputError for a study that can't be meant, a scan that can't be read, or a PSNR that
    can't be met.
    """
    study.refuse()
    voice = voice or Silent()
    source = Source.of(study)
    clean, amount = source.clean.data, study.amount
    voice.say(f"scanning {source.name}, {' x '.join(map(str, clean.shape))}")
    if source.clean.n_nonfinite:
        voice.say(f"note: {source.clean.n_nonfinite} values are NaN or Inf, and 0 in the truth")
    draw = draw_of(study, clean, FIRST)
    truth = draw.truth
    if amount.psnr is not None:
        voice.say(f"seeking the sigma of {amount.psnr:g} dB")
        sigma = sigma_for(amount.psnr, draw.at, truth)
    else:
        sigma = amount.sigma_of(source.signal)
    noisy = draw.at(sigma)
    psnr, ssim = difusion_scores(noisy, truth)
    return Simulated(
        study=study,
        source=source,
        noisy=noisy,
        truth=truth,
        repeat=draw_of(study, clean, SECOND).at(sigma) if study.has_repeat else None,
        sigma=sigma,
        noise_map=np.asarray(sigma * draw.sd_over_sigma, np.float32),
        correlation=study.correlation_on(clean.shape),
        psnr=psnr,
        ssim=ssim,
    )


class Draw(Protocol):
    """One draw of noise on one scan."""

    @property
    def truth(self) -> np.ndarray:
        """(X, Y, Z, V) without noise."""
        ...

    @property
    def sd_over_sigma(self) -> np.ndarray:
        """(X, Y, Z) of one Gaussian part in the final image."""
        ...

    def at(self, sigma: float) -> np.ndarray:
        """(X, Y, Z, V) with noise of sigma."""
        ...


def draw_of(study: Study, clean: np.ndarray, which: int) -> Draw:
    """One draw of noise on a scan (X, Y, Z, V), FIRST or SECOND."""
    seed = [study.seed, which]
    if study.is_in_kspace:
        return acquire(clean, study.acquisition, np.random.default_rng(seed))
    return OnImage(clean, study, seed)


@dataclass(frozen=True)
class OnImage:
    """One draw of noise that is put on the image."""

    truth: np.ndarray
    study: Study
    seed: list[int]

    @property
    def sd_over_sigma(self) -> np.ndarray:
        """(X, Y, Z) ones."""
        return np.ones(self.truth.shape[:3], np.float32)

    def at(self, sigma: float) -> np.ndarray:
        """(X, Y, Z, V) float32, from the same random numbers at every sigma."""
        study, rng = self.study, np.random.default_rng(self.seed)
        return corrupt(self.truth, sigma, rng, study.law, study.n_coils, study.correlation)
