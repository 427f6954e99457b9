"""Gradients: between MRtrix's scheme, in the axes of the scanner, and FSL's, in those of the image.

Here    FSL's first component is turned where the image is stored neurologically (det > 0).
Trap    b-values of rows that are not of unit length are meant to be scaled by its square. MRtrix
        does so where any of them is off by 1 %.
"""

import numpy as np

UNIT = 0.01  # |log length²|, from which lengths are meant


def gradients_of(lines: list[str], affine: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """b-values (V,) s/mm² and FSL directions (V, 3) of a scheme; None for one that is none.

    lines   "x,y,z,b", one a volume
    affine  (4, 4) of the array
    """
    try:
        rows = np.array([[float(word) for word in line.split(",")] for line in lines])
    except ValueError:
        return None
    if rows.ndim != 2 or rows.shape[1] != 4 or not np.all(np.isfinite(rows)):
        return None
    directions, bvals = rows[:, :3], rows[:, 3]
    squared = (directions**2).sum(axis=1)
    is_set = squared > 0
    unit = np.divide(
        directions, np.sqrt(squared)[:, None], out=np.zeros_like(directions), where=is_set[:, None]
    )
    if np.any(np.abs(np.log(squared[is_set])) > UNIT):
        bvals = bvals * squared
    return bvals, _flipped(unit @ _rotation(affine), affine)


def scheme_of(bvals: np.ndarray, bvecs: np.ndarray, affine: np.ndarray) -> list[str]:
    """A scheme, one line a volume.

    bvals   (V,) s/mm²
    bvecs   (V, 3) FSL
    affine  (4, 4) of the array
    """
    world = _flipped(bvecs, affine) @ _rotation(affine).T
    rows = np.c_[world + 0.0, bvals]  # no -0
    return [",".join(f"{value:.10g}" for value in row) for row in rows]


def _rotation(affine: np.ndarray) -> np.ndarray:
    """(3, 3) the nearest directions at right angles."""
    u, _, vt = np.linalg.svd(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    return np.asarray(u @ vt)


def _flipped(bvecs: np.ndarray, affine: np.ndarray) -> np.ndarray:
    sign = -1.0 if np.linalg.det(affine[:3, :3]) > 0 else 1.0
    return bvecs * [sign, 1.0, 1.0] + 0.0
