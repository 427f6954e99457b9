"""What became of structures that were added to a scan: kept, spread, or made out of nothing.

Idea    D, the result with the structures less the result without them, has neither the anatomy nor,
        to first order, the noise in it. Its sum over a structure, over the sum of what was added
        there, is the share that is kept: 1 for a method that changes nothing, 0 for one that does
        not see it.
Here    A structure's surroundings begin beyond a rim of one voxel, which any blurring reaches.
        "Elsewhere" is the structure's own place in the volumes that do not show it. The standard
        error is from the scatter over structures of one kind, each at its own place and in volumes
        of its own, so the noise and the anatomy under them are in it.
Trap    A positive share elsewhere and a negative one in another volume cancel in the sum; the
        strongest ghost does not, and stands beside it.
Trap    In magnitude data what is added at low signal is less than the structure's strength: the
        noise floor hides it from everybody. So the share is of what was added to the file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import ndimage

RIM, AROUND = 1, 3  # voxels from a structure: its rim ends, its surroundings end
FAR = 6  # voxels from every structure: nothing was there


class Structure(Protocol):
    """One structure: where it is, (3, n), and in which volumes, (k,)."""

    @property
    def voxels(self) -> np.ndarray: ...

    @property
    def volumes(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Response:
    """What became of one structure, as shares of what was added.

    kept       at its place
    rim        within one voxel of it
    around     beyond, within three
    elsewhere  at its place in all other volumes; NaN where there are none
    ghost      largest of one of these, by size
    """

    kept: float
    rim: float
    around: float
    elsewhere: float
    ghost: float


@dataclass(frozen=True)
class Share:
    """A mean over structures of one kind, and its standard error.

    error  NaN of a single one
    n      how many
    """

    mean: float
    error: float
    n: int

    @staticmethod
    def of(values: Sequence[float]) -> "Share":
        """The mean of what is known; NaN where nothing is."""
        known = np.array([value for value in values if np.isfinite(value)])
        if not len(known):
            return Share(float("nan"), float("nan"), 0)
        n = len(known)
        error = float(known.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
        return Share(float(known.mean()), error, n)


@dataclass(frozen=True)
class Nothing:
    """What was added far from every structure, in units of the noise.

    rms      over all voxels and volumes
    largest  by size
    """

    rms: float
    largest: float


def respond(change: np.ndarray, total: float, structure: Structure) -> Response:
    """What became of one structure.

    change  (X, Y, Z, V)  result with the structures less that without, units of the noise
    total   sum of what was added to the scan for this one, over its voxels and volumes, same units
    """
    if not total:
        return Response(*[float("nan")] * 5)
    low = np.maximum(structure.voxels.min(axis=1) - AROUND, 0)
    high = np.minimum(structure.voxels.max(axis=1) + AROUND + 1, change.shape[:3])
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    inside = np.zeros(high - low, dtype=bool)
    inside[tuple(structure.voxels - low[:, None])] = True
    away = ndimage.distance_transform_edt(~inside)
    own = np.isin(np.arange(change.shape[3]), structure.volumes)
    D = change[box].astype(np.float64)
    per_volume = D[inside].sum(axis=0) / total
    seen = D[..., own].sum(axis=3) / total
    return Response(
        float(per_volume[own].sum()),
        float(seen[(away > 0) & (away <= RIM)].sum()),
        float(seen[(away > RIM) & (away <= AROUND)].sum()),
        float(per_volume[~own].sum()) if (~own).any() else float("nan"),
        float(max(per_volume[~own], key=abs)) * own.sum() if (~own).any() else float("nan"),
    )


def where_nothing_was(
    change: np.ndarray, mask: np.ndarray, structures: Sequence[Structure]
) -> Nothing:
    """What was added far from all structures, in any volume.

    change  (X, Y, Z, V)  as for `respond`
    mask    (X, Y, Z)     where to look
    """
    free = np.ones(mask.shape, dtype=bool)
    for structure in structures:
        free[tuple(structure.voxels)] = False
    is_far = mask & (ndimage.distance_transform_edt(free) > FAR)
    if not is_far.any():
        return Nothing(float("nan"), float("nan"))
    total, largest = 0.0, 0.0
    for v in range(change.shape[3]):
        values = change[..., v][is_far]
        total += float((values.astype(np.float64) ** 2).sum())
        largest = max(largest, float(np.abs(values).max()))
    return Nothing(float(np.sqrt(total / (is_far.sum() * change.shape[3]))), largest)
