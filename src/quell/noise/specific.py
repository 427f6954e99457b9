"""The noise of each volume apart, from the covariance of the volumes.

Source  The specific variances of factor analysis (K. G. Jöreskog, "Some contributions to maximum
        likelihood factor analysis", Psychometrika 32:443-482, 1967).
Idea    Signal fills few directions of the space of volumes. P projects on all others, and of the
        noise of volume v it leaves the share 1 - h, the leverage h being lost with the signal:
        level² = E[(P y)²] / (1 - h). Volumes over their levels have equal noise, so that the next
        P is better.
Here    The start is what all other volumes leave unexplained of each: a volume of strong noise
        must not pass for signal. Means are taken over blocks, and of these the lower quartile:
        noise is everywhere, a dropped slice or a moved edge only in places.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..scaling import Scale
from ..series import Series
from .components import BULK_EDGE, n_noise_components, voxels_in_mask

BLOCK = (6, 6, 2)  # voxels: dozens of values, and few enough that an edge spoils few blocks
QUIET = 0.25  # of the blocks; of noise alone every share says the same
VOXELS = 1 << 16  # that are looked at, in whole blocks
ROUNDS, SETTLED = 12, 0.002
AT_FIRST, LOOSE = 4, 1.6  # rounds in which components this strong still count as noise
LARGEST = 4.0  # of a level to start from: a lone b0 is explained by nothing
LEAST_FREE = 0.2  # 1 - h; a volume with less is nearly a component of its own
EMPTY = 1e-4  # of the typical power of a volume
LEAST_KNOWN = 0.75  # of the volumes; where signal fills the space, little tells them apart


@dataclass(frozen=True)
class Blocks:
    """Voxels of the mask, block by block.

    Y              (voxels, V)  without their mean, sigma = 1
    starts         (blocks,)    first voxel of each block
    squares        (n, 4)       voxels that form a square in plane, block by block
    square_starts  (m,)         first square of each block that has any
    n_independent  voxels of independent noise among them
    parts          (V,)         of a complex series, both of which hold the same noise, or None
    """

    Y: np.ndarray
    starts: np.ndarray
    squares: np.ndarray
    square_starts: np.ndarray
    n_independent: float
    parts: np.ndarray | None

    @classmethod
    def of(cls, series: Series, mask: np.ndarray, scale: Scale, n_independent: float) -> "Blocks":
        """Some blocks, spread over the mask.

        n_independent  voxels of independent noise in the mask
        """
        block, some = _some_blocks(mask)
        order = np.argsort(block[some], kind="stable")
        Y = voxels_in_mask(series.data, some, scale)[order]
        Y -= Y.mean(axis=0)
        place = np.full(mask.shape, -1)
        place[tuple(np.argwhere(some)[order].T)] = np.arange(len(order))
        corners = place[1:, 1:], place[1:, :-1], place[:-1, 1:], place[:-1, :-1]
        squares = np.stack(corners, axis=-1).reshape(-1, 4)
        squares = squares[(squares >= 0).all(axis=1)]
        names = block[some][order]
        squares = squares[np.argsort(names[squares[:, 3]], kind="stable")]
        n = n_independent * len(Y) / np.count_nonzero(mask)
        return cls(
            Y, _starts(names), squares, _starts(names[squares[:, 3]]), n, series.parts
        )  # fmt: skip

    def levels(self, start: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(V,) levels, median 1, and (V,) bool where the components show any; 1 elsewhere.

        start  (V,) levels to start from; None: what other volumes leave unexplained
        """
        level = self._unexplained() if start is None else start
        power = np.diag(self.covariance)
        is_there = self._in_both_parts(power, np.minimum) > EMPTY * np.median(power)
        for round_ in range(ROUNDS):
            # A level that is a little low must not make its volume a component of its own.
            least = LOOSE if round_ < AT_FIRST else BULK_EDGE
            rest, free = self.rest(level, least)
            is_known = is_there & (self._in_both_parts(free, np.minimum) > LEAST_FREE)
            if is_known.mean() < LEAST_KNOWN:
                return np.ones(len(level)), np.zeros(len(level), dtype=bool)
            left = quiet(rest**2, self.starts) / np.maximum(free, LEAST_FREE)
            step = np.sqrt(self._in_both_parts(left, np.add))
            step /= np.median(step[is_known])
            level = np.where(is_known, level * step, level)
            level = level / np.median(level[is_known])
            if least == BULK_EDGE and np.abs(np.log(step[is_known])).max() < SETTLED:
                break
        return np.where(is_known, level, 1.0), is_known

    def rest(self, level: np.ndarray, least: float = BULK_EDGE) -> tuple[np.ndarray, np.ndarray]:
        """What the projector leaves of the volumes over their levels, and (V,) 1 - h."""
        values, vectors = np.linalg.eigh(self.covariance / np.outer(level, level))
        n_empty = int(np.count_nonzero(values < EMPTY * np.median(values)))  # of empty volumes
        n = n_empty + n_noise_components(values[n_empty:][::-1], self.n_independent, least)
        P = (vectors[:, :n] @ vectors[:, :n].T).astype(np.float32)  # eigh: smallest first
        return (self.Y / level.astype(np.float32)) @ P, np.diag(P)

    def detail(self, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(V,) power of each volume's finest detail where it shows least, and that of its noise.

        level  (V,) of the noise
        """
        rest, free = self.rest(level)
        seen, noise = (
            self._in_both_parts(quiet(self._across(values) ** 2, self.square_starts), np.add)
            for values in (self.Y, rest)
        )
        return seen, float(np.median(noise / self._in_both_parts(free, np.add))) * level**2

    def repeats(self, level: np.ndarray, which: np.ndarray) -> float:
        """The level of equal volumes from their differences, at most.

        which  (n,) int
        """
        rest, free = self.rest(level)
        typical = np.median(quiet(rest**2, self.starts) / np.maximum(free, LEAST_FREE))
        differences = np.diff(self.Y[:, which], axis=1)
        differences -= differences.mean(axis=0)
        return float(np.sqrt(np.median(quiet(differences**2, self.starts)) / 2 / typical))

    @cached_property
    def covariance(self) -> np.ndarray:
        """(V, V) of the volumes."""
        return np.asarray(self.Y.astype(np.float64).T @ self.Y / len(self.Y))

    def _across(self, values: np.ndarray) -> np.ndarray:
        """(n, V) a - b - c + d of the four voxels of every square."""
        a, b, c, d = (values[corner] for corner in self.squares.T)
        return a - b - c + d

    def _unexplained(self) -> np.ndarray:
        """(V,) root of what a linear fit by all other volumes leaves of each, within limits."""
        C = self.covariance
        inverse = np.linalg.inv(C + 1e-6 * np.median(np.diag(C)) * np.eye(len(C)))
        fit = (inverse / np.diag(inverse)).astype(np.float32)
        left = quiet((self.Y @ fit) ** 2, self.starts)
        level = np.sqrt(self._in_both_parts(left, np.add))
        return np.clip(level / np.median(level), 1 / LARGEST, LARGEST)

    def _in_both_parts(self, values: np.ndarray, together: np.ufunc) -> np.ndarray:
        """(V,) the values of real and imaginary part taken together; as they are without parts."""
        if self.parts is None:
            return values
        return np.tile(together.reduce(values.reshape(2, -1)), 2)


def quiet(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """(V,) the lower quartile over blocks of the mean of values, (n, V), in each block."""
    sizes = np.diff(starts, append=len(values))
    means = np.add.reduceat(values, starts, axis=0) / sizes[:, None]
    return np.asarray(np.quantile(means[sizes >= sizes.max() / 4], QUIET, axis=0))


def _some_blocks(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(X, Y, Z) the number of every voxel's block, and (X, Y, Z) bool, the voxels to look at."""
    along = [np.arange(n) // edge for n, edge in zip(mask.shape, BLOCK, strict=True)]
    shape = [axis[-1] + 1 for axis in along]
    block = np.ravel_multi_index(np.ix_(*along), shape)
    sizes = np.bincount(block[mask], minlength=int(np.prod(shape)))
    full = np.flatnonzero(sizes >= sizes.max() / 4)
    kept = full[:: max(1, -(-int(sizes[full].sum()) // VOXELS))]
    return block, mask & np.isin(block, kept)


def _starts(names: np.ndarray) -> np.ndarray:
    """Where each new name begins in a sorted list of them."""
    return np.flatnonzero(np.diff(names, prepend=-1))
