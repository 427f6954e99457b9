"""Implicit prior: a blind denoiser, climbed step by step until it finds no more noise.

Paper   Kadkhodaie, Simoncelli, "Stochastic solutions for linear inverse problems using the prior
        implicit in a denoiser", NeurIPS 2021, arXiv:2007.13640 (2020: "Solving linear inverse
        problems using the prior implicit in a denoiser").
Idea    A denoiser that is told no noise level, y + f(y), knows where images are more likely:
        f(y) = σ² ∇log p(y). From the noisy image steps of a growing share h_t go that way,
            d_t = f(y),  σ_t² = ‖d_t‖² / M,  y ← y + h_t d_t + γ_t z,
            h_t = h₀ t / (1 + h₀ (t - 1)),   γ_t² = ((1 - β h_t)² - (1 - h_t)²) σ_t²,
        until σ_t is small. β = 1 puts no noise back; less makes the result one of many.
Here    Every volume is an image of its own. The ascent starts at the noisy image, and nothing
        holds it there: denoising, as for a prior the data only say where to begin.
Differs The paper's denoiser has seen clean images. Here are none: it learns from the scan with
        noise of random levels added, and at lower levels than the scan's it is only as good as a
        bias-free network can carry over (`implicit`). One pass of a denoiser has the least squared
        error there is, and climbing on towards likely images adds to it: on a phantom 0.3 dB down
        to σ_t = 0.5, and 1.4 dB down to 0.2. β = 1 is the default, as no details are to be
        invented. Preset "paper": h₀ and β as published, and about its σ_L, which is a hundredth of
        what images range over; the length of training is quell's.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..consistency import keep_means
from ..images import Images
from ..implicit import Ascent, climb, learn_prior
from ..noise import NoiseModel
from ..run import Run, State
from ..series import Series


@dataclass(frozen=True)
class ImplicitPrior(Ascent):
    """Implicit prior; its fields are its settings."""

    name: ClassVar[str] = "implicit_prior"
    paper: ClassVar[str] = "Kadkhodaie & Simoncelli 2021, arXiv:2007.13640"
    summary: ClassVar[str] = "one image, up the prior implicit in a blind denoiser of itself"

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """The blind denoiser, from all volumes of all scans."""
        return learn_prior(self, Images.of_all(scans), noises, run)

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """The ascent of every slice of every volume, from the slice itself."""
        images = Images.of(scan)
        return keep_means(
            climb(self, scan.data, images, noise, state, run), scan.data, images.where
        )
