"""Slices: the only place where (X, Y, Z, V) becomes (B, C, H, W) and back.

Idea    A slice of a series is one image whose channels are its volumes, or some of them; in 3-D
        a volume is one image.
Differs nothing
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from .run import Run, onto


@dataclass(frozen=True)
class Batch:
    """Some patches of some slices; in 3-D, of some volumes (..., H, W, D).

    y      (B, C, H, W)  noisy
    mask   (B, H, W)     1 where the loss counts
    group  (B,) int      which group of volumes the channels are; 0 where they are all of them
    z      (B,) int      which slice; 0 in 3-D
    scan                 which of the scans, where one network learns from many
    progress             share of the training that is done when it is drawn
    """

    y: Tensor
    mask: Tensor
    group: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    z: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    scan: int = 0
    progress: float = 0.0

    def mean(self, values: Tensor) -> Tensor:
        """Mean of values (B, 1, H, W) in the mask."""
        return (values[:, 0] * self.mask).sum() / self.mask.sum().clamp(min=1)

    def rms(self, x: Tensor, rows: Tensor, channel: int = 0) -> Tensor:
        """Root mean square difference between x (rows, 1, H, W) and a channel, in each one's mask.

        NaN where the mask is empty.
        """
        rows = onto(rows, x.device)
        inside = self.mask[rows].flatten(1)
        square = ((x[:, 0] - self.y[rows, channel]) ** 2).flatten(1) * inside
        return (square.sum(1) / inside.sum(1)).sqrt()

    def to(self, device: torch.device) -> "Batch":
        return replace(self, y=onto(self.y, device), mask=onto(self.mask, device))


def draw(
    data: np.ndarray | Tensor,
    mask: np.ndarray,
    n: int,
    size: int,
    rng: torch.Generator,
    groups: np.ndarray | None = None,
    dimensions: int = 2,
) -> Batch:
    """n random patches, each holding a random voxel of the mask, randomly flipped.

    data        (X, Y, Z, V), or more axes, which come before H and W in the batch; where a tensor
                lies on a device, the batch does, too
    mask        (X, Y, Z) bool
    size        edge of a patch, voxels; slices smaller than that are taken whole
    groups      (G, C) int  volumes that belong together: a random one for each patch; None: all V
    dimensions  2, or 3 for patches that are as deep as wide

    Flips along x and y keep a noise correlation that is symmetric along x and along y, as measured
    ones are; transposes would swap x and y, which differ, so there are none.
    """
    inside = np.flatnonzero(mask)
    extent = [min(size, n_all) for n_all in data.shape[:dimensions]]
    ys, masks, slices = [], [], []
    chosen = inside[torch.randint(len(inside), (n,), generator=rng).numpy()]
    offsets = torch.rand((n, dimensions), generator=rng).numpy()
    group = torch.zeros(n, dtype=torch.long)
    if groups is not None:
        group = torch.randint(len(groups), (n,), generator=rng)
    for place, offset, g in zip(chosen, offsets, group.tolist(), strict=True):
        centre = np.unravel_index(place, mask.shape)
        box: list[slice | int] = []
        for c, o, e, n_all in zip(centre, offset, extent, data.shape, strict=False):
            start = int(np.clip(c - int(o * e), 0, n_all - e))
            box.append(slice(start, start + e))
        if dimensions == 2:
            box.append(int(centre[2]))
        slices.append(int(centre[2]) if dimensions == 2 else 0)
        patch = data[tuple(box)] if groups is None else data[tuple(box)][..., groups[g]]
        if isinstance(patch, np.ndarray):
            patch = torch.from_numpy(np.array(patch))  # a copy: the scan may be read-only
        ys.append(patch.movedim(tuple(range(dimensions)), tuple(range(-dimensions, 0))))
        masks.append(mask[tuple(box)])
    y, m = torch.stack(ys), torch.from_numpy(np.stack(masks)).float()
    for axis, is_flipped in zip((0, 1), torch.rand((2, n), generator=rng) < 0.5, strict=True):
        axis -= dimensions
        of_y, of_m = (is_flipped.reshape(-1, *[1] * (a.ndim - 1)) for a in (y, m))
        y = torch.where(onto(of_y, y.device), y.flip(axis), y)
        m = torch.where(of_m, m.flip(axis), m)
    return Batch(y, m, group, torch.tensor(slices))


@torch.no_grad()
def map_slices(restore: Callable[[Tensor], Tensor], data: np.ndarray, run: Run) -> np.ndarray:
    """Every slice through `restore`, (1, V, X, Y) -> (1, V', X, Y), back on the grid.

    data  (X, Y, Z, V), or more axes, which come before X and Y
    """
    out: np.ndarray | None = None
    for z in range(data.shape[2]):
        y = torch.from_numpy(np.ascontiguousarray(np.moveaxis(data[:, :, z], (0, 1), (-2, -1))))[
            None
        ]
        restored = np.moveaxis(restore(onto(y, run.device))[0].float().cpu().numpy(), 0, -1)
        if out is None:
            out = np.empty((*data.shape[:3], restored.shape[-1]), dtype=np.float32)
        out[:, :, z] = restored
        run.voice.progress("denoising", z + 1, data.shape[2])
    assert out is not None  # a series has at least one slice
    return out


@torch.no_grad()
def restore_slices(
    restore: Callable[[Tensor], Tensor],
    data: np.ndarray,
    out: np.ndarray,
    region: np.ndarray,
    run: Run,
    task: str = "denoising",
) -> None:
    """Every slice of a region through `restore`, (1, K, ..., X, Y) -> (1, V, X, Y), into `out`.

    data    (X, Y, Z, K), or more axes, which come before X and Y
    out     (X, Y, Z, V)     changed in the region alone
    region  (X, Y, Z) bool
    task    what it is called while it runs
    """
    for z in np.flatnonzero(region.any(axis=(0, 1))):
        y = np.ascontiguousarray(np.moveaxis(data[:, :, z], (0, 1), (-2, -1)))[None]
        restored = restore(onto(torch.from_numpy(y), run.device))[0].float().cpu().numpy()
        here = region[:, :, z]
        out[:, :, z][here] = np.moveaxis(restored, 0, -1)[here]
        run.voice.progress(task, int(z) + 1, data.shape[2])


@torch.no_grad()
def map_images(
    restore: Callable[[Batch], Tensor],
    data: np.ndarray,
    mask: np.ndarray,
    groups: np.ndarray,
    run: Run,
    n_at_once: int,
    task: str = "denoising",
    dimensions: int = 2,
) -> np.ndarray:
    """Every slice of every group of volumes through `restore`, (B, C, X, Y) -> (B, 1, X, Y).

    data        (X, Y, Z, V)
    mask        (X, Y, Z) bool, handed on
    groups      (G, C) int  volumes that belong together
    n_at_once   images in a batch
    task        what it is called while it runs
    dimensions  2, or 3: whole volumes, one at a time

    Returns (X, Y, Z, G).
    """
    out = np.empty((*data.shape[:3], len(groups)), dtype=np.float32)
    n_slices = data.shape[2] if dimensions == 2 else 1
    items = [(g, z) for g in range(len(groups)) for z in range(n_slices)]
    n_at_once = n_at_once if dimensions == 2 else 1
    for start in range(0, len(items), n_at_once):
        part = items[start : start + n_at_once]
        boxes = [(slice(None), slice(None), z if dimensions == 2 else slice(None)) for _, z in part]
        ys = [np.moveaxis(data[b][..., groups[g]], -1, 0) for b, (g, _) in zip(boxes, part)]  # noqa: B905
        masks = [mask[box] for box in boxes]
        group, z = (torch.tensor(column) for column in zip(*part, strict=True))
        batch = Batch(
            torch.from_numpy(np.stack(ys)), torch.from_numpy(np.stack(masks)).float(), group, z
        )
        restored = restore(batch.to(run.device))[:, 0].float().cpu().numpy()
        for box, (g, _), image in zip(boxes, part, restored, strict=True):
            out[(*box, g)] = image
        run.voice.progress(task, min(start + n_at_once, len(items)), len(items))
    return out
