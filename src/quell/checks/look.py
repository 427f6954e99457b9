"""Look: a scan and what is measured on a few of its slices, each at most once."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from ..series import B0_MAX, Series
from .symptoms import (
    MAX_VOLUMES,
    noise_like_part,
    sampled_slices,
    signal_over_noise,
)

# Mean of a Rician magnitude whose true signal is three times sigma ...
LOW_OVER_SIGMA = 3.17  # ... over sigma
LOW_OVER_SD = 3.27  # ... over the standard deviation of that magnitude


class Denoiser(Protocol):
    """What the checks ask of a method."""

    @property
    def name(self) -> str: ...

    @property
    def assumes_white(self) -> bool: ...


@dataclass(frozen=True)
class Look:
    """A scan and what is measured on a few of its slices, each at most once."""

    series: Series
    mask: np.ndarray  # (X, Y, Z) bool
    sigma: np.ndarray | None = None  # (X, Y, Z) noise map, where it is known
    method: Denoiser | None = None  # that is to be used, where it is known

    @property
    def takes_white(self) -> str:
        """Name of the method, where it takes the noise to be white."""
        return self.method.name if self.method and self.method.assumes_white else ""

    @property
    def best_volumes(self) -> int:
        """Volumes from which on the method is at its best; 1 for one that takes image by image."""
        return getattr(self.method, "best_volumes", 1)  # other packages' methods need not say

    @cached_property
    def is_signed(self) -> bool:
        """Whether the data are complex or have negative values: noise has no floor then."""
        return bool(np.iscomplexobj(self.series.data) or self.series.data.min() < 0)

    @property
    def shows_no_differences(self) -> bool:
        """Whether each volume shows something else, so that none can be held against another."""
        return self.series.fourth_axis in ("contrasts", "echoes")

    @cached_property
    def shells(self) -> list[tuple[float, np.ndarray]]:
        """(b, indices of its volumes), rising; b=0 is the first one, if there is any."""
        bvals = self.series.bvals
        if self.shows_no_differences:
            return [(math.nan, np.array([v])) for v in range(self.series.n_volumes)]
        if bvals is None or len(bvals) != self.series.n_volumes:
            return [(math.nan, np.arange(self.series.n_volumes))]
        b = np.where(bvals <= B0_MAX, 0.0, bvals)
        order = np.argsort(b, kind="stable")
        gap = np.diff(b[order]) > np.maximum(50.0, 0.05 * b[order][1:])
        groups = np.split(order, np.flatnonzero(gap) + 1)
        return [(float(np.median(b[g])), np.sort(g)) for g in groups]

    @cached_property
    def slices(self) -> np.ndarray:
        """Indices of the slices looked at."""
        return sampled_slices(self.mask)

    @cached_property
    def small_mask(self) -> np.ndarray:
        """(X, Y, n) the mask on those slices."""
        return self.mask[:, :, self.slices]

    def small(self, volumes: np.ndarray) -> np.ndarray:
        """(X, Y, n, V) real data on those slices."""
        data = self.series.data[:, :, self.slices][..., volumes]
        return np.asarray(np.abs(data) if np.iscomplexobj(data) else data)

    @cached_property
    def all_volumes(self) -> np.ndarray:
        """(X, Y, n, V) real data on those slices."""
        return self.small(np.arange(self.series.n_volumes))

    @cached_property
    def main_shell(self) -> np.ndarray:
        """Indices of the volumes that share a contrast best: the fullest shell, if b>0 can be."""
        if self.shows_no_differences:
            return np.array([0])
        fullest = max((v for b, v in self.shells if b != 0), key=len, default=np.array([], int))
        if len(fullest) < 4:
            fullest = max((v for _, v in self.shells), key=len)
        return fullest[:MAX_VOLUMES] if len(fullest) > 1 else np.arange(self.series.n_volumes)

    @cached_property
    def residual(self) -> np.ndarray:
        """(X, Y, n, V) noise-like part of the fullest shell, in the data's unit."""
        return self._residual(self.main_shell)

    @cached_property
    def pure_noise(self) -> np.ndarray:
        """(X, Y, n, V) its weaker half of components: hardly any signal, but no unit."""
        data = self.small(self.main_shell)
        return noise_like_part(data, self.small_mask, max(data.shape[3] // 2, 1))

    def _residual(self, volumes: np.ndarray) -> np.ndarray:
        few = min(max(len(volumes) // 4, 1), 4)
        return noise_like_part(self.small(volumes), self.small_mask, few)

    @cached_property
    def noise_sd(self) -> float:
        """Robust standard deviation of the noise in the mask, the data's unit."""
        if self.sigma is not None:
            return float(np.median(self.sigma[self.mask]))
        return float(1.4826 * np.median(np.abs(self.residual[self.small_mask])))

    @cached_property
    def low_share(self) -> float:
        """Share of the mask where the highest shell's signal is below three times the noise."""
        volumes, inside = self.shells[-1][1], self.small_mask
        data = self.small(volumes)
        if self.sigma is not None:
            sigma = self.sigma[:, :, self.slices]
            ratio = signal_over_noise(data, self.residual, inside, sigma)
            return float(np.mean(ratio < LOW_OVER_SIGMA))
        residual = self.residual
        if len(volumes) >= 4 and not np.array_equal(volumes, self.main_shell):
            residual = self._residual(volumes[:MAX_VOLUMES])
        return float(np.mean(signal_over_noise(data, residual, inside) < LOW_OVER_SD))
