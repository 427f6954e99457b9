"""How unevenly a residual's power lies in space, and whether chance makes that.

Idea    Noise of one strength has the same expected power everywhere, and what chance makes of it in
        one voxel says hardly anything of the voxel after the next: squares of Gaussians of
        correlation ρ have the covariance 2 ρ². Edges, tissues and vessels in the residual do: their
        voxels lie together. How many components a method keeps does not matter.
Here    The power of V volumes is added up. Two voxels apart in plane, because neighbours share
        noise. p is a permutation test: what the noise's own correlation makes is taken off, and the
        rest compared with that of the power shuffled among the voxels of the mask.
Trap    In a whole brain a p of 1/100, the least that 99 shuffles can say, is common and means that
        some structure is certain, not that it is large: read it beside the score.
"""

import numpy as np

SHUFFLES = 99
SEED = 0  # the same residual has the same p


def structure_of(
    power: np.ndarray, where: np.ndarray, correlation: np.ndarray, n_volumes: int
) -> tuple[float, float]:
    """Relative variation of the power that voxels two apart in plane share, and its p-value.

    power        (voxels,)  sum over the volumes of the squared residual, in the mask
    where        (X, Y, Z)  the mask
    correlation  (3,)       of the noise of voxels two apart

    NaN where no two voxels of the mask lie two apart.
    """
    if not power.any():
        return 0.0, 1.0
    relative, pairs = power / power.mean() - 1, pairs_of(where, lag=2)
    shared = lagged_products(relative, where, pairs, lag=2)
    beyond = (shared - 2 * correlation**2 / n_volumes)[:2]
    known = np.isfinite(beyond)
    if not known.any():
        return float("nan"), float("nan")
    found = float(beyond[known].mean())
    together = [_places(where, axis) for axis in range(2) if known[axis]]
    rng, n_above = np.random.default_rng(SEED), 0
    for _ in range(SHUFFLES):
        shuffled = rng.permutation(relative)
        products = [np.mean(shuffled[i] * shuffled[j]) for i, j in together]
        n_above += float(np.mean(products)) >= found
    return float(np.sqrt(max(0.0, found))), (1 + n_above) / (1 + SHUFFLES)


def _places(where: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Two voxels apart along an axis: their numbers in the mask, (pairs,) each."""
    number = np.full(where.shape, -1)
    number[where] = np.arange(np.count_nonzero(where))
    i, j = number[_cut(axis, None, -2)], number[_cut(axis, 2, None)]
    both = (i >= 0) & (j >= 0)
    return i[both], j[both]


def pairs_of(where: np.ndarray, lag: int = 1) -> list[np.ndarray]:
    """For each axis, the voxels whose neighbour at that lag lies in the mask (X, Y, Z) too."""
    return [where[_cut(axis, None, -lag)] & where[_cut(axis, lag, None)] for axis in range(3)]


def lagged_products(
    values: np.ndarray, where: np.ndarray, pairs: list[np.ndarray], lag: int = 1
) -> np.ndarray:
    """(3,) mean product of neighbours along x, y, z; NaN on an axis without neighbours.

    values  (voxels,)  in the mask
    where   (X, Y, Z)  the mask
    pairs   of that lag: `pairs_of`
    """
    volume = np.zeros(where.shape, dtype=np.float32)
    volume[where] = values
    products = np.full(3, np.nan)
    for axis, both in enumerate(pairs):
        if both.any():
            first, second = (
                volume[_cut(axis, *ends)][both] for ends in ((None, -lag), (lag, None))
            )
            products[axis] = np.mean(first * second, dtype=np.float64)
    return products


def detail_power(values: np.ndarray, where: np.ndarray, pairs: list[np.ndarray]) -> float:
    """Sum of the squared differences of neighbours in plane; 0 where there are none.

    values  (voxels,)  in the mask
    where   (X, Y, Z)  the mask
    pairs   `pairs_of` lag 1
    """
    volume = np.zeros(where.shape, dtype=np.float32)
    volume[where] = values
    differences = [np.diff(volume, axis=axis)[both] for axis, both in enumerate(pairs[:2])]
    return float(sum(np.sum(d**2, dtype=np.float64) for d in differences))


def _cut(axis: int, start: int | None, stop: int | None) -> tuple[slice, ...]:
    return tuple(slice(start, stop) if i == axis else slice(None) for i in range(3))
