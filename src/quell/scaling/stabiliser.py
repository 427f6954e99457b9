"""The stabiliser: magnitudes bent so that their noise is 1 at any signal, and the exact way back.

Source  Foi, "Noise estimation and removal in MR imaging: the variance-stabilization approach",
        ISBI 2011 (the plan, the exact unbiased inverse).
Idea    The noise of the magnitude is weaker where the signal is low, so the magnitude is bent by f
        with f'(m) = 1/sd, the sd at the signal whose mean magnitude is m. The way back is not f⁻¹
        but the signal θ whose mean E[f(m) | θ] is the denoised value: it takes out the noise floor
        too.
Here    Below the mean magnitude of pure noise, where no signal has its mean, f goes on straight.
        f(m) - m → 0 for large m, so at high SNR the scaled value is the signal in units of sigma.
Differs From Foi: f starts as the integral of 1/sd and is then refined by the variance it leaves,
        his f is optimised as a whole; N need not be 1.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from .curve import Curve
from .magnitudes import LAWS, N_COILS_RANGE, mean_magnitude, quadrature, variance

N_REFINEMENTS = 6  # more would gain little variance and cost skewness: see `tabulate`
THETA_BENT = 100.0  # from here up f is straight within a standard deviation: E[f(m)] = f(E[m])
THETA_END = 1e12  # larger than float32 data over any noise
M_BELOW = -1e6  # where the straight line below the noise floor ends
SPREAD_PASSES = 10
VARIANCE_STEPS, VARIANCE_UP_TO = 200, 100  # of a table: per unit, and where Var[m] is 1 enough


@dataclass(frozen=True, eq=False)
class Stabiliser:
    """The tables of f and of its exact unbiased inverse, for one law and data with sigma = 1.

    m      (n + 1,)  magnitude; the first lies far below the noise floor, the others are `mean`
    f      (n + 1,)  stabilised value of m
    theta  (n,)      signal, from 0
    mean   (n,)      E[m | theta], the signal with the noise floor
    eta    (n,)      E[f(m) | theta]
    spread (n,)      Var[m | theta]
    """

    m: np.ndarray
    f: np.ndarray
    theta: np.ndarray
    mean: np.ndarray
    eta: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, law: str, n_coils: float = 1.0) -> "Stabiliser":
        """The stabiliser of a law: made once for each number of coils, then kept.

        law      "gaussian" (nothing to stabilise), "rician" or "nc-chi"
        n_coils  N of nc-chi, ½ to 64, need not be whole; must stay 1 for the other laws

        Raises ValueError in words for anything else.
        """
        if law not in LAWS:
            raise ValueError(f"law = {law!r}: choose one of {', '.join(LAWS)}.")
        if law != "nc-chi" and n_coils != 1:
            raise ValueError(f"n_coils = {n_coils} with law {law!r}: only nc-chi has coils.")
        low, high = N_COILS_RANGE
        if not low <= n_coils <= high:
            raise ValueError(f"n_coils = {n_coils}: must lie between {low} and {high}.")
        return IDENTITY if law == "gaussian" else tabulate(float(n_coils))

    def apply(self, m: np.ndarray) -> np.ndarray:
        """f(m) of magnitudes with sigma = 1: the noise of the result has sd 1 at any signal."""
        if m.dtype == np.float32:
            return self._applied(m)
        return np.interp(m, self.m, self.f)

    def undo(self, d: np.ndarray) -> np.ndarray:
        """The signal θ with E[f(m) | θ] = d; 0 for a d below that of pure noise."""
        return np.interp(d, self.eta, self.theta)

    def undo_to_mean(self, d: np.ndarray) -> np.ndarray:
        """E[m | θ] of the same θ: what averaging many repeats would give, noise floor and all.

        Below pure noise it goes on straight, as f does: clamped there, averages would rise.
        """
        if d.dtype == np.float32:
            return np.maximum(self._undone_to_mean(d), 0)
        below = np.minimum(d - self.eta[0], 0) / self._slope_below
        return np.maximum(np.interp(d, self.eta, self.mean) + below, 0)

    def mean_of(self, theta: np.ndarray) -> np.ndarray:
        """E[m | theta]: puts the noise floor back on a signal."""
        return np.interp(theta, self.theta, self.mean)

    @property
    def _slope_below(self) -> float:
        """Of f below the noise floor."""
        return float((self.f[1] - self.f[0]) / (self.m[1] - self.m[0]))

    @cached_property
    def _applied(self) -> "Curve":
        return Curve.of(self.m[1:], self.f[1:], self._slope_below)

    @cached_property
    def _undone_to_mean(self) -> "Curve":
        return Curve.of(self.eta, self.mean, 1 / self._slope_below)

    def variance_at(self, mean: np.ndarray) -> np.ndarray:
        """Var[m | θ] where E[m | θ] = mean: 1 at high signal, less towards pure noise."""
        return np.interp(mean, self.mean, self.spread)

    def without_floor(self, mean: np.ndarray) -> np.ndarray:
        """The signal θ with E[m | θ] = mean; 0 for a mean below that of pure noise."""
        return np.interp(mean, self.mean, self.theta)


class Identity(Stabiliser):
    """Gaussian noise: its sd does not depend on the signal and it leaves the mean alone."""

    def apply(self, m: np.ndarray) -> np.ndarray:
        return np.array(m)

    def undo(self, d: np.ndarray) -> np.ndarray:
        return np.array(d)

    def undo_to_mean(self, d: np.ndarray) -> np.ndarray:
        return np.array(d)

    def mean_of(self, theta: np.ndarray) -> np.ndarray:
        return np.array(theta)

    def without_floor(self, mean: np.ndarray) -> np.ndarray:
        return np.array(mean)

    def variance_at(self, mean: np.ndarray) -> np.ndarray:
        return np.ones_like(mean)


IDENTITY = Identity(*(np.empty(0),) * 6)


@lru_cache(maxsize=16)
def tabulate(n_coils: float) -> Stabiliser:
    """Make the tables for N coils, in about half a second.

    With f' = 1/sd alone the variance of f(m) runs from 0.79 (pure noise) over 1.13 (θ = 2) to 1
    for N = 1, because f bends within one sd. So the slopes are divided by the sd that f leaves,
    and f is integrated anew; after six times the variance is within 0.97 and 1.09 at every θ.
    """
    theta = signal_nodes()
    mean = mean_magnitude(theta, n_coils)
    spread = variance(theta, mean, n_coils)
    slope = 1 / np.sqrt(spread)
    is_bent = theta < THETA_BENT
    magnitude, share = quadrature(theta[is_bent], mean[is_bent], n_coils)
    for _ in range(1 + N_REFINEMENTS):
        m, f = integrate(mean, slope)
        value = np.interp(magnitude, m, f)
        eta = f[1:].copy()
        eta[is_bent] = (share * value).sum(axis=1)
        slope[is_bent] /= np.sqrt((share * value**2).sum(axis=1) - eta[is_bent] ** 2)  # next time
    tables = (m, f, theta, mean, eta, spread)
    for table in tables:
        table.setflags(write=False)  # shared by all who ask for the same N
    return Stabiliser(*tables)


def integrate(mean: np.ndarray, slope: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The table (m, f) of the curve with these slopes, f(m) - m → 0 at its upper end.

    mean   (n,)  magnitudes
    slope  (n,)  f' there; the first also holds below, down to M_BELOW
    """
    # f - m, not f, is what is summed: it stays small, so the last digits survive up to THETA_END
    steps = np.diff(mean) * ((slope - 1)[1:] + (slope - 1)[:-1]) / 2
    f = mean + np.concatenate([[0.0], np.cumsum(steps)]) - steps.sum()
    f_below = f[0] + slope[0] * (M_BELOW - mean[0])
    return np.concatenate([[M_BELOW], mean]), np.concatenate([[f_below], f])


def signal_nodes(n_nodes: int = 2000) -> np.ndarray:
    """Signals to tabulate at, dense near 0 where the curves bend, geometric above THETA_BENT."""
    dense = THETA_BENT * (np.arange(n_nodes) / n_nodes) ** 2
    n_sparse = int(np.log(THETA_END / THETA_BENT) / np.log(1.05))
    return np.concatenate([dense, np.geomspace(THETA_BENT, THETA_END, n_sparse)])


def sigma_of_spread(spread: np.ndarray, means: np.ndarray, stabiliser: Stabiliser) -> np.ndarray:
    """The noise of one Gaussian part from the spread of magnitudes, which low signal makes smaller.

    spread  (...)     their standard deviation, root of the mean variance over the volumes
    means   (..., V)  their mean in each volume, noise floor included, same unit

    Koay and Basser, J Magn Reson 179:317 (2006), for many volumes that share a sigma:
        sigma² · mean over the volumes of Var[m | E[m] = means / sigma] = spread²,
    found by its fixed point. In pure noise, where that is slow, it ends 7 % below.
    """
    if isinstance(stabiliser, Identity):
        return spread
    # a table by index: np.interp over a large series would take as long as its denoising
    fine = stabiliser.variance_at((np.arange(VARIANCE_UP_TO * VARIANCE_STEPS) + 0.5) /
                                  VARIANCE_STEPS).astype(np.float32)  # fmt: skip
    positive = np.maximum(means, 0) * VARIANCE_STEPS
    known = np.where(spread > 0, spread, np.inf)
    sigma = known
    for _ in range(SPREAD_PASSES):
        place = np.minimum(positive / sigma[..., None], len(fine) - 1).astype(np.int32)
        sigma = known / np.sqrt(fine[place].mean(axis=-1))
    return np.where(spread > 0, sigma, 0)
