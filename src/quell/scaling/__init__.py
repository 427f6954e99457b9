"""Units: every scan is denoised where its noise has a standard deviation of 1, whatever the signal.

Idea    Dividing by the noise map sets the Gaussian noise of every coil to 1. Magnitudes, whose
        noise is weaker where the signal is low, are bent as well: see `stabiliser`.
Here    `magnitudes` is the law of their noise, `stabiliser` bends them, along a `curve`, and
        `scale` does it to a scan, there and back.
"""

from .magnitudes import LAWS, N_COILS_RANGE
from .scale import Scale
from .stabiliser import IDENTITY, Identity, Stabiliser, sigma_of_spread

__all__ = [
    "LAWS",
    "N_COILS_RANGE",
    "IDENTITY",
    "Identity",
    "Scale",
    "Stabiliser",
    "sigma_of_spread",
]
