"""Singular values of signal in noise: the noise and what of them to keep.

Papers  Marchenko and Pastur 1967 (the law); Veraart, Fieremans, Novikov, Magn Reson Med 76:1582,
        2016, and Cordero-Grande et al., NeuroImage 200:391, 2019 (search for its edge); Gavish and
        Donoho, IEEE Trans Inf Theory 60:5040, 2014, and 63:2137, 2017 (noise from the median,
        optimal shrinkage); Leeb and Romanov, ibid. 67:3009, 2021 (of whitened matrices).
Idea    Let m and n be the smaller and the larger side of a matrix, beta = m / n, s a singular value
        and y = s / (sigma √n). Noise alone ends at y = 1 + √beta. A component of strength x, in the
        same units, shows as y² = (x + 1/x) (x + beta/x), along a direction that is off by an angle
        which x tells, too.
Here    Squared singular values come as `values` (B, m), rising, of B matrices at once.
Differs sigma counts the degrees of freedom that signal took, which the papers leave in it.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Law:
    """Squared singular values of noise of variance 1, a matrix of N voxels by V volumes."""

    N: int
    V: int

    @property
    def m(self) -> int:
        return min(self.N, self.V)

    @property
    def n(self) -> int:
        return max(self.N, self.V)

    @property
    def beta(self) -> float:
        return self.m / self.n

    @property
    def edge(self) -> float:
        """The largest that is noise, n (1 + √beta)²."""
        return self.n * (1 + self.beta**0.5) ** 2

    @cached_property
    def medians(self) -> tuple[np.ndarray, np.ndarray]:
        """Which value is the median of those below k signals, and its size, k = 0 … m - 1.

        Without k components, noise is a matrix of N - k by V - k. Of an even number of values the
        lower of the middle two is taken, with the share of the law that lies below it.
        """
        p = self.m - np.arange(self.m)  # values of noise
        n = self.n - np.arange(self.m)
        which = (p + 1) // 2  # from 1
        return which - 1, n * quantile((which - 0.5) / p, p / n)


def quantile(share: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Below which a share of the Marchenko-Pastur law of variance 1 lies; all of one shape.

    beta  0 … 1

    With value = 1 + beta - 2 √beta cos t the density is (2/π) sin² t / (1 + beta - 2 √beta cos t),
    0 < t < π. Its integral is known, and t is found by halving.
    """
    r = np.sqrt(beta)
    low, high = np.zeros_like(r), np.full_like(r, np.pi)
    for _ in range(60):
        t = (low + high) / 2
        turn = np.arctan2((1 + r) * np.sin(t / 2), (1 - r) * np.cos(t / 2))
        integral = np.sin(t) / r + (1 + beta) * t / (2 * beta) - (1 - beta) * turn / beta
        is_low = integral / np.pi < share
        low, high = np.where(is_low, t, low), np.where(is_low, high, t)
    return np.asarray(1 + beta - 2 * r * np.cos(low))


# ---- how strong the noise is -------------------------------------------------------------------


def noise_by_median(values: Tensor, law: Law) -> tuple[Tensor, Tensor]:
    """sigma² (B,) from the median of the values below the signals, and where noise ends (B,).

    Begins without signals; those above the edge leave a lower median, and that a lower edge.
    """
    which, sizes = (torch.from_numpy(table) for table in law.medians)
    variances = values[:, which] / sizes  # (B, m), one for each number of signals
    k = torch.zeros(len(values), 1, dtype=torch.long)
    while True:
        variance = variances.gather(1, k)
        above = (values > law.edge * variance).sum(dim=1, keepdim=True)
        more = torch.maximum(k, above).clamp(max=law.m - 1)
        if torch.equal(more, k):
            return variance[:, 0], law.edge * variance[:, 0]
        k = more


def noise_by_search(values: Tensor, law: Law) -> tuple[Tensor, Tensor]:
    """sigma² (B,) as the mean of the most values that spread no wider than it allows; the last.

    Below k signals noise is N - k by V - k: its values have the mean sigma² (n - k) and lie within
    4 sigma² √((N - k)(V - k)).
    """
    p = torch.arange(1, law.m + 1)  # values that are noise
    n = law.n - law.m + p
    by_mean = values.cumsum(dim=1) / (n * p)
    by_spread = (values - values[:, :1]) / (4 * (n * p).double().sqrt())
    last = torch.where(by_spread <= by_mean, p, 0).amax(dim=1, keepdim=True) - 1
    return by_mean.gather(1, last)[:, 0], values.gather(1, last)[:, 0]


# ---- what a component above the edge is multiplied by ------------------------------------------


def optimal_factor(y2: Tensor, stretch: Tensor, law: Law, lengths: tuple[float, float]) -> Tensor:
    """The factor of least squared error, (B, k).

    y2       (B, k)  y²
    stretch  (B, k)  ‖C^½ û‖² of the estimated direction û among voxels whose noise was whitened
    lengths          least and most that it may be of any direction: C's eigenvalues

    In white noise it is x c c' / y = √((y² - beta - 1)² - 4 beta) / y², c and c' the cosines of the
    angles between estimated and true directions (Gavish and Donoho 2017). But û is c of the true u
    and, to 1 - c², a random one, which C leaves as long on average. So with τ = ‖C^½ u‖² stretch is
    c² τ + 1 - c², and of what C makes of û the share τ / stretch is C^½ u.
    """
    q = y2 - law.beta - 1
    root = (q**2 - 4 * law.beta).clamp(min=0).sqrt()
    x2 = (q + root) / 2
    c2 = ((x2**2 - law.beta) / (x2 * (x2 + law.N / law.n))).clamp(min=1e-9)
    tau = ((stretch - (1 - c2)) / c2).clamp(*lengths)
    return (root / y2 * tau / (c2 * tau + 1 - c2)).clamp(max=1)


def no_factor(y2: Tensor, stretch: Tensor, law: Law, lengths: tuple[float, float]) -> Tensor:
    """1 (B, k): what is above the edge is kept as it is."""
    return torch.ones_like(y2)
