"""Without a truth and without a repeat: two scans made of one, whose noise is independent.

Source  The pair of Pang et al., "Recorrupted-to-Recorrupted", CVPR 2021; here it judges.
Idea    With z like the scan's own noise n, of the same covariance, x + n + a z and x + n - z/a have
        noise whose covariance is σ² - σ² = 0. So a denoiser is given the first, and the second
        tells its mean squared error as a repeat would:
            mean (x̂ - (y - z/a))² = mean (x̂ - x)² + (1 + 1/a²) σ².
Here    Magnitudes stay magnitudes: what is given is √((y + a z)² + a² z′² + ...), which has the law
        of the scan at the noise level σ √(1 + a²). Where the signal is well above the noise the
        terms behind do nothing, and only there is compared.
Trap    The noise model has to be right: where the scan's noise is not that of z, the two noises
        are not independent, and whoever keeps more of it is judged wrongly.
"""

from dataclasses import dataclass

import numpy as np

from ..noise import NoiseModel
from .reference import masked
from .repeats import RepeatScore

BRIGHT = 4.0  # signal over noise from which the law of magnitudes is as good as Gaussian


@dataclass(frozen=True)
class Recorruption:
    """A scan with more noise, and what judges a result on it.

    given   (X, Y, Z, V)         data units, to be denoised
    target  (X, Y, Z, V)         data units, of independent noise
    where   (X, Y, Z) bool       where to compare
    sigma   (X, Y, Z)            noise of the scan as it was, data units
    levels  (V,)                 noise of each volume over sigma
    a       how much noise was added, in units of the scan's
    """

    given: np.ndarray
    target: np.ndarray
    where: np.ndarray
    sigma: np.ndarray
    levels: np.ndarray
    a: float

    @staticmethod
    def of(
        data: np.ndarray, mask: np.ndarray, noise: NoiseModel, rng: np.random.Generator, a: float
    ) -> "Recorruption":
        """Add noise of the scan's own kind.

        data  (X, Y, Z, V)    data units, real
        mask  (X, Y, Z) bool  where to compare at most
        """
        V = data.shape[3]
        levels = np.ones(V) if noise.levels is None else noise.levels
        given, target = np.empty_like(data), np.empty_like(data)
        for v in range(V):
            z = [noise.draw_volume(rng) * levels[v] for _ in range(_parts(noise))]
            given[..., v] = data[..., v] + a * z[0]
            if noise.law != "gaussian":
                power = given[..., v] ** 2 + sum((a * more) ** 2 for more in z[1:])
                given[..., v] = np.sqrt(power)
            target[..., v] = data[..., v] - z[0] / a
        empty = (data == 0).all(axis=3)  # zeroed by the scanner: no noise is there, none comes
        given[empty] = target[empty] = 0
        where = mask & (noise.sigma > 0) & ~empty
        if noise.law != "gaussian":
            snr = np.median(data / levels, axis=3) / np.where(where, noise.sigma, 1)
            where &= snr > BRIGHT
        return Recorruption(given, target, where, noise.sigma, levels, a)

    def score(self, denoised: np.ndarray, volumes: np.ndarray) -> RepeatScore:
        """MSE over the noise of what was given: 1 = nothing gained, 0 = perfect.

        denoised  (X, Y, Z, V)  data units, made from `given`
        volumes   (G,)          which ones count
        """
        a2, scores = self.a**2, np.empty(len(volumes))
        for i, v in enumerate(volumes):
            sigma = self.sigma[self.where] * self.levels[v]
            off = masked(denoised, self.where, v) - masked(self.target, self.where, v)
            scores[i] = (np.mean((off / sigma) ** 2) - (1 + 1 / a2)) / (1 + a2)
        error = scores.std(ddof=1) / np.sqrt(len(scores)) if len(scores) > 1 else float("nan")
        return RepeatScore(float(scores.mean()), float(error), len(scores))


def _parts(noise: NoiseModel) -> int:
    """Gaussian parts of a value: 1 of a signed one, 2 N of a magnitude of N coils."""
    return 1 if noise.law == "gaussian" else max(2, round(2 * noise.n_coils))
