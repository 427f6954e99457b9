"""Held-out voxels: a training is judged on voxels that it does not learn from.

Idea    A network that has seen a voxel often enough knows its noise by heart. The loss there falls
        to nothing while the error of what it restores grows, and no loss on such voxels can tell.
        Voxels that never count in the loss can: there the loss is, but for a constant, the squared
        error against the clean scan.
Here    Blocks of a slice are held out, spread over the scan, and judged without their rim, whose
        noise correlates with that of the voxels beside them. They stay visible: only the loss
        leaves them out. A small scan holds a quarter out, a large one no more than it takes to
        judge. The best of the averaged weights is kept, and training ends when they get no better.
Papers  Stone, JRSS B 36:111, 1974 (cross-validation); Prechelt, "Early stopping, but when?", 1998.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from .run import Run, State

BLOCKS = (8, 4, 2)  # edges, voxels; the largest of which a scan has enough
FEWEST_BLOCKS = 12  # that is enough
MOST_SHARE = 0.25  # of the voxels are held out
ENOUGH = 8000  # voxels; so many judge well, whatever the scan's size


def held_out(mask: np.ndarray, run: Run, scan: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The voxels to learn from and those to judge on, (X, Y, Z) bool each.

    mask  (X, Y, Z) bool
    run   its seed says which
    scan  which of several

    Of a mask too small to be parted, all voxels are to learn from, and none to judge on.
    """
    for edge in BLOCKS:
        block = _blocks(mask, edge)
        numbers, sizes = np.unique(block[mask], return_counts=True)
        numbers = numbers[sizes >= edge**2 / 2]
        if len(numbers) >= FEWEST_BLOCKS:
            break
    else:
        return mask, np.zeros_like(mask)
    wanted = min(MOST_SHARE * np.count_nonzero(mask), ENOUGH)
    n = max(2, round(wanted / edge**2))
    rng = np.random.default_rng(int(run.rng("held-out voxels", scan).initial_seed()))
    chosen = rng.permutation(numbers)[: min(n, len(numbers) // 2)]
    out = mask & np.isin(block, chosen)
    inner = out & ndimage.binary_erosion(out, np.ones((3, 3, 1)))
    return mask & ~out, inner if edge > 2 else out


def _blocks(mask: np.ndarray, edge: int) -> np.ndarray:
    """(X, Y, Z) int, the number of the square of a slice in which a voxel lies."""
    x, y, z = (np.arange(n) for n in mask.shape)
    rows, columns = x // edge, y // edge
    in_plane = rows[:, None] * (columns[-1] + 1) + columns
    return np.asarray(in_plane[..., None] + z * (in_plane.max() + 1))


@dataclass
class Judged:
    """The best weights of a training so far, by the loss on held-out voxels.

    judge     the loss of the network as it is, on the same voxels and noise every time
    every     steps between two looks
    patience  looks without an improvement, after which training ends
    errors    (n,) of every look, the first before the first step
    best      the weights of the least
    """

    judge: Callable[[], float]
    every: int = 25
    patience: int = 4
    errors: list[float] = field(default_factory=list)
    best: State = field(default_factory=dict)

    def look(self, error: float, weights: State) -> None:
        """Keep the weights if they are the best so far."""
        if not self.errors or error < min(self.errors):
            self.best = {name: value.detach().clone() for name, value in weights.items()}
        self.errors.append(error)

    @property
    def is_over(self) -> bool:
        """Whether the last looks have brought nothing."""
        return len(self.errors) - 1 - int(np.argmin(self.errors or [0])) >= self.patience
