"""Slices that stand out: drop-outs, spikes and motion, one slice of one volume at a time.

Idea    The residual of a slice is compared with those of the same slice in the other volumes of
        its shell. Anatomy and the noise map are the same in all of them; a drop-out is not.
Trap    A method that follows a drop-out, as those of single images do, leaves no residual there:
        `with_dropouts` puts in what the checks of the scan itself have found.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .directions import shells

FEWEST_VOXELS = 40  # of the mask in a slice; below it chance alone moves the residual by 10 %
FEWEST_VOLUMES = 4  # of a shell; fewer have no like
DEVIATIONS = 6.0  # robust standard deviations; of 10⁵ slices of noise none goes so far
SIZE = 1.25  # times that of the like slices: 56 % more power, which is seen by eye
DROPPED = "dark or empty in the scan: a drop-out"
SHIFT = 0.25  # σ; at SNR 10 a slice brighter or darker by 2.5 %


@dataclass(frozen=True, eq=False)
class SliceResiduals:
    """Residual over σ of every slice of every volume, along the third axis of the array.

    size  (V, Z)  root mean square; NaN in slices with too little of the mask
    mean  (V, Z)  the same of the mean; 0
    """

    size: np.ndarray
    mean: np.ndarray


@dataclass(frozen=True)
class Outlier:
    """A slice, or most slices of a volume, whose residual is not like its likes'."""

    volume: int
    slices: tuple[int, ...]
    kind: str  # in words
    size: float  # rms residual over σ, the largest of the slices
    n_slices: int  # that were judged in this volume

    @property
    def is_whole(self) -> bool:
        """Whether it is rather the volume that stands out."""
        return 2 * len(self.slices) > self.n_slices


def slice_residual(z: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Root mean square and mean (Z,) of one volume's residual over σ in each slice.

    z      (X, Y, Z)  residual over σ
    where  (X, Y, Z)  bool, the mask where the noise is known
    """
    n = where.sum(axis=(0, 1)).astype(float)
    n[n < FEWEST_VOXELS] = np.nan
    inside = np.where(where, z, 0)
    power = np.einsum("xyz,xyz->z", inside, inside, dtype=float)
    return np.sqrt(power / n), inside.sum(axis=(0, 1), dtype=float) / n


def outliers(residuals: SliceResiduals, bvals: np.ndarray | None) -> list[Outlier]:
    """Slices that stand out within their shell, those of one volume and kind together, worst first.

    bvals  (V,) or None  s/mm²
    """
    V, Z = residuals.size.shape
    large, dark, bright = (np.zeros((V, Z), dtype=bool) for _ in range(3))
    for group in shells(bvals, V):
        if len(group) < FEWEST_VOLUMES:
            continue
        size, mean = residuals.size[group], residuals.mean[group]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = _deviation(np.log(np.where(size > 0, size, np.nan)))
            large[group] = (_robust(ratio) > DEVIATIONS) & (ratio > np.log(SIZE))
        shift = _deviation(mean)
        is_far = (np.abs(_robust(shift)) > DEVIATIONS) & (np.abs(shift) > SHIFT)
        dark[group], bright[group] = is_far & (shift < 0), is_far & (shift > 0)
    n_slices = int(np.isfinite(residuals.size).any(axis=0).sum())
    found, shifted = [], dark | bright
    for v in range(V):
        for words, cells in (
            ("darker in the scan than in the result: a drop-out, or motion", dark[v]),
            ("brighter in the scan than in the result: motion, or signal taken away", bright[v]),
            ("a larger residual: spikes, motion, or detail taken away", large[v] & ~shifted[v]),
        ):
            slices = np.flatnonzero(cells)
            if slices.size:
                worst = float(residuals.size[v, slices].max())
                found.append(Outlier(v, tuple(slices.tolist()), words, worst, n_slices))
    return sorted(found, key=lambda outlier: -outlier.size)


def with_dropouts(
    found: Sequence[Outlier], dropped: Sequence[tuple[int, int]], residuals: SliceResiduals
) -> list[Outlier]:
    """Slices that stand out, with those first that the checks found dark or empty in the scan.

    dropped  (volume, slice) of each
    """
    n_slices = int(np.isfinite(residuals.size).any(axis=0).sum())
    by_volume: dict[int, list[int]] = {}
    for v, z in sorted(dropped):
        by_volume.setdefault(v, []).append(z)
    first = [
        Outlier(v, tuple(slices), DROPPED, _largest(residuals.size[v, slices]), n_slices)
        for v, slices in by_volume.items()
    ]
    rest = []
    for outlier in found:
        others = tuple(z for z in outlier.slices if z not in by_volume.get(outlier.volume, ()))
        if others:
            rest.append(replace(outlier, slices=others))
    return first + rest


def share_of(found: Sequence[Outlier], residuals: SliceResiduals) -> float:
    """Share of all judged slices that stand out."""
    return sum(len(o.slices) for o in found) / max(1, int(np.isfinite(residuals.size).sum()))


def _largest(values: np.ndarray) -> float:
    """NaN where none is known."""
    known = values[np.isfinite(values)]
    return float(known.max()) if known.size else float("nan")


def _deviation(values: np.ndarray) -> np.ndarray:
    """What each volume has beyond the median of the others in the same slice, (G, Z)."""
    empty = np.isnan(values).all(axis=0)
    middle = np.full(values.shape[1], np.nan)
    middle[~empty] = np.nanmedian(values[:, ~empty], axis=0)
    return values - middle


def _robust(deviation: np.ndarray) -> np.ndarray:
    """In robust standard deviations, from all slices of the shell; 0 where there is no spread."""
    finite = np.abs(deviation[np.isfinite(deviation)])
    spread = 1.4826 * float(np.median(finite)) if finite.size else 0.0
    return np.nan_to_num(deviation / spread) if spread > 0 else np.zeros_like(deviation)
