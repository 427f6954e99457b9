"""Which samples of k-space were measured, and whether that suffices for a Fourier transform."""

from pathlib import Path

import numpy as np

from ..series import InputError

SCATTERED_MAX = 0.02  # of the samples: exact zeros by chance, as in integer data
EDGE_MAX = 0.5  # of the lines along one axis; beyond, the voxels are mostly interpolation
ELSEWHERE = "reconstruct it elsewhere first (parallel imaging or compressed sensing)"


def measured_box(data: np.ndarray, mask: np.ndarray | None = None) -> tuple[slice, slice]:
    """The samples along x and y that were measured; outside it, all of k-space is zero.

    data  (X, Y, Z, N, V)  k-space
    mask  (Y,) bool        lines that were measured, where the file says so
    """
    used = np.any(data != 0, axis=(2, 3, 4))
    if mask is not None:
        used &= mask
    if not used.any():
        return slice(0, 0), slice(0, 0)
    x, y = np.flatnonzero(used.any(axis=1)), np.flatnonzero(used.any(axis=0))
    return slice(int(x[0]), int(x[-1]) + 1), slice(int(y[0]), int(y[-1]) + 1)


def refuse_gaps(data: np.ndarray, mask: np.ndarray | None, path: Path) -> tuple[str, ...]:
    """Raise InputError for undersampled k-space; notes on lines that miss at its edges.

    data  (X, Y, Z, N, V)  k-space that is not zero everywhere
    mask  (Y,) bool        lines that were measured, where the file says so

    Lines that miss at an edge (partial Fourier, zero filling) widen the points of an image and
    correlate its noise, no more. Lines that miss between others fold the image.
    """
    box = measured_box(data, mask)
    if box[0].stop == 0:
        raise InputError(f"{path} is empty where its mask says lines were measured; get it again")
    inside = np.any(data[box] != 0, axis=3)  # (x, y, Z, V)
    if mask is not None:
        inside &= mask[box[1]][:, None, None]
    _refuse_empty_images(inside, path)
    n_missing = int(np.count_nonzero(~inside.any(axis=0), axis=0).max())
    n_missing += int(np.count_nonzero(~inside.any(axis=1), axis=0).max())
    if n_missing:
        raise InputError(
            f"{path} is undersampled: {n_missing} lines inside its k-space are missing; {ELSEWHERE}"
        )
    if (share := 1 - inside.mean()) > SCATTERED_MAX:
        raise InputError(
            f"{path} is undersampled: {share:.0%} of the samples inside its k-space are zero; "
            f"{ELSEWHERE}"
        )
    return _edges(data.shape, box, path)


def _refuse_empty_images(inside: np.ndarray, path: Path) -> None:
    empty = np.argwhere(~inside.any(axis=(0, 1)))
    if len(empty):
        z, v = empty[0]
        raise InputError(
            f"{path} holds nothing in slice {z} of repetition {v} (counted from 0); "
            "leave that slice or repetition out"
        )


def _edges(shape: tuple[int, ...], box: tuple[slice, slice], path: Path) -> tuple[str, ...]:
    notes = []
    for name, n, part in zip("xy", shape, box, strict=False):
        n_zero = n - (part.stop - part.start)
        if n_zero > EDGE_MAX * n:
            raise InputError(
                f"{path} is mostly zero-filled: {n_zero} of {n} lines along {name} were not "
                f"measured; crop its k-space to the measured lines, or {ELSEWHERE}"
            )
        if n_zero:
            notes.append(
                f"{n_zero} of {n} lines along {name} lie at the edge of k-space and are zero: "
                "the noise of neighbouring voxels is correlated"
            )
    return tuple(notes)
