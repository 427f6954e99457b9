"""Fibre-to-bundle coherence (FBC): how far the others run beside a streamline, and along it.

Source  Portegies et al., PLoS ONE 10(10):e0138122 (2015); Meesters et al., OHBM 2016. The kernel is
        the approximation of Portegies et al., SSVM 2015, with the constants of DIPY's example.
Idea    Every point of a bundle lends weight to what lies near it and runs as it does, most of all
        to what lies ahead. LFBC is the weight that a point has from all other streamlines. RFBC is
        the mean LFBC in the weakest stretch of a streamline, over that of the whole bundle:
        one that strays alone, or crosses, has almost none there.
Here    Points are counted in cells of 1 mm and 50 axes, and the kernel goes over the counts: the
        time grows with the bundle's volume, not with the square of its points.
Differs The kernel is that of DIPY's EnhancementKernel; FBCMeasures is not used. DIPY 1.12.1 looks
        a point's axis up by its position instead of its tangent, and rounds offsets towards zero:
        there RFBC depends on the origin of the coordinates, and differs between two equal lines
        side by side. A streamline has no sense of direction here.
Trap    RFBC is relative to the bundle's own mean: it says how even a bundle is, not how right.
"""

from collections.abc import Sequence

import numpy as np

D33, D44, TIME = 1.0, 0.02, 1.0  # along the fibre (mm²), of its direction (rad²), how long
REACH = 3  # mm; further ahead the kernel is below a tenth of its peak
WINDOW = 7  # points: length of the weakest stretch
SHORTEST = 10  # points; what is shorter has no stretches to compare
COHERENT = 0.125  # RFBC; what has less is taken for spurious


def coherence(streamlines: Sequence[np.ndarray]) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """LFBC over the bundle's mean, for every point, and RFBC (streamlines,).

    streamlines  each (points, 3), mm  of SHORTEST points or more

    Both are 0 where nothing lies within reach of anything else.
    """
    if not streamlines:
        return (), np.zeros(0)
    support = _support(streamlines)
    mean = float(np.mean([s.mean() for s in support]))
    lfbc = tuple(s / mean if mean > 0 else s for s in support)
    stretch = np.ones(WINDOW) / WINDOW
    return lfbc, np.array([np.convolve(s, stretch, "valid").min() for s in lfbc])


def kernel(offset: np.ndarray, source: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """What a point lends to another one, 1 to one in the same place that runs the same way.

    offset  (..., 3)  mm, from the source
    source  (..., 3)  unit vector, the axis at the source
    axis    (..., 3)  unit vector, the axis at the other point
    """
    cosine = np.sum(source * axis, axis=-1)
    axis = np.where(cosine[..., None] < 0, -axis, axis)
    cosine = np.clip(np.abs(cosine), 0, 1)
    beta = np.arccos(cosine)  # how far the way bends
    side = axis - cosine[..., None] * source  # towards where it bends
    side = side / np.maximum(np.linalg.norm(side, axis=-1, keepdims=True), 1e-12)
    x, z = np.sum(offset * side, axis=-1), np.sum(offset * source, axis=-1)
    y2 = np.maximum(np.sum(offset * offset, axis=-1) - x * x - z * z, 0)
    half = np.maximum(beta, 1e-6) / 2
    h = 1 - half / np.tan(half)
    c1, c3 = x * (1 - h) - z * half, z * (1 - h) + x * half  # offset along the bent way
    across = (c1 * c1 + y2) / (D33 * D44)
    along = c3 * c3 / D33 + beta * beta / D44
    return np.exp(-np.sqrt(across + along * along) / (4 * TIME))


def tangents(points: np.ndarray) -> np.ndarray:
    """(points, 3) unit vectors from each point to the next; the last has that of the one before."""
    steps = np.diff(points, axis=0, append=2 * points[-1:] - points[-2:-1])
    return steps / np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), 1e-12)


def _support(streamlines: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Weight of every point from all other streamlines: the kernel summed over their points."""
    axes, offsets, weights = _table()
    ends = np.cumsum([len(points) for points in streamlines])[:-1]
    cell = np.floor(np.concatenate(streamlines) + 0.5).astype(int)
    cell -= cell.min(axis=0) - REACH  # so that no offset leaves the grid
    shape = tuple(cell.max(axis=0) + REACH + 1)
    along = np.concatenate([tangents(points.astype(float)) for points in streamlines])
    axis = np.abs(along @ axes.T).argmax(axis=1)

    filled, where = np.unique(np.ravel_multi_index(cell.T, shape), return_inverse=True)
    counts = np.zeros((len(filled) + 1, len(axes)), np.float32)  # the last: a cell without points
    np.add.at(counts, (where, axis), 1)
    row = np.full(np.prod(shape), len(filled))
    row[filled] = np.arange(len(filled))
    total = np.zeros((len(filled), len(axes)), np.float32)
    jumps = offsets @ np.array([shape[1] * shape[2], shape[2], 1])
    for jump, weight in zip(jumps, weights, strict=True):
        total += counts[row[filled - jump]] @ weight
    found = np.split(total[where, axis].astype(float), ends)
    for support, c, a in zip(found, np.split(cell, ends), np.split(axis, ends), strict=True):
        support -= _own(c, a, weights)
    return [np.maximum(support, 0) for support in found]  # of float32, what is left of nothing


def _own(cell: np.ndarray, axis: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(points,): the weight that the points of one streamline have from itself."""
    offset = cell[:, None] - cell[None]  # (points, points, 3)
    i, j = np.nonzero((np.abs(offset) <= REACH).all(axis=-1))
    width = 2 * REACH + 1
    at = (offset[i, j] + REACH) @ np.array([width * width, width, 1])
    return np.bincount(i, weights[at, axis[j], axis[i]], minlength=len(cell))


def _table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Axes (A, 3), offsets (O, 3) in mm, and the kernel of each offset, source and other axis."""
    from dipy.data import get_sphere  # large: only for those who judge bundles

    vertices = get_sphere(name="repulsion100").vertices  # with each one its opposite
    axes = vertices[(vertices @ np.array([1e-6, 1e-3, 1.0])) > 0]
    steps = np.arange(-REACH, REACH + 1)
    offsets = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    weights = kernel(offsets[:, None, None].astype(float), axes[:, None], axes[None])
    return axes, offsets, weights.astype(np.float32)
