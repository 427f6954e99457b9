"""What a raw scan is, and how several of them become the repetitions of one."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..series import InputError

AXES = ("x", "y", "z", "coil", "repetition")  # the order in which a KSpace has them
AFFINE_TOLERANCE = 1e-3  # largest difference between two affines of one grid, mm


@dataclass(frozen=True)
class KSpace:
    """One raw Cartesian scan: k-space along x and y, slices along z."""

    data: np.ndarray  # (X, Y, Z, N, V) complex64: readout, phase, slice, coil, repetition
    affine: np.ndarray  # (4, 4) mm, of the images that come of it
    is_affine_true: bool  # whether the voxel sizes are those of the scan; the orientation never is
    image_size: tuple[int, int]  # voxels along x and y that are kept; the rest is oversampling
    mask: np.ndarray | None = None  # (Y,) bool, lines that were measured, where the file says so
    path: Path | None = None
    notes: tuple[str, ...] = ()  # what a person should know of it, one sentence each

    @property
    def n_coils(self) -> int:
        """N."""
        return int(self.data.shape[3])

    @property
    def n_repetitions(self) -> int:
        """V."""
        return int(self.data.shape[4])


def join(scans: list[KSpace]) -> KSpace:
    """Several raw scans of one protocol as the repetitions of one.

    Raises InputError where they differ in size, coils or voxels.
    """
    first = scans[0]
    for other in scans[1:]:
        if other.data.shape[:4] != first.data.shape[:4] or other.image_size != first.image_size:
            raise InputError(
                f"{other.path} is {_size(other)} and {first.path} {_size(first)} "
                "(x, y, z, coils); give repetitions of one protocol"
            )
        off = float(np.abs(other.affine - first.affine).max())
        if other.is_affine_true != first.is_affine_true or not off <= AFFINE_TOLERANCE:
            raise InputError(
                f"{other.path} has other voxels than {first.path}; give repetitions of one protocol"
            )
    notes = tuple(dict.fromkeys(note for scan in scans for note in scan.notes))
    data = first.data
    if len(scans) > 1:
        data = np.concatenate([scan.data for scan in scans], axis=4)
    return replace(first, data=data, notes=notes)


def _size(scan: KSpace) -> str:
    return " x ".join(str(n) for n in scan.data.shape[:4])
