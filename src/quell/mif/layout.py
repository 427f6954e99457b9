"""Layout: how the voxels of an MRtrix image lie in its file.

Idea    Each axis of the header has a rank (0: neighbours in the file) and a sign (-: the last
        comes first): `-0,-1,+2,+3` is a NIfTI file of radiological order, `+1,+2,+3,+0` has the
        volumes of a voxel side by side.
Here    Arrays have the axes of space first, by rank, in the direction of the file, then the
        others, forwards; the affine goes with them.
"""

import re
from dataclasses import dataclass

import numpy as np

N_SPACE = 3  # the header's first axes


@dataclass(frozen=True)
class Layout:
    """Rank and sign of every axis of the header."""

    ranks: tuple[int, ...]
    is_forward: tuple[bool, ...]

    @staticmethod
    def parse(text: str, n_axes: int) -> "Layout | None":
        """From "-0,-1,+2,+3"; None where it gives no order to so many axes."""
        words = [word.strip() for word in text.split(",")]
        if not all(re.fullmatch(r"[+-]?[0-9]{1,2}", word) for word in words):
            return None
        ranks = tuple(int(word.lstrip("+-")) for word in words)
        if sorted(ranks) != list(range(n_axes)):
            return None
        return Layout(ranks, tuple(not word.startswith("-") for word in words))

    @staticmethod
    def plain(n_axes: int) -> "Layout":
        """The order in which the axes stand."""
        return Layout(tuple(range(n_axes)), (True,) * n_axes)

    def __str__(self) -> str:
        pairs = zip(self.is_forward, self.ranks, strict=True)
        return ",".join(f"{'+' if forward else '-'}{rank}" for forward, rank in pairs)

    def of_axes(self, n_axes: int) -> "Layout":
        """The same order for fewer axes, or for more, which lie outermost."""
        ranks = [*self.ranks, *range(len(self.ranks), n_axes)][:n_axes]
        forward = [*self.is_forward, *(True for _ in range(n_axes))][:n_axes]
        return Layout(tuple(sorted(ranks).index(rank) for rank in ranks), tuple(forward))

    @property
    def in_file(self) -> list[int]:
        """The header's axes, neighbours in the file first."""
        return sorted(range(len(self.ranks)), key=self.ranks.__getitem__)

    @property
    def axes(self) -> list[int]:
        """The header's axes in the order of an array."""
        space = [axis for axis in self.in_file if axis < N_SPACE]
        return [*space, *range(N_SPACE, len(self.ranks))]

    @property
    def backward(self) -> tuple[slice, ...]:
        """What turns the axes beyond space, which arrays have forwards."""
        turned = [axis >= N_SPACE and not self.is_forward[axis] for axis in self.axes]
        return tuple(slice(None, None, -1 if is_turned else 1) for is_turned in turned)

    def array(self, stored: np.ndarray, dim: tuple[int, ...]) -> np.ndarray:
        """A view of the values of a file, (n,), as an array.

        dim  sizes of the header's axes
        """
        in_file = stored.reshape([dim[axis] for axis in self.in_file], order="F")
        return np.transpose(in_file, [self.in_file.index(axis) for axis in self.axes])[
            self.backward
        ]

    def stored(self, array: np.ndarray) -> np.ndarray:
        """(n,) the values of an array in the order of the file."""
        order = [self.axes.index(axis) for axis in self.in_file]
        return np.asarray(np.transpose(array[self.backward], order).ravel(order="F"))

    def affine(self, affine: np.ndarray, dim: tuple[int, ...]) -> np.ndarray:
        """(4, 4) of the array, from that of the header's own axes."""
        turned = np.eye(4)
        turned[:, 3] = affine[:, 3]
        for place, axis in enumerate(self.axes[:N_SPACE]):
            sign = 1 if self.is_forward[axis] else -1
            turned[:3, place] = sign * affine[:3, axis]
            if sign < 0:
                turned[:3, 3] += affine[:3, axis] * (dim[axis] - 1)
        return turned
