"""Noise of a known law on a known image.

Source  Gudbjartsson and Patz 1995 (Rician); Constantinides et al. 1997 (N coils, root of the sum
        of squares); Pruessmann et al. 1999 (g-factor of parallel imaging).
Idea    The scanner adds Gaussian noise to the real and the imaginary part of every coil's image.
        What the law of the stored magnitude is depends only on how these parts are put together.
Here    sigma is always the standard deviation of one Gaussian part, not of the magnitude.
"""

import math
from collections.abc import Callable

import numpy as np

LAG_1_MAX = 0.7071  # 1/sqrt(2), the most that three taps can do; see `tap`

Draw = Callable[[], np.ndarray]


def corrupt(
    clean: np.ndarray,
    sigma: np.ndarray | float,
    rng: np.random.Generator,
    law: str = "gaussian",
    n_coils: int = 1,
    correlation: tuple[float, float, float] | None = None,
) -> np.ndarray:
    """Add noise to every volume, independent between volumes.

    clean         (X, Y, Z, V)       real; magnitudes A ≥ 0 for the two magnitude laws
    sigma         scalar or (X,Y,Z)  standard deviation of one Gaussian part, units of clean
    rng           where every random number comes from
    law           "gaussian"         A + n, can be negative
                  "rician"           |A + n₁ + i n₂|
                  "nc-chi"           sqrt((A + n₁)² + n₂² + … + n₂ₙ²), N = n_coils, signal in one
    n_coils       N of nc-chi; must stay 1 for the other laws
    correlation   lag-1 coefficients of the noise along x, y, z, each within ±0.7071; None = white

    Returns (X, Y, Z, V) float32. Raises ValueError in words for arguments that do not fit.
    """
    refuse_unfit(clean, sigma, law, n_coils)
    sigma_map = np.asarray(sigma, np.float32)
    taps = tuple(tap(lag_1) for lag_1 in correlation or (0.0, 0.0, 0.0))
    combine = LAWS[law]
    noisy = np.empty(clean.shape, np.float32)

    def draw() -> np.ndarray:
        return sigma_map * unit_noise(clean.shape[:3], rng, taps)

    for i_volume in range(clean.shape[3]):  # one volume at a time: a scan fits in memory twice
        noisy[..., i_volume] = combine(clean[..., i_volume].astype(np.float32), draw, n_coils)
    return noisy


def add_gaussian(signal: np.ndarray, draw: Draw, n_coils: int) -> np.ndarray:
    """signal + n, (X, Y, Z)."""
    return signal + draw()


def magnitude(signal: np.ndarray, draw: Draw, n_coils: int) -> np.ndarray:
    """Root of the sum of squares of 2·n_coils parts, the signal in the first, (X, Y, Z)."""
    power = (signal + draw()) ** 2
    for _ in range(2 * n_coils - 1):
        power += draw() ** 2
    return np.sqrt(power)


LAWS: dict[str, Callable[[np.ndarray, Draw, int], np.ndarray]] = {
    "gaussian": add_gaussian,
    "rician": magnitude,  # nc-chi of one coil
    "nc-chi": magnitude,
}


def refuse_unfit(clean: np.ndarray, sigma: np.ndarray | float, law: str, n_coils: int) -> None:
    """Raise ValueError, in words, for arguments of `corrupt` that do not fit together."""
    if law not in LAWS:
        raise ValueError(f"unknown noise law {law!r}: choose one of {', '.join(LAWS)}")
    if clean.ndim != 4 or np.iscomplexobj(clean):
        raise ValueError(f"clean must be real and (X, Y, Z, V), not {clean.dtype} {clean.shape}")
    if np.shape(sigma) not in ((), clean.shape[:3]):
        raise ValueError(f"sigma is {np.shape(sigma)}: give a number or a {clean.shape[:3]} map")
    if not np.all(np.asarray(sigma) >= 0):
        raise ValueError("sigma must be zero or positive everywhere")
    if n_coils < 1 or (n_coils != 1 and law != "nc-chi"):
        raise ValueError(f"n_coils = {n_coils} with law {law!r}: only nc-chi has more than one")


def tap(lag_1: float) -> float:
    """The a of the kernel (a, 1, a) whose output has the asked lag-1 correlation.

    lag_1   within ±1/√2

    White noise through (a, 1, a) has lag-1 correlation r = 2a / (1 + 2a²) and lag-2 correlation
    a² / (1 + 2a²), nothing further out. r is largest, 1/√2, at a = 1/√2; below that, the smaller
    root of 2r a² - 2a + r = 0 is meant.
    """
    if abs(lag_1) > LAG_1_MAX:
        raise ValueError(f"lag-1 correlation {lag_1} is out of reach: stay within ±{LAG_1_MAX}")
    return (1 - math.sqrt(1 - 2 * lag_1**2)) / (2 * lag_1) if lag_1 else 0.0


def unit_noise(
    shape: tuple[int, ...], rng: np.random.Generator, taps: tuple[float, ...]
) -> np.ndarray:
    """One Gaussian field of unit variance everywhere, up to and including the edges.

    shape   (X, Y, Z)
    taps    one a per axis, see `tap`

    Drawn with a margin of one voxel on each filtered axis, which the filter then uses up.
    """
    margin = [2 if a else 0 for a in taps]
    field = rng.standard_normal([n + m for n, m in zip(shape, margin, strict=True)], np.float32)
    for axis, a in enumerate(taps):
        if a:
            inner, below, above = (
                np.take(field, range(start, start + shape[axis]), axis) for start in (1, 0, 2)
            )
            field = ((inner + a * (below + above)) / math.sqrt(1 + 2 * a * a)).astype(np.float32)
    return field


def g_factor(shape: tuple[int, int, int], peak: float = 1.8) -> np.ndarray:
    """How parallel imaging spreads the noise: most in the middle of the image, least at its rim.

    shape   (X, Y, Z)
    peak    value at the centre of every slice, at least 1, below about 3.6

    Returns (X, Y, Z) float32: a Gaussian hill on a plateau, the same in every slice, with mean 1
    over the middle of the field of view (the ellipse of 0.8 of it, about where a head is), so that
    sigma · g_factor is noise of sigma on average. The rim lies below 1 for that reason.
    """
    x, y = ((np.arange(n) - n // 2) / max(n / 2, 1) for n in shape[:2])
    r2 = x[:, None] ** 2 + y[None, :] ** 2  # 1 at the middle of each side
    hill = np.exp(-r2 / (2 * 0.3**2))
    mean = hill[r2 <= 0.8**2].mean()
    plateau = (1 - peak * mean) / (1 - mean) if mean < 1 else peak
    if peak < 1 or plateau <= 0:
        raise ValueError(f"peak = {peak}: choose at least 1 and less than {1 / mean:.1f}")
    in_plane = plateau + (peak - plateau) * hill
    return np.repeat(in_plane[..., None], shape[2], axis=2).astype(np.float32)
