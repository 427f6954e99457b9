"""Images: every volume of a scan as an image of its own, and what may be shown beside it.

Idea    A method that learns from single images needs little of a scan: its volumes, their size,
        and which others of the same anatomy are shown with each. Those others are never changed:
        their noise is independent, so they may say what they know.
Here    Where the noise level is known, a network starts as the best pixelwise linear estimate
        (`Images.estimate`) and its own output stays about one in size, as in `predictor`.
Differs nothing
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from .consistency import keep_means
from .held_out import held_out
from .noise import NoiseModel, draw_like
from .run import Run, State
from .schedule import like
from .series import InputError, Series, prior_volumes
from .slices import Batch, draw, map_images
from .trainer import Network, Training, named, train

STOPS = ("held-out", "never")  # when a training ends: when held-out voxels say so, or its steps do
LOOKS = 4  # batches that judge
MOST_PASSES = 700  # over every voxel of a scan; more only learn its noise, on phantom A's slices


@dataclass(frozen=True)
class Images:
    """The images of one scan, and which of them are shown together.

    data    (X, Y, Z, V + contrasts)
    where   (X, Y, Z) bool
    groups  (V, 1 + n) int  every volume and those beside it
    mean    (V, 1 + n)      of each in the mask
    sd      (V, 1 + n)      standard deviation of each there, noise included
    """

    data: np.ndarray
    where: np.ndarray
    groups: np.ndarray
    mean: Tensor
    sd: Tensor

    @classmethod
    def of(cls, scan: Series, others: int = 0, neighbours: str = "directions") -> "Images":
        """The scan's volumes; contrasts of the scan are shown beside every one.

        others      volumes of the scan shown beside each
        neighbours  which, as in `prior_volumes`

        Raises InputError where a volume has no others like it.
        """
        data, groups, means, sds = scan.data, groups_of(scan, others, neighbours), [], []
        if scan.contrasts is not None:
            data = np.concatenate([data, scan.contrasts.astype(np.float32)], axis=3)
        for v in range(data.shape[3]):  # one volume in memory: the scan may be mapped from disk
            inside = data[..., v][scan.where]
            means.append(float(inside.mean(dtype=np.float64)))
            sds.append(max(float(inside.std(dtype=np.float64)), 1e-6))
        mean, sd = torch.tensor(means), torch.tensor(sds)
        return cls(data, scan.where, groups, mean[groups], sd[groups])

    @classmethod
    def of_all(
        cls, scans: list[Series], others: int = 0, neighbours: str = "directions"
    ) -> list["Images"]:
        """The images of scans that one network learns from; InputError where it can't."""
        images = [cls.of(scan, others, neighbours) for scan in scans]
        if len({im.n_beside for im in images}) > 1:
            raise InputError(
                "the scans differ in how many images are shown beside one; "
                "give all the same contrasts, and --set others=0"
            )
        return images

    @property
    def ranges(self) -> Tensor:
        """(V,) largest less smallest value of every volume in the mask."""
        inside = (self.data[..., v][self.where] for v in self.groups[:, 0])
        return torch.tensor([float(values.max() - values.min()) for values in inside])

    @property
    def n_beside(self) -> int:
        """How many images are shown beside one."""
        return self.groups.shape[1] - 1

    def standardised(self, x: Tensor, group: Tensor) -> Tensor:
        """Images with mean 0 and variance 1 in the mask, (B, 1 + n, H, W).

        x      (B, 1 + n, H, W)
        group  (B,)  which row of `groups` they are
        """
        mean, sd = (table[group].to(x)[:, :, None, None] for table in (self.mean, self.sd))
        return (x - mean) / sd

    def estimate(
        self, net: Network, X_t: Tensor, y: Tensor, s_t: Tensor, group: Tensor, target: float = 0.0
    ) -> Tensor:
        """A network's estimate of what X_t holds but for its noise, (B, 1, H, W); sigma = 1 units.

        net     of (B, 1 + n, H, W) and two numbers, log s_t and log of the signal's size
        X_t     (B, 1, H, W)      the image with its noise
        y       (B, 1 + n, H, W)  the batch it was made of: what is beside it stays as it is
        s_t     (B,)              noise level of X_t
        group   (B,)              which row of `groups` they are
        target  sigma_g, noise of the image that is sought

        h = mean + w (X_t - mean) + c F. Untrained, F = 0: the Wiener filter of a volume whose
        voxels do not know of each other.
        """
        mean, sd = self.mean[group, 0].to(X_t), self.sd[group, 0].to(X_t)
        s2 = s_t.to(X_t) ** 2
        ev = torch.maximum(sd**2 - 1, 0.01 * sd**2)  # signal variance of the volume
        wanted, total = ev + target**2, ev + s2  # variance of the image that is sought, of X_t
        x = (X_t - like(mean, X_t)) / like(total.sqrt(), X_t)
        beside = self.standardised(y, group)[:, 1:]
        F = net(torch.cat([x, beside], dim=1), torch.stack([s2.log() / 2, ev.log() / 2], dim=1))
        w = wanted / total
        c = (w * (s2 - target**2)).sqrt()  # of the error that the Wiener filter leaves
        return like(mean, X_t) + like(w, X_t) * (X_t - like(mean, X_t)) + like(c, X_t) * F

    def fresh_noise(self, batch: Batch, root: Tensor, run: Run) -> Iterator[Tensor]:
        """Noise to add to the images of a batch, (B, 1, H, W), again and again.

        An image has its own generator: what it gets does not depend on its batch.
        """
        places = zip(batch.group.tolist(), batch.z.tolist(), strict=True)
        rngs = [run.rng("recorruptions", g * self.data.shape[2] + z) for g, z in places]
        while True:
            yield torch.cat([draw_like(batch.y[:1, :1], root, rng) for rng in rngs])


def groups_of(scan: Series, others: int, neighbours: str) -> np.ndarray:
    """(V, 1 + n) int: every volume and what is shown beside it; contrasts count on from the last.

    Raises InputError where a volume has no others like it.
    """
    V = scan.n_volumes
    groups = np.arange(V)[:, None]
    if others:
        groups = prior_volumes(scan, others, neighbours)
        if len(groups) < V:
            raise InputError(
                "a volume has no other one of its b-value to be shown beside it; use --set others=0"
            )
    if scan.contrasts is None:
        return groups
    shown = V + np.arange(scan.contrasts.shape[3])
    return np.concatenate([groups, np.tile(shown, (V, 1))], axis=1)


def shown_together(scan: Series, method: object) -> int:
    """Images of a scan that a method's network sees at once: the one to restore, those beside."""
    others = getattr(method, "others", 0)
    return int(groups_of(scan, others, getattr(method, "neighbours", "directions")).shape[1])


class SeesPatches(Protocol):
    """A method's settings that say how it trains on images and is used on them."""

    @property
    def steps(self) -> int: ...
    @property
    def patches(self) -> int: ...
    @property
    def patch(self) -> int: ...
    @property
    def images_at_once(self) -> int: ...
    @property
    def stop(self) -> str: ...


class AddsNoise(Protocol):
    """A method's settings that say what noise it adds, and to patches of which size."""

    @property
    def noise(self) -> str: ...
    @property
    def patch(self) -> int: ...


def learn(
    net: nn.Module,
    images: list[Images],
    loss: Callable[[Network, Batch, torch.Generator], Tensor],
    method: SeesPatches,
    run: Run,
    training: Training | None = None,
    is_all: bool = True,
) -> State:
    """What one network learned from patches of all scans, its weights by "network.NAME".

    loss      scalar of network, batch and generator
    training  how; None: the steps of the method, in quell's own way
    is_all    whether the method learns nothing else
    """
    known, judge = parted(images, method, loss, run)
    weights = train(
        net,
        lambda rng: draw_from(known, method.patches, method.patch, rng),
        loss,
        training or Training(method.steps, parts=run.parts),
        run,
        as_state=partial(named, "network") if is_all else None,
        judge=judge,
    )
    return named("network", weights)


def steps_of(images: list[Images], method: SeesPatches) -> int:
    """How many steps a dense loss is trained for: those of the method, fewer on a small scan.

    So that the learning rate has come down when there is nothing more to be learned.
    """
    if method.stop == "never":
        return method.steps
    n_voxels = sum(int(np.count_nonzero(im.where)) * len(im.groups) for im in images)
    rows, columns = images[0].data.shape[:2]
    per_step = method.patches * min(method.patch**2, rows * columns)
    return min(method.steps, max(20, int(MOST_PASSES * n_voxels / per_step)))


def parted(
    images: list[Images],
    method: SeesPatches,
    loss: Callable[[Network, Batch, torch.Generator], Tensor],
    run: Run,
) -> tuple[list[Images], Callable[[Network], float] | None]:
    """The images with the voxels to learn from, and what judges a network on the others.

    None where the method goes through all its steps, or where there is too little to hold out.
    """
    if method.stop == "never":
        return images, None
    parts = [held_out(im.where, run, scan) for scan, im in enumerate(images)]
    if not any(judged.any() for _, judged in parts):
        return images, None
    known, judging = (
        [replace(im, where=where) for im, where in zip(images, one, strict=True)]
        for one in zip(*parts, strict=True)
    )

    def judge(net: Network) -> float:
        errors = []
        for n in range(LOOKS):
            rng = run.rng("held-out voxels", n)
            batch = draw_from(judging, method.patches, method.patch, rng).to(run.device)
            errors.append(float(loss(net, batch, rng)))
        return sum(errors) / LOOKS

    return known, judge


def filters(noises: list[NoiseModel], method: AddsNoise) -> list[Tensor]:
    """What noise is drawn with on patches, of every scan that a method learns from."""
    shape = method.patch, method.patch
    return [noise.to_add(method.noise).in_plane_filter(shape) for noise in noises]


def restored(
    restore: Callable[[Batch], Tensor], images: Images, method: SeesPatches, run: Run
) -> np.ndarray:
    """Every slice of every volume through `restore`, with the means that they had; (X, Y, Z, V)."""
    result = map_images(
        restore, images.data, images.where, images.groups, run, method.images_at_once
    )
    return keep_means(result, images.data[..., : len(images.groups)], images.where)


def draw_from(images: list[Images], n: int, size: int, rng: torch.Generator) -> Batch:
    """n patches of one of the scans, any one of them.

    size  edge of a patch, voxels
    """
    there = [scan for scan, im in enumerate(images) if im.where.any()]
    scan = there[int(torch.randint(len(there), (1,), generator=rng))]
    im = images[scan]
    return replace(draw(im.data, im.where, n, size, rng, im.groups), scan=scan)
