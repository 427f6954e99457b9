"""Slices: the only place where (X, Y, Z, V) becomes (B, C, H, W) and back.

Idea    A slice of a series is one image whose channels are its volumes.
Differs nothing
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .run import Run


@dataclass(frozen=True)
class Batch:
    """Some patches of some slices.

    y     (B, V, H, W)  noisy
    mask  (B, H, W)     1 where the loss counts
    """

    y: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(self.y.to(device), self.mask.to(device))


def draw(data: np.ndarray, mask: np.ndarray, n: int, size: int, rng: torch.Generator) -> Batch:
    """n random patches, each holding a random voxel of the mask, randomly flipped.

    data  (X, Y, Z, V)
    mask  (X, Y, Z) bool
    size  edge of a patch, voxels; slices smaller than that are taken whole

    Flips keep a noise correlation that is symmetric along x and along y, as measured ones are;
    transposes would swap x and y, which differ, so there are none.
    """
    inside = np.flatnonzero(mask)
    extent = [min(size, data.shape[0]), min(size, data.shape[1])]
    ys, masks = [], []
    chosen = inside[torch.randint(len(inside), (n,), generator=rng).numpy()]
    for place, offset in zip(chosen, torch.rand((n, 2), generator=rng).numpy(), strict=True):
        *centre, z = np.unravel_index(place, mask.shape)
        x0, y0 = (
            int(np.clip(c - int(o * e), 0, n_all - e))
            for c, o, e, n_all in zip(centre, offset, extent, data.shape, strict=False)
        )
        box = (slice(x0, x0 + extent[0]), slice(y0, y0 + extent[1]), z)
        ys.append(np.moveaxis(data[box], -1, 0))
        masks.append(mask[box])
    y, m = torch.from_numpy(np.stack(ys)), torch.from_numpy(np.stack(masks)).float()
    for axis, is_flipped in zip((-2, -1), torch.rand((2, n), generator=rng) < 0.5, strict=True):
        y = torch.where(is_flipped[:, None, None, None], y.flip(axis), y)
        m = torch.where(is_flipped[:, None, None], m.flip(axis), m)
    return Batch(y, m)


@torch.no_grad()
def map_slices(restore: Callable[[Tensor], Tensor], data: np.ndarray, run: Run) -> np.ndarray:
    """Every slice through `restore`, (1, V, X, Y) -> (1, V', X, Y), back on the grid.

    data  (X, Y, Z, V)
    """
    out: np.ndarray | None = None
    for z in range(data.shape[2]):
        y = torch.from_numpy(np.ascontiguousarray(np.moveaxis(data[:, :, z], -1, 0)))[None]
        restored = np.moveaxis(restore(y.to(run.device))[0].float().cpu().numpy(), 0, -1)
        if out is None:
            out = np.empty((*data.shape[:3], restored.shape[-1]), dtype=np.float32)
        out[:, :, z] = restored
        run.voice.progress("denoising", z + 1, data.shape[2])
    assert out is not None  # a series has at least one slice
    return out
