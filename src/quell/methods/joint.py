"""joint: Corruption2Self over the whole series, with the scan's own noise. quell's default.

Paper   The GDSM loss is that of Tu, Shi, Lam, "Score-based Self-supervised MRI Denoising",
        ICLR 2025, arXiv:2505.05631 (Corruption2Self).
Idea    The V volumes of a scan are rotated to their principal components, which gathers what they
        share. One small network learns E[clean component | noisy components] by removing noise
        that was added on purpose, drawn with the scan's own spatial correlation.
Here    sigma = 1 after `scaling`, target level sigma_g = 0. The network restores one component at
        a time. It is shown the same component of the slices above and below, where noise is new
        and anatomy is not, and the leading components as guides; it is told the component's
        signal over noise and how the noise correlates. So the same weights serve any number of
        volumes, any noise level and any scanner, and a network that learned from other scans, the
        prior that comes with quell, is a start: training goes on from there on the scan itself.
        Components that noise alone could have are set to their mean; what single volumes show
        above the noise of its region is put back (`noise.clusters`). What lies outside the mask
        has components of its own.
Differs Corruption2Self denoises one image at a time, adds white noise, and weighs noise levels
        by (tau² + sigma²)^alpha. Here the whole series is one image, the added noise has the
        measured covariance (with white noise on correlated noise the minimiser is a wrong
        filter), and the weight is the inverse variance of the target. Each draw of it is added
        once and taken away once (antithetic variates), at about half the scan's level.

Symbols, in units of the scan's noise (sigma = 1):
    x, x_t   noisy components and x + tau z;  s_t² = 1 + tau²
    ev       signal variance of a component: its eigenvalue minus 1
    r        signal over noise of a component of x_t: ev / s_t²
"""

from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.linalg import toeplitz
from torch import Tensor

from .. import noise as noise_model
from ..consistency import keep_means_in
from ..held_out import held_out
from ..noise import ADDED, NoiseModel, principal_components, put_back
from ..prior import fits, prior_of
from ..run import Run, State, generator_on, onto
from ..schedule import like
from ..series import InputError, Series, outside_mask
from ..slices import Batch, draw, restore_slices
from ..trainer import Network, Training, fastest, load_weights, named, train
from ..unet import UNet, UNetSettings, weights_from

# Components of a slice per pass. On a CPU more is slower: the caches overflow. On a GPU 4 are too
# small a work to fill it; 64 is a guess that bounds the memory.
IMAGES_AT_ONCE = {"cpu": 4, "cuda": 64}
SLAB, MIDDLE = 3, 1  # slices that are seen, and which of them is restored
N_TOLD, TOLD_SCALE = 6, 3.0  # log r / 2 and five correlations of the noise, which are small numbers
SHAPE = ("channels", "multipliers", "guides")  # settings that the weights depend on
SLICES, ROWS, COLUMNS = -3, -2, -1
FLIPS = ((), (SLICES, ROWS, COLUMNS), (ROWS,), (SLICES, COLUMNS))  # each axis in half of them
BRIGHT = 4.0  # sigma, mean over the volumes; what is darker outside the mask is air
KEPT_CLUSTERS, KEPT_VOXELS = "kept clusters", "kept voxels"
STARTS = ("auto", "prior", "scratch")
TAU_OF_REFEREE = 0.5
BATCHES_OF_REFEREE, WITHOUT_TRAINING = 12, 4  # prior and Wiener filter lie far apart
PER_BLOCK, PATCHES_PER_BATCH = 36, 8  # voxels of a block that judge; blocks of a batch
CERTAIN = 2.0  # standard errors by which a training has to be better than its start
JUDGED_TIMES = 4  # on the way through a training
UNTRAINED, PRIOR = "the global Wiener filter", "the prior as it is"
TRAINED = {
    PRIOR: "the prior, trained on with this scan",
    UNTRAINED: "a network trained from scratch",
}


@dataclass(frozen=True)
class Joint:
    """The joint method; its fields are its settings."""

    start: str = "auto"  # "prior", "scratch"; auto: the prior where it fits the settings
    steps: int = 380  # training steps; 0: the prior as it is
    patches: int = 8  # per step
    components: int = 2  # restored per patch and step, twice each: with z and with -z
    patch: int = 32  # edge of a patch, voxels
    guides: int = 8  # leading components shown beside the one to restore
    channels: int = 40  # of the U-Net at full resolution
    multipliers: tuple[int, ...] = (1, 2, 2)  # of the U-Net's levels
    tau_min: float = 0.4  # added noise, units of sigma
    tau_max: float = 0.6  # half of sigma, as the referee adds
    least_signal: float = 0.03  # components with less are set to their mean; and those of noise
    noise: str = "measured"  # "white" ignores the measured correlation
    flips: int = 4  # passes over the scan as it is and turned over, averaged; 1, 2 or 4

    name: ClassVar[str] = "joint"
    paper: ClassVar[str] = "quell; loss of Tu et al. 2025, arXiv:2505.05631"
    best_volumes: ClassVar[int] = 12  # from here on; checks and sentences ask here
    needs: ClassVar[str] = (
        f"one image or more of one anatomy; {best_volumes} or more to be at its best"
    )
    units: ClassVar[str] = "sigma"
    takes_one_image: ClassVar[bool] = True
    is_posterior_mean: ClassVar[bool] = True  # so its derivative tells how sure it is
    learns_many: ClassVar[bool] = True  # one network may learn from many scans
    mixes_volumes: ClassVar[bool] = True  # a volume by itself is restored otherwise
    summary: ClassVar[str] = "one network over all volumes, trained with the scan's own noise"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "instant": {"start": "prior", "steps": 0, "flips": 1},
        "fast":    {"steps": 100, "flips": 2},
        "default": {"steps": 380},
    }  # fmt: skip

    @property
    def assumes_white(self) -> bool:
        """Whether the noise that is added is white, whatever the scan's."""
        return self.noise == "white"

    def __post_init__(self) -> None:
        """Raise InputError (status 2) for settings that no network or noise can have."""
        for field in fields(self):
            value, least = getattr(self, field.name), field.name not in ("guides", "steps")
            if field.type is int and value < least:
                raise InputError(f"{field.name}={value} is too small; give {least:d} or more", 2)
        if self.channels % 8:
            raise InputError(f"channels={self.channels} does not fit; give a multiple of 8", 2)
        if not self.multipliers or min(self.multipliers) < 1:
            raise InputError("a multiplier is below 1, or none is there; give 1,2,2 or so", 2)
        if self.flips not in (1, 2, 4):
            raise InputError(f"flips={self.flips} can't be; give 1, 2 or 4", 2)
        if not 0 < self.tau_min <= self.tau_max:
            raise InputError("tau_min must be above 0 and at most tau_max; correct them", 2)
        if self.least_signal < 0:
            raise InputError(f"least_signal={self.least_signal} is too small; give 0 or more", 2)
        for name, known in (("noise", ADDED), ("start", STARTS)):
            if getattr(self, name) not in known:
                said = f"{name}={getattr(self, name)} is not known"
                raise InputError(f"{said}; choose from {', '.join(known)}", 2)
        if self.start == "prior" and not self.fits_prior:
            raise InputError(
                "the prior that comes with quell has other channels, multipliers or guides; "
                "leave these settings out or give start=scratch", 2
            )  # fmt: skip
        if self.steps == 0 and (self.start == "scratch" or not self.fits_prior):
            raise InputError("steps=0 without a prior learns nothing; give steps=1 or more", 2)

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """The network, from one scan or from many, in sigma = 1 units."""
        known = zip(scans, noises, strict=True)
        spaces = [Components.of(*one, self).to(run.device) for one in known]
        if run.device.type == "cuda":
            spaces = with_voxels_on(run.device, spaces)
        spaces, judging = self.parted(spaces, run)
        steps = self.steps if judging else 0
        judging = judging or spaces
        net = self.network(run)
        candidates = {UNTRAINED: {name: w.clone() for name, w in net.state_dict().items()}}
        if (prior := self.prior()) is not None:
            candidates[PRIOR] = prior
        losses = {name: self.losses(net, w, judging, run) for name, w in candidates.items()}
        best = min(losses, key=lambda name: mean_of(losses[name]))
        net.load_state_dict(candidates[best])
        if steps:
            candidates[TRAINED[best]] = train(
                net,
                lambda rng: self.draw(spaces, rng),
                lambda net, batch, rng: self.loss(net, batch, spaces[batch.scan], rng),
                Training(steps, parts=run.parts, judge_every=max(25, steps // JUDGED_TIMES)),
                run,
                as_state=partial(named, "network"),
                judge=lambda net: mean_of(self.judged(net, judging, run)),
            )
            trained, start = TRAINED[best], best
            losses[trained] = self.losses(net, candidates[trained], judging, run)
            if is_surely_less(losses[trained], losses[start], n_blocks(judging)):
                best = trained
        for name, found in losses.items():
            run.keep(f"referee {name}", np.array(mean_of(found)))
        run.keep("used", np.array(list(losses).index(best)))
        few = "; the mask is too small to train on" if self.steps and not steps else ""
        run.voice.say(f"joint: used {best}{few}")
        return named("network", candidates[best])

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """One pass of every slice at tau = 0; (X, Y, Z, V). Volumes keep their means.

        What lies outside the mask has components of its own: those of the mask know nothing of it.
        """
        net = self.network(run).to(run.device)
        load_weights(net, state, "network.")
        net.requires_grad_(False)
        forward = fastest(net, run.device)
        out = scan.data.astype(np.float32)
        outside = outside_mask(scan)
        outside_too = (outside, replace(self, flips=1), "denoising outside the mask")
        for region, method, task in ((scan.where, self, "denoising"), outside_too):
            if region.any():
                space = Components.of(scan, noise, method, region).to(run.device)
                restore = partial(method.restore, forward, space=space)
                restore_slices(restore, space.slabs.numpy(), out, region, run, task)
                keep_means_in(region, out, scan.data)
        keep_clusters(out, scan, outside, noise, run)
        return out

    def network(self, run: Run) -> UNet:
        """The U-Net F; with its last layer zero it is the global Wiener filter."""
        with weights_from(run.rng("network")):
            settings = UNetSettings(self.channels, self.multipliers)
            return UNet(SLAB + self.guides, 1, n_condition=N_TOLD, settings=settings)

    @property
    def fits_prior(self) -> bool:
        """Whether the network has the shape of the prior's."""
        return fits("joint", {name: getattr(self, name) for name in SHAPE})

    def prior(self) -> State | None:
        """What the network learned from other scans; None where it is not to be used or not fit."""
        return None if self.start == "scratch" or not self.fits_prior else prior_of("joint")

    def draw(self, spaces: "list[Components]", rng: torch.Generator) -> Batch:
        """Patches (B, K, SLAB, H, W) of one of the scans."""
        there = [scan for scan, space in enumerate(spaces) if space.where.any()]
        one = there[int(torch.randint(len(there), (1,), generator=rng))]
        batch = draw(spaces[one].slabs, spaces[one].where, self.patches, self.patch, rng)
        return replace(batch, scan=one)

    def loss(self, net: Network, batch: Batch, space: "Components", rng: torch.Generator) -> Tensor:
        """‖γ h(x_t) + δ x_t − x‖² / γ, which is γ ‖h(x_t) − (x − z/τ)‖², in the mask.

        Every patch is seen with z and with −z: most of what a draw adds to the gradient cancels.
        Half of the patches are turned over, the slice below above.
        """
        B, K = batch.y.shape[:2]
        G, C = min(space.guides, K), min(self.components, K)
        k = torch.stack([torch.randperm(K, generator=rng)[:C] for _ in range(B)])
        shown = onto(torch.cat([torch.arange(G).expand(B, -1), k], dim=1), batch.y.device)
        rows = torch.arange(B, device=shown.device)[:, None]
        x = batch.y[rows, shown]  # (B, G + C, SLAB, H, W): guides, then what is restored
        z = space.noise_like(x, batch.z, rng)
        is_turned = onto(torch.rand(B, generator=rng) < 0.5, x.device).repeat(2)
        tau = onto(self._levels(B, rng), x.device).repeat(2)
        x, z, mask = torch.cat([x, x]), torch.cat([z, -z]), batch.mask.repeat(2, 1, 1)
        x_t, s_t = x + like(tau, x) * z, (1 + tau**2).sqrt()
        x_t = torch.where(is_turned[:, None, None, None, None], x_t.flip(SLICES), x_t)
        own, guides = x_t[:, G:].flatten(0, 1), x_t[:, :G, MIDDLE]
        target = (x - z / like(tau, x))[:, G:, MIDDLE]  # (2 B, C, H, W)
        gamma = (tau / s_t) ** 2  # γ = τ²/s_t², δ = 1/s_t² (Tu et al. 2025 with sigma_g = 0)
        guides, s_t = guides.repeat_interleave(C, dim=0), s_t.repeat_interleave(C)
        h = estimate(net, own, guides, onto(k.repeat(2, 1).flatten(), x.device), s_t, space)
        weight = like(gamma, target) * mask[:, None]
        return (weight * (h.view_as(target) - target) ** 2).sum() / (C * mask.sum())

    def parted(
        self, spaces: "list[Components]", run: Run
    ) -> "tuple[list[Components], list[Components]]":
        """The scans with the voxels that the training learns from, and with those that judge it.

        Without a training all voxels judge: none of the candidates has learned from them.
        """
        if not self.steps:
            return spaces, spaces
        parts = [held_out(space.where, run, scan) for scan, space in enumerate(spaces)]
        if not any(judging.any() for _, judging in parts):
            return spaces, []
        known, judging = (
            [replace(space, where=where) for space, where in zip(spaces, one, strict=True)]
            for one in zip(*parts, strict=True)
        )
        return known, judging

    @torch.no_grad()
    def losses(
        self, net: UNet, weights: State, judging: "list[Components]", run: Run
    ) -> np.ndarray:
        """The validation losses of some weights, on voxels that the training does not learn from.

        But for a constant it is the squared error of h against the clean scan at this noise
        level, so the least is the best, whoever trained it on what.
        """
        net.load_state_dict(weights)
        net.to(run.device)
        return self.judged(net, judging, run)

    def judged(self, net: Network, judging: "list[Components]", run: Run) -> np.ndarray:
        """The same of a network as it is: loss and voxels of every batch, (batches, 2).

        Patches and noise are the same for all networks.
        """
        fixed, found = replace(self, tau_min=TAU_OF_REFEREE, tau_max=TAU_OF_REFEREE), []
        for n in range(BATCHES_OF_REFEREE if self.steps else WITHOUT_TRAINING):
            rng = run.rng("referee", n)
            batch = self.draw(judging, rng).to(run.device)
            loss = float(fixed.loss(net, batch, judging[batch.scan], rng))
            found.append((loss, float(batch.mask.sum())))
        return np.array(found)

    def restore(self, net: Network, x: Tensor, space: "Components") -> Tensor:
        """Clean volumes of one slice, x (1, K, SLAB, H, W) -> (1, V, H, W)."""
        G = min(space.guides, x.shape[1])
        at_once = IMAGES_AT_ONCE.get(x.device.type, IMAGES_AT_ONCE["cpu"])
        parts = torch.arange(x.shape[1], device=x.device).split(at_once)
        h = torch.zeros_like(x[0, :, MIDDLE])
        for axes in FLIPS[: self.flips]:  # noise and anatomy turned over are as likely
            x_f = x.flip(axes)
            guides = x_f[:, :G, MIDDLE]
            h_f = [estimate(net, x_f[0, k], guides, k, torch.ones_like(k), space) for k in parts]
            in_plane = [axis for axis in axes if axis != SLICES]
            h += torch.cat(h_f).flip(in_plane) / self.flips
        return space.rotate_back(h[None])

    def _levels(self, n: int, rng: torch.Generator) -> Tensor:
        """n values of tau, uniform, one in each n-th of the range."""
        u = (torch.arange(n) + torch.rand(n, generator=rng)) / n
        return self.tau_min + (self.tau_max - self.tau_min) * u


@dataclass(frozen=True, eq=False)
class Components:
    """A scan as its principal components, and how its noise is to be drawn.

    mean    (V,)
    U       (V, K)           orthonormal, so white noise over volumes stays white
    ev      (K,)             signal variance
    x       (X, Y, Z+2, K)   with a slice of zeros below and above
    where   (X, Y, Z) bool   the mask
    filter_                  square root of the in-plane power spectrum of the noise
    mixing  (3, 3)           square root of the correlation between slices
    told    (5,)             correlation of the noise to the next voxel along x and y, to the one
                             after it along x and y, to the next slice
    guides                   how many leading components guide
    """

    mean: Tensor
    U: Tensor
    ev: Tensor
    x: Tensor
    where: np.ndarray
    filter_: Tensor
    mixing: Tensor
    told: Tensor
    guides: int

    @classmethod
    def of(
        cls, scan: Series, noise: NoiseModel, joint: Joint, region: np.ndarray | None = None
    ) -> "Components":
        """The components of a scan that hold signal; sigma = 1 units.

        region  (X, Y, Z) bool  whose voxels they are of; None: the mask
        """
        region = scan.where if region is None else region
        mean, values, vectors = principal_components(scan.data[region])
        ev = values - 1.0
        n_voxels = int(region.sum()) if noise.n_voxels else 0
        own = replace(noise.to_add(joint.noise), n_voxels=n_voxels)
        least = max(joint.least_signal, own.edge - 1)
        K = max(1, int((ev > least).sum()))
        U = np.ascontiguousarray(vectors[:, :K], dtype=np.float32)
        x = np.zeros((*scan.data.shape[:2], scan.data.shape[2] + 2, K), dtype=np.float32)
        np.matmul(scan.data, U, out=x[:, :, 1:-1])
        x[:, :, 1:-1] -= mean.astype(np.float32) @ U
        i, j, k = (n // 2 for n in own.covariance.shape)
        line = own.covariance[i, j, k : k + SLAB]
        c = own.covariance
        told = [c[i + 1, j, k], c[i, j + 1, k], c[i + 2, j, k], c[i, j + 2, k], line[1]]
        return cls(
            torch.from_numpy(mean.astype(np.float32)),
            torch.from_numpy(U),
            torch.from_numpy(np.maximum(ev[:K], 1e-3).astype(np.float32)),
            torch.from_numpy(x),
            scan.where,
            own.in_plane_filter((joint.patch, joint.patch)),
            torch.from_numpy(_root_of_correlation(line)),
            torch.tensor(told, dtype=torch.float32),
            joint.guides,
        )

    @property
    def slabs(self) -> Tensor:
        """(X, Y, Z, K, 3): the slice below, itself, the slice above; a view."""
        return self.x.unfold(2, SLAB, 1)

    def to(self, device: torch.device) -> "Components":
        """The same with its tables on the device, where every step needs them; x stays."""
        tables = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "x"}
        there: Any = {n: onto(t, device) for n, t in tables.items() if isinstance(t, Tensor)}
        return replace(self, **there)

    def noise_like(self, x: Tensor, z: Tensor, rng: torch.Generator) -> Tensor:
        """Fresh noise for patches of components, correlated in the plane and across slices.

        None where a slab reaches out of the scan: nothing is there that noise could be added to.

        x  (B, C, SLAB, H, W)
        z  (B,) int            the slice in the middle of each slab
        """
        noise = noise_model.draw(self.filter_, x.shape, generator_on(x.device, rng))
        noise = torch.einsum("st,bcthw->bcshw", self.mixing, noise)
        at = z[:, None] + torch.arange(SLAB) - MIDDLE
        is_there = (at >= 0) & (at < self.where.shape[2])
        return noise * onto(is_there[:, None, :, None, None].to(noise.dtype), x.device)

    def rotate_back(self, x: Tensor) -> Tensor:
        """(B, K, H, W) -> (B, V, H, W); components left out stay at their mean."""
        return torch.einsum("bkhw,vk->bvhw", x, self.U) + self.mean[:, None, None]


def mean_of(losses: np.ndarray) -> float:
    """The mean loss over the voxels of all batches; losses (batches, 2)."""
    return float(np.average(losses[:, 0], weights=losses[:, 1]))


def n_blocks(spaces: "list[Components]") -> int:
    """How many blocks of voxels judge: neighbours share noise and anatomy."""
    return max(1, sum(int(np.count_nonzero(space.where)) for space in spaces) // PER_BLOCK)


def is_surely_less(one: np.ndarray, other: np.ndarray, n_blocks: int) -> bool:
    """Whether one's losses (batches, 2) are less than the other's by more than chance makes.

    Batches that show the same few blocks again tell less than their number: as many as blocks.
    """
    difference = one[:, 0] - other[:, 0]
    n_told = min(len(difference), max(1, n_blocks / PATCHES_PER_BATCH))
    chance = float(difference.std(ddof=1)) / np.sqrt(n_told)
    return mean_of(one) - mean_of(other) < -CERTAIN * chance


def keep_clusters(
    out: np.ndarray, scan: Series, outside: np.ndarray, noise: NoiseModel, run: Run
) -> None:
    """Put back, in place, what single volumes show and the components left out; keep where.

    Air is left alone: what stands out there are ghosts.
    """
    tissue = scan.where.copy()
    for z in range(tissue.shape[2]):
        bright = np.abs(scan.data[:, :, z].mean(axis=-1)) > BRIGHT
        tissue[:, :, z] |= outside[:, :, z] & bright
    clusters = put_back(out, scan.data, tissue, noise.covariance)
    places = [np.c_[voxels, np.full(len(voxels), c.volume)] for c, voxels in clusters]
    run.keep(KEPT_VOXELS, np.concatenate([np.zeros((0, 4), dtype=int), *places]))
    rows = [(c.volume, *c.centre, c.n_voxels, c.peak, c.amplitude) for c, _ in clusters]
    run.keep(KEPT_CLUSTERS, np.array(rows, dtype=float).reshape(-1, 7))


def with_voxels_on(device: torch.device, spaces: list[Components]) -> list[Components]:
    """The scans on the GPU, so that patches need not travel; as they are where they are too large.

    They may take half of the memory that is free.
    """
    n_bytes = sum(space.x.numel() * space.x.element_size() for space in spaces)
    if n_bytes > torch.cuda.mem_get_info(device)[0] // 2:
        return spaces
    return [replace(space, x=onto(space.x, device)) for space in spaces]


def _root_of_correlation(line: np.ndarray) -> np.ndarray:
    """Square root of the matrix of correlations between the slices of a slab; line: by lag."""
    values, vectors = np.linalg.eigh(toeplitz(line))
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return np.asarray(root / np.linalg.norm(root, axis=1, keepdims=True), dtype=np.float32)


def estimate(
    net: Network, own: Tensor, guides: Tensor, k: Tensor, s_t: Tensor, space: Components
) -> Tensor:
    """h(x_t): component k[n] of the middle slice of patch n, (N, H, W).

    own     (N, SLAB, H, W)  that component of x_t
    guides  (N, G, H, W)     the leading components of x_t there, G at most space.guides; the
                             component itself, if it is one of them, is blanked
    s_t     (N,)             noise level of each patch

    h = w x_t + c F(x_t / sqrt(ev + s_t²)): w, c make F start as the global Wiener filter
    (F = 0) and keep its output near unit variance. Scan and noise times any number give h times
    that number: what F sees and is told are ratios.
    """
    s2, G = s_t**2, guides.shape[1]
    is_self = torch.arange(G, device=k.device) == k[:, None]  # (N, G)
    shown = ~is_self / (space.ev[:G] + s2[:, None]).sqrt()
    image = own.new_zeros(len(k), SLAB + space.guides, *own.shape[2:])
    ev = space.ev[k]
    image[:, :SLAB] = own / (ev + s2).sqrt()[:, None, None, None]
    image[:, SLAB : SLAB + G] = guides * shown[:, :, None, None]
    r = ev / s2
    lags = TOLD_SCALE * space.told.expand(len(r), -1)
    F = net(image, torch.cat([r.log()[:, None] / 2, lags], dim=1))[:, 0]
    w, c = r / (1 + r), (ev / (1 + r)).sqrt()
    return w[:, None, None] * own[:, MIDDLE] + c[:, None, None] * F
