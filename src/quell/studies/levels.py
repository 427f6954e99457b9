"""How much noise: the levels that a paper published, met by the paper's own score.

Paper   Di-Fusion: Wu et al., ICLR 2025, Table 2 of its poster, row "Noisy".
Idea    The paper says how noisy its five simulations are by their PSNR alone. So sigma is sought
        that gives this PSNR, by the same score, to the draw of noise that is kept.
Here    `difusion_scores` without its SSIM, a root search on log sigma.
Differs The paper's scans are M4Raw heads with four coils; these are whatever is scanned, so sigma
        is another one. The same PSNR is not the same task either: the score stretches each image
        by its own extremes and counts air.
"""

import math
from collections.abc import Callable

import numpy as np

from ..evaluate.published import stretched
from ..series import InputError

LEVELS = {1: 13.72, 2: 16.09, 3: 20.38, 4: 23.76, 5: 26.63}  # dB; Di-Fusion's Simulations 1 to 5
STEP, FARTHEST = math.log(2), math.log(1e5)  # of ln sigma, from its first guess
PSNR_MAX = 100.0  # dB; the rounding of float32 lies at some 140
TOLERANCE = 1e-4  # of ln sigma: 0.001 dB


def published_psnr(noisy: np.ndarray, truth: np.ndarray) -> float:
    """The PSNR of `difusion_scores`, dB, without its SSIM, which takes longest.

    noisy  (X, Y, Z, V)  any unit
    truth  (X, Y, Z, V)  stretched to 0 ... 1
    """
    error = stretched(noisy)
    error -= truth
    with np.errstate(divide="ignore"):  # inf where a slice has no error
        return float(np.mean(-10 * np.log10(np.square(error, out=error).mean(axis=(0, 1)))))


def sigma_for(psnr: float, noisy_at: Callable[[float], np.ndarray], truth: np.ndarray) -> float:
    """The sigma at which noisy_at(sigma) has that published PSNR against the truth.

    psnr      dB, up to PSNR_MAX
    noisy_at  one draw of noise at any sigma, (X, Y, Z, V)
    truth     (X, Y, Z, V)  as noisy_at(0)

    Raises InputError for a PSNR that no sigma gives: very low ones, as even noise alone resembles
    an image that is mostly air.
    """
    from scipy.optimize import brentq

    x0 = stretched(truth)

    def excess(log_sigma: float) -> float:
        return published_psnr(noisy_at(math.exp(log_sigma)), x0) - psnr

    start = math.log(float(np.ptp(truth))) - psnr / 20 * math.log(10)
    low = start
    while excess(low) < 0:
        low -= STEP
    high = low + STEP
    while (above := excess(high)) > 0:
        low, high = high, high + STEP
        if high > start + FARTHEST:
            raise InputError(
                f"the noisy PSNR of this scan can't be as low as {psnr:g} dB: with noise alone it "
                f"is {psnr + above:.2f} dB; ask for more",
                2,
            )
    return math.exp(float(brentq(excess, low, high, xtol=TOLERANCE)))
