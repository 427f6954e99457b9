"""Corruption2Self: one network that removes noise added on purpose, and then the scan's own.

Paper   Tu, Shi, Lam, "Score-based self-supervised MRI denoising", ICLR 2025, arXiv:2505.05631. No
        code was released; this is written from the paper's statements and their proofs.
Idea    X_t = X + tau Z has more noise than the scan X. By Tweedie's formula, twice,
            E[X | X_t] = γ E[X_g | X_t] + δ X_t,   γ = τ² / (s_t² - σ_g²),   δ = 1 - γ,
        so a network h for which γ h(X_t) + δ X_t comes nearest to X is E[X_g | X_t], the image
        with only σ_g of noise left (GDSM). One pass at tau = 0 gives it for the scan itself.
Here    sigma = 1 after `scaling`. Every volume is an image of its own; others may be shown beside
        it, never corrupted. The added noise has the scan's own correlation. Noise levels are drawn
        log-normally about half the scan's, and weighed by the inverse variance of the target.
Differs preset "paper": tau uniform up to T, weight s_t^(2 alpha), white noise. Nearly all of
        that weight lies at noise far above the scan's, which is where the network is then used.
        T, alpha, the optimiser and the length of training were never published: the values of
        that preset are quell's.

Symbols, in units of the scan's noise (sigma = 1):
    X_t      X + tau z;  s_t² = 1 + tau²
    ev       signal variance of a volume: its variance in the mask minus 1
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..consistency import keep_means
from ..noise import NoiseModel, draw_like
from ..run import Run, State
from ..schedule import like
from ..series import NEIGHBOURS, InputError, Series, prior_volumes
from ..settings import check_settings
from ..slices import Batch, draw, map_images
from ..trainer import Network, Training, load_weights, train
from ..unet import UNet, UNetSettings, weights_from

TAUS = ("log-normal", "uniform", "level")  # "level": s_t uniform, without reparameterisation
WEIGHTS = ("inverse-variance", "power")
NOISES = ("measured", "white")


@dataclass(frozen=True)
class Corruption2Self:
    """Corruption2Self; its fields are its settings. Noise levels are in units of the scan's."""

    others: int = 0  # volumes of the scan shown beside the one to restore, uncorrupted
    neighbours: str = "directions"  # which: the nearest of the shell; "acquisition": in the file
    tau: str = "log-normal"  # how noise levels are drawn; "uniform": the paper's
    tau_centre: float = 0.5  # median of the log-normal
    tau_width: float = 0.8  # its standard deviation, of ln tau
    tau_min: float = 0.1
    tau_max: float = 3.0  # the paper's T
    weight: str = "inverse-variance"  # 1 / γ; "power": s_t^(2 alpha), the paper's
    alpha: float = 0.0  # of weight "power"
    target: float = 0.0  # sigma_g: noise to leave, the paper's detail refinement
    noise: str = "measured"  # what the added noise is like; "white": the paper's
    recorruptions: int = 0  # passes with fresh noise that are averaged; 0: one pass at tau = 0
    recorruption_tau: float = 0.4  # of those
    attention: bool = False  # noise-conditioned attention at the lowest level, the paper's NVC-MSA
    steps: int = 500  # of training
    channels: int = 32  # of the U-Net at full resolution
    patches: int = 8  # per step
    patch: int = 64  # edge of a patch, voxels
    average: float = 0.99  # decay of the running average of the weights
    images_at_once: int = 8  # slices of one pass

    name: ClassVar[str] = "c2s"
    paper: ClassVar[str] = "Tu et al. 2025, arXiv:2505.05631"
    needs: ClassVar[str] = "one image or more; each volume is restored by itself"
    units: ClassVar[str] = "sigma"
    summary: ClassVar[str] = "one image learns from noise added to itself (Corruption2Self)"
    learns_many: ClassVar[bool] = True  # one network may learn from many scans
    takes_one_image: ClassVar[bool] = True
    takes_contrasts: ClassVar[bool] = True
    after_learning: ClassVar[tuple[str, ...]] = (
        "recorruptions", "recorruption_tau", "images_at_once",
    )  # what a learned model may be used with  # fmt: skip
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "fast":    {"steps": 250},
        "default": {},
        "paper":   {"tau": "uniform", "tau_max": 5.0, "weight": "power", "noise": "white",
                    "attention": True, "steps": 10_000, "average": 0.999},
    }  # fmt: skip

    def __post_init__(self) -> None:
        choices = {"neighbours": NEIGHBOURS, "tau": TAUS, "weight": WEIGHTS, "noise": NOISES}
        check_settings(self, choices, may_be_zero=("others", "alpha", "target", "recorruptions"))
        if not self.tau_min <= self.tau_max:
            raise InputError("tau_min must be at most tau_max; correct them", 2)
        if self.target > 1:
            raise InputError(f"target={self.target} is more noise than there is; give 0 to 1", 2)
        if self.average >= 1:
            raise InputError(f"average={self.average} never moves; give less than 1", 2)

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """The network h, from all volumes of all scans."""
        images = [Images.of(scan, self.others, self.neighbours) for scan in scans]
        shape = self.patch, self.patch
        roots = [self.like_scan(noise).in_plane_filter(shape) for noise in noises]
        if len({im.groups.shape[1] for im in images}) > 1:
            raise InputError(
                "the scans differ in how many volumes can be shown beside one; "
                "train with --set others=0"
            )
        which: list[int] = []  # the scan of the batch in hand

        def one_scan(rng: torch.Generator) -> Batch:
            which[:] = [int(torch.randint(len(images), (1,), generator=rng))]
            im = images[which[0]]
            return draw(im.data, im.where, self.patches, self.patch, rng, im.groups)

        weights = train(
            self.network(images[0].groups.shape[1] - 1, run),
            one_scan,
            lambda h, batch, rng: self.loss(h, batch, images[which[0]], roots[which[0]], rng),
            replace(Training(self.steps), average=self.average),
            run,
        )
        return {f"network.{name}": value for name, value in weights.items()}

    def loss(
        self, net: Network, batch: Batch, images: "Images", root: Tensor, rng: torch.Generator
    ) -> Tensor:
        """w ‖γ (h − X) + δ τ Z‖², which is w ‖γ h + δ X_t − X‖², in the mask."""
        X, tau = batch.y[:, :1], self.levels(len(batch.y), rng).to(batch.y.device)
        Z = draw_like(X, root, rng)
        gamma, weight = (like(value, X) for value in self.gamma_and_weight(tau))
        X_t = X + like(tau, X) * Z
        h = self.estimate(net, X_t, batch.y[:, 1:], (1 + tau**2).sqrt(), batch.group, images)
        r = gamma * (h - X) + (1 - gamma) * like(tau, X) * Z
        return batch.mean(weight * r**2)

    def levels(self, n: int, rng: torch.Generator) -> Tensor:
        """n values of tau, one in each n-th of their distribution."""
        u = (torch.arange(n) + torch.rand(n, generator=rng)) / n
        low, high = self.tau_min, self.tau_max
        if self.tau == "uniform":
            return low + (high - low) * u
        if self.tau == "level":
            return ((1 + u * ((1 + high**2) ** 0.5 - 1)) ** 2 - 1).sqrt().clamp(min=1e-3)
        normal = 2**0.5 * torch.erfinv((2 * u - 1).clamp(-0.9999, 0.9999))
        return (self.tau_centre * (self.tau_width * normal).exp()).clamp(low, high)

    def gamma_and_weight(self, tau: Tensor) -> tuple[Tensor, Tensor]:
        """γ, the share of h, and w; (B,) each."""
        gamma = tau**2 / (tau**2 + 1 - self.target**2)
        if self.weight == "inverse-variance":
            return gamma, 1 / gamma
        return gamma, (1 + tau**2) ** self.alpha

    def estimate(
        self, net: Network, X_t: Tensor, others: Tensor, s_t: Tensor, group: Tensor, im: "Images"
    ) -> Tensor:
        """h(X_t), (B, 1, H, W).

        others  (B, n, H, W)  volumes beside it, without added noise
        s_t     (B,)          noise level of X_t
        group   (B,)          whose volumes they are

        Untrained it is the Wiener filter of a volume whose voxels do not know of each other.
        """
        mean, sd = (table[group].to(X_t) for table in (im.mean, im.sd))  # (B, 1 + n)
        beside = (others - mean[:, 1:, None, None]) / sd[:, 1:, None, None]
        mean, s2 = mean[:, 0], s_t**2
        ev = torch.maximum(sd[:, 0] ** 2 - 1, 0.01 * sd[:, 0] ** 2)
        x = (X_t - like(mean, X_t)) / like((ev + s2).sqrt(), X_t)
        F = net(torch.cat([x, beside], dim=1), torch.stack([s2.log() / 2, ev.log() / 2], dim=1))
        wanted = ev + self.target**2  # variance of X_g
        w = wanted / (ev + s2)
        c = (wanted * (1 - w)).sqrt()
        return like(mean, X_t) + like(w, X_t) * (X_t - like(mean, X_t)) + like(c, X_t) * F

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """One pass of every slice of every volume at tau = 0, or the mean over recorruptions."""
        im = Images.of(scan, self.others, self.neighbours)
        net = self.network(im.groups.shape[1] - 1, run)
        load_weights(net, state, "network.").to(run.device)
        root = self.like_scan(noise).in_plane_filter(scan.data.shape[:2])

        def restore(batch: Batch) -> Tensor:
            X, others, s_t = batch.y[:, :1], batch.y[:, 1:], torch.ones_like(batch.y[:, 0, 0, 0])
            if not self.recorruptions:
                return self.estimate(net, X, others, s_t, batch.group, im)
            first = int(batch.group[0]) * scan.data.shape[2] + int(batch.z[0])
            rng, tau = run.rng("recorruptions", first), self.recorruption_tau
            return torch.stack([
                self.estimate(net, X + tau * draw_like(X, root, rng), others,
                              s_t * (1 + tau**2) ** 0.5, batch.group, im)
                for _ in range(self.recorruptions)
            ]).mean(dim=0)  # fmt: skip

        restored = map_images(restore, im.data, im.where, im.groups, run, self.images_at_once)
        return keep_means(restored, scan.data, im.where)

    def network(self, n_others: int, run: Run) -> UNet:
        """The U-Net F, untrained."""
        with weights_from(run.rng("network")):
            levels = (2,) if self.attention else ()
            settings = UNetSettings(self.channels, (1, 2, 2), attention=levels)
            return UNet(1 + n_others, 1, n_condition=2, settings=settings)

    def like_scan(self, noise: NoiseModel) -> NoiseModel:
        return {"measured": noise, "white": noise.as_white()}[self.noise]


@dataclass(frozen=True)
class Images:
    """The images of one scan, and which of them are shown together.

    data    (X, Y, Z, V + contrasts)
    where   (X, Y, Z) bool
    groups  (V, 1 + n) int  every volume and those beside it
    mean    (V, 1 + n)      of each in the mask
    sd      (V, 1 + n)      standard deviation of each
    """

    data: np.ndarray
    where: np.ndarray
    groups: np.ndarray
    mean: Tensor
    sd: Tensor

    @staticmethod
    def of(scan: Series, others: int, neighbours: str) -> "Images":
        """The scan's volumes; contrasts of the scan are shown beside every one."""
        data, V = scan.data, scan.n_volumes
        groups = np.arange(V)[:, None]
        if others:
            groups = prior_volumes(scan, others, neighbours)
            if len(groups) < V:
                raise InputError(
                    "a volume has no other one of its b-value to be shown beside it; "
                    "use --set others=0"
                )
        if scan.contrasts is not None:
            K = scan.contrasts.shape[3]
            data = np.concatenate([data, scan.contrasts], axis=3)
            groups = np.concatenate([groups, np.tile(V + np.arange(K), (V, 1))], axis=1)
        inside = [data[..., v][scan.where] for v in range(data.shape[3])]
        mean = torch.tensor([float(x.mean(dtype=np.float64)) for x in inside])
        sd = torch.tensor([max(float(x.std(dtype=np.float64)), 1e-6) for x in inside])
        return Images(data, scan.where, groups, mean[groups], sd[groups])
