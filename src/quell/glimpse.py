"""Glimpse: one slice of a scan, restored again and again while a network learns.

Idea    What a network has learned so far is best seen on a slice that stays the same. A scan that
        is cut to this slice is a scan, too, so the method itself restores it.
Here    The random numbers of a run follow from purpose and step, and those of a glimpse are its
        own: what is learned is the same to the byte, looked at or not.
Differs The slices above and below are missing, means and sizes that a method takes from a volume
        are those of the slice, and what it draws are other numbers: the picture differs from
        the result, most of all where a method looks at neighbouring slices.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from .noise import NoiseModel
from .run import Run, Silent, State
from .series import Series, shells

MARGIN = 4  # voxels left around the mask, as in the report
OF_GROUPS = ("volumes", "mix", "offset", "matched")  # of a state: a row for each volume restored


class Restores(Protocol):
    """A method, as far as it is needed here."""

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray: ...


@dataclass(frozen=True)
class Glimpse:
    """A slice of one volume, and the way to its estimate.

    method  restores it
    scan    (x, y, 1, V), or V = 1 where a volume is restored by itself
    noise   of that
    run     silent
    v, z    the volume and the slice in the whole scan
    box     what is cut out of the slice, (x, y)
    """

    method: Restores
    scan: Series
    noise: NoiseModel
    run: Run
    v: int
    z: int
    box: tuple[slice, slice]

    @classmethod
    def of(cls, method: Restores, scan: Series, noise: NoiseModel, run: Run) -> "Glimpse":
        """The slice with most of the mask, in the middle volume of the largest shell."""
        z = int(scan.where.sum(axis=(0, 1)).argmax())
        v = _middle_volume(scan)
        kept = np.array([v]) if _restores_one_by_one(method) else np.arange(scan.n_volumes)
        box = _box_of(scan.where[:, :, z])
        here = (*box, slice(z, z + 1))
        piece = replace(
            scan,
            data=np.array(scan.data[here][..., kept]),
            mask=scan.where[here].copy(),
            bvals=None if scan.bvals is None else scan.bvals[kept],
            bvecs=None if scan.bvecs is None else scan.bvecs[kept],
            parts=None if scan.parts is None else scan.parts[kept],
            contrasts=None if scan.contrasts is None else scan.contrasts[here].copy(),
            nonfinite=None,
        )
        levels = None if noise.levels is None else noise.levels[kept]
        own = replace(noise, sigma=noise.sigma[here].copy(), levels=levels)
        quiet = Run(run.seed, run.device, voice=Silent())
        return cls(method, piece, own, quiet, v, z, box)

    @property
    def noisy(self) -> np.ndarray:
        """(x, y) in units of the noise."""
        return self._of_noise(self.scan.data)

    def estimate(self, state: State) -> np.ndarray:
        """(x, y) in units of the noise, by what has been learned so far."""
        return self._of_noise(
            self.method.denoise(self.scan, self.noise, self._own(state), self.run)
        )

    def cut(self, denoised: np.ndarray) -> np.ndarray:
        """(x, y) of a whole result (X, Y, Z, V), in units of the noise."""
        return self._in_sigma(denoised[(*self.box, self.z, self.v)])

    def _of_noise(self, data: np.ndarray) -> np.ndarray:
        return self._in_sigma(data[:, :, 0, min(self.v, data.shape[3] - 1)])

    def _in_sigma(self, image: np.ndarray) -> np.ndarray:
        sigma = np.asarray(self.noise.sigma[:, :, 0], dtype=np.float32)
        return np.divide(image, sigma, out=np.zeros(image.shape, np.float32), where=sigma > 0)

    def _own(self, state: State) -> State:
        """The state as that of this slice, and of this volume where volumes have rows of their own.

        A volume that is not restored is not in any row: it passes unchanged, whichever is taken.
        """
        if "volumes" not in state:
            return state
        first = state["volumes"][:, 0]
        g = int(torch.argmin((first - self.v).abs()))
        own = {name: state[name][g : g + 1] for name in OF_GROUPS if name in state}
        if "matched" in own and own["matched"].shape[1] > 1:
            own["matched"] = own["matched"][:, self.z : self.z + 1]
        return state | own


def _restores_one_by_one(method: object) -> bool:
    """Whether a volume's estimate is the same without the other volumes."""
    can_do_one = all(getattr(method, name, False) for name in ("learns_many", "takes_one_image"))
    return can_do_one and not any(getattr(method, name, 0) for name in ("others", "mixes_volumes"))


def _middle_volume(scan: Series) -> int:
    """In the middle of the largest shell, of several as large that of the highest b-value."""
    is_real = np.ones(scan.n_volumes, bool) if scan.parts is None else scan.parts == 0
    shell, sizes = np.unique(shells(scan)[is_real], return_counts=True)
    largest = shell[::-1][sizes[::-1].argmax()]
    members = np.flatnonzero(is_real & (shells(scan) == largest))
    return int(members[len(members) // 2])


def _box_of(mask: np.ndarray) -> tuple[slice, slice]:
    """The part of a slice (X, Y) that holds the mask and a little more."""
    across = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    low = [max(int(found[0]) - MARGIN, 0) if len(found) else 0 for found in across]
    high = [int(found[-1]) + MARGIN + 1 if len(found) else None for found in across]
    return slice(low[0], high[0]), slice(low[1], high[1])
