"""Magnitudes of N coils with sigma = 1: their mean, variance and density at any signal.

Source  Constantinides et al., Magn Reson Med 38:852, 1997.
Here    With θ in units of sigma and N coils (N may be any number from ½ to 64, 1 is Rician),
            E[m | θ] = √2 Γ(N+½)/Γ(N) 1F1(-½; N; -θ²/2),    Var[m | θ] = θ² + 2N - E[m | θ]².
Differs nothing
"""

import numpy as np
from scipy.special import gammaln, hyp0f1, ive, poch

LAWS = ("gaussian", "rician", "nc-chi")
N_COILS_RANGE = (0.5, 64.0)  # ½: the absolute value of one Gaussian; checked up to 64
THETA_SERIES = 10.0  # from here up the large-θ series of 1F1 is exact to rounding, N up to 64
THETA_LEVEL = 1e3  # from here up θ² + 2N - E[m]² loses digits and 1 - (N-½)/θ² is as good


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
