"""Units: every scan is denoised where its noise has a standard deviation of 1, whatever the signal.

Source  Foi, "Noise estimation and removal in MR imaging: the variance-stabilization approach",
        ISBI 2011 (the plan, the exact unbiased inverse); Constantinides et al., Magn Reson Med
        38:852, 1997 (mean and variance of the magnitude of N coils).
Idea    Dividing by the noise map sets the Gaussian noise of every coil to 1. The noise of the
        magnitude is still weaker where the signal is low, so the magnitude is bent by f with
        f'(m) = 1/sd, the sd at the signal whose mean magnitude is m. The way back is not f⁻¹ but
        the signal θ whose mean E[f(m) | θ] is the denoised value: it takes out the noise floor too.
Here    With θ in units of sigma and N coils (N may be any number from ½ to 64, 1 is Rician),
            E[m | θ] = √2 Γ(N+½)/Γ(N) 1F1(-½; N; -θ²/2),    Var[m | θ] = θ² + 2N - E[m | θ]².
        Below the mean magnitude of pure noise, where no signal has its mean, f goes on straight.
        f(m) - m → 0 for large m, so at high SNR the scaled value is the signal in units of sigma.
Differs From Foi: f starts as the integral of 1/sd and is then refined by the variance it leaves,
        his f is optimised as a whole; N need not be 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np
import torch
from scipy.special import gammaln, hyp0f1, ive, poch

LAWS = ("gaussian", "rician", "nc-chi")
N_COILS_RANGE = (0.5, 64.0)  # ½: the absolute value of one Gaussian; checked up to 64

N_REFINEMENTS = 6  # more would gain little variance and cost skewness: see `tabulate`
THETA_SERIES = 10.0  # from here up the large-θ series of 1F1 is exact to rounding, N up to 64
THETA_LEVEL = 1e3  # from here up θ² + 2N - E[m]² loses digits and 1 - (N-½)/θ² is as good
THETA_BENT = 100.0  # from here up f is straight within a standard deviation: E[f(m)] = f(E[m])
THETA_END = 1e12  # larger than float32 data over any noise
SPREAD_PASSES = 10
VARIANCE_STEPS, VARIANCE_UP_TO = 200, 100  # of a table: per unit, and where Var[m] is 1 enough
VALUES_AT_ONCE = 1 << 18  # converted together: what they pass through stays in the caches
M_BELOW = -1e6  # where the straight line below the noise floor ends


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


@dataclass(frozen=True, eq=False)
class Curve:
    """y(x) = x + d(u) from a table over u = t / (t + SHARE), t = x - start: even in u, so that a
    place in it is found by one division. Straight below the start, y - x → 0 far above it.

    `np.interp` searches for each value; of a large series that takes as long as its denoising.

    start, slope  where the straight line ends, and how steep it is
    d, rise       (n,) d at the nodes, and the way to the next
    """

    SHARE: ClassVar[float] = 4.0  # half of the nodes lie within so much of the start
    NODES: ClassVar[int] = 1 << 14  # float32 knows x no better than this table y

    start: float
    slope: float
    d: torch.Tensor
    rise: torch.Tensor

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, slope: float) -> "Curve":
        """The curve through the points (x, y) of a table, x rising."""
        u = np.arange(cls.NODES) / cls.NODES
        nodes = x[0] + cls.SHARE * u / (1 - u)
        d = np.append(np.interp(nodes, x, y) - nodes, 0.0)
        rise = torch.from_numpy(np.diff(d).astype(np.float32))
        return cls(float(x[0]), slope, torch.from_numpy(d[:-1].astype(np.float32)), rise)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """y of float32 values, as float32."""
        x = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
        t = (x - self.start).clamp_(min=0)
        place = t.div_(t + self.SHARE).mul_(self.NODES).clamp_(max=self.NODES - 1)
        node = place.int()
        share = place.sub_(node)
        y = self.rise[node].mul_(share).add_(self.d[node]).add_(x)
        if self.slope != 1:
            y.add_((x - self.start).clamp_(max=0), alpha=self.slope - 1)
        return y.numpy()


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


@dataclass(frozen=True, eq=False)
class Scale:
    """Between scanner units and the units the methods work in; make it with `Scale.of`.

    sigma       (X, Y, Z) float32  noise of one Gaussian part (of each coil), scanner units, > 0
    stabiliser                     of the scan's law
    """

    sigma: np.ndarray
    stabiliser: Stabiliser

    @classmethod
    def of(cls, sigma: np.ndarray, law: str, n_coils: float = 1.0) -> "Scale":
        """The scale of a scan.

        sigma    (X, Y, Z)  noise map, scanner units
        law                 "gaussian", "rician" or "nc-chi"
        n_coils             N of nc-chi, 1 for the others

        Raises ValueError if sigma is no 3-D map, or anywhere not a positive finite number.
        """
        sigma = np.array(sigma, np.float32)
        if sigma.ndim != 3:
            raise ValueError(f"sigma has shape {sigma.shape}: give a map (X, Y, Z).")
        n_bad = int(sigma.size - np.count_nonzero((sigma > 0) & np.isfinite(sigma)))
        if n_bad:
            raise ValueError(
                f"sigma is 0, negative or not finite in {n_bad} of {sigma.size} voxels: "
                "fill them, for instance with the median of the others."
            )
        return cls(sigma, Stabiliser.of(law, n_coils))

    def apply(self, data: np.ndarray) -> np.ndarray:
        """To working units, as a new float32 array (complex64 for complex data).

        data  (X, Y, Z) or (X, Y, Z, V)  scanner units; complex only with the Gaussian law
        """
        return self._convert(data, lambda x, sigma: self.stabiliser.apply(x / sigma))

    def undo(self, denoised: np.ndarray) -> np.ndarray:
        """Back to scanner units without the noise floor; the arguments of `apply`."""
        return self._convert(denoised, lambda x, sigma: self.stabiliser.undo(x) * sigma)

    def undo_keeping_floor(self, denoised: np.ndarray) -> np.ndarray:
        """Back to scanner units as the mean magnitude, for those who remove the floor later."""
        return self._convert(denoised, lambda x, sigma: self.stabiliser.undo_to_mean(x) * sigma)

    def without_floor(self, denoised: np.ndarray) -> np.ndarray:
        """Denoised magnitudes in scanner units, their noise floor taken off."""
        return self._convert(
            denoised, lambda x, sigma: self.stabiliser.without_floor(x / sigma) * sigma
        )

    def _convert(
        self, data: np.ndarray, convert: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ) -> np.ndarray:
        if data.ndim not in (3, 4) or data.shape[:3] != self.sigma.shape:
            raise ValueError(f"data {data.shape} is not on the grid of sigma {self.sigma.shape}.")
        is_complex = np.iscomplexobj(data)
        if is_complex and not isinstance(self.stabiliser, Identity):
            raise ValueError("complex data have Gaussian noise: a magnitude's law does not fit.")
        out = np.empty_like(data, dtype=np.complex64 if is_complex else np.float32)
        sigma = self.sigma.reshape(*self.sigma.shape, *[1] * (data.ndim - 3))
        n_rows = max(1, VALUES_AT_ONCE // max(1, data[:1].size))
        for start in range(0, len(data), n_rows):  # what lies together in memory
            rows = slice(start, start + n_rows)
            out[rows] = convert(data[rows], sigma[rows])
        return out


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


def mean_magnitude(theta: np.ndarray, n_coils: float) -> np.ndarray:
    """E[m | theta] = √2 Γ(N+½)/Γ(N) 1F1(-½; N; -θ²/2) without overflow or cancellation.

    theta    (n,)  signal, units of sigma
    n_coils        N
    """
    N, near, far = n_coils, np.minimum(theta, THETA_SERIES), np.maximum(theta, THETA_SERIES)
    # Kummer: 1F1(-½; N; -x) = e⁻ˣ 1F1(N+½; N; x), all of whose terms are positive
    x = near**2 / 2
    term = total = np.exp(-x)
    for k in range(180):  # they are Poisson weights, nearly: x ≤ 50
        term = term * (N + 0.5 + k) / (N + k) * x / (k + 1)
        total = total + term
    by_kummer = np.sqrt(2) * poch(N, 0.5) * total  # poch: Γ(N+½)/Γ(N)
    x = far**2 / 2
    term = total = np.ones_like(x)
    for k in range(80):  # asymptotic: below 1e-16 by then, and not yet growing: x ≥ 50
        term = term * (k - 0.5) * (k + 0.5 - N) / ((k + 1) * x)
        total = total + term
    return np.where(theta < THETA_SERIES, by_kummer, far * total)


def variance(theta: np.ndarray, mean: np.ndarray, n_coils: float) -> np.ndarray:
    """Var[m | theta], given E[m | theta]; (n,)."""
    level = 1 - (n_coils - 0.5) / np.maximum(theta, THETA_LEVEL) ** 2
    return np.where(theta < THETA_LEVEL, theta**2 + 2 * n_coils - mean**2, level)


def quadrature(
    theta: np.ndarray, mean: np.ndarray, n_coils: float
) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes (k, 128) and their shares, such that E[g(m) | theta] = Σ share · g(magnitude).

    theta    (k,)  signals
    mean     (k,)  E[m | theta]; all of the density lies within 9 of it
    n_coils        N
    """
    node, weight = np.polynomial.legendre.leggauss(128)
    low = np.maximum(mean - 9, 0)
    half = (mean + 9 - low) / 2
    magnitude = (low + half)[:, None] + half[:, None] * node
    share = weight * density(magnitude, theta[:, None], n_coils)
    # divided by its own sum: for N < 1 the density is steep at m = 0 and the sum not quite 1
    return magnitude, share / share.sum(axis=1, keepdims=True)


def density(m: np.ndarray, theta: np.ndarray, n_coils: float) -> np.ndarray:
    """Density of the magnitude of N coils, m > 0, any shapes that broadcast.

    p(m | θ) = m²ᴺ⁻¹ 2¹⁻ᴺ/Γ(N) exp(-(m² + θ²)/2) 0F1(; N; (mθ)²/4)

    In logarithms, and 0F1 for mθ ≥ 1 from the scaled Bessel function I of order N - 1: its
    exponential then cancels that of the first factor, where it would overflow by itself.
    """
    z = np.maximum(m * theta, 1)
    bessel = gammaln(n_coils) + (1 - n_coils) * np.log(z / 2) + np.log(ive(n_coils - 1, z)) + z
    small = np.log(hyp0f1(n_coils, np.minimum(m * theta, 1) ** 2 / 4))
    log_p = (2 * n_coils - 1) * np.log(m) - (m**2 + theta**2) / 2
    log_p += (1 - n_coils) * np.log(2) - gammaln(n_coils)
    return np.exp(log_p + np.where(m * theta < 1, small, bessel))
