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
        that weight lies at noise far above the scan's, though the network is used at the scan's.
        T, alpha, the optimiser and the length of training were never published: the values of
        that preset are quell's.

Symbols, in units of the scan's noise (sigma = 1):
    X_t      X + tau Z;  s_t² = 1 + tau²
    h        `Images.estimate`: the Wiener filter of single voxels, and what the network adds
"""

from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..images import STOPS, Images, filters, learn, restored, steps_of
from ..noise import ADDED, NoiseModel, draw_like
from ..predictor import network
from ..run import Run, State
from ..schedule import like
from ..series import NEIGHBOURS, InputError, Series
from ..settings import check_settings
from ..slices import Batch
from ..trainer import Network, Training, load_weights
from ..unet import UNet

TAUS = ("log-normal", "uniform", "level")  # "level": s_t uniform, without reparameterisation
WEIGHTS = ("inverse-variance", "power")


@dataclass(frozen=True)
class Corruption2Self:
    """Corruption2Self; its fields are its settings. Noise levels are in units of the scan's."""

    others: int = 0  # volumes of the scan shown beside the one to restore, uncorrupted
    neighbours: str = "directions"  # which: the nearest of the shell; "acquisition": in the file
    tau: str = "log-normal"  # how noise levels are drawn; "uniform": the paper's
    tau_centre: float = 0.5  # median of the log-normal
    tau_width: float = 0.8  # its standard deviation, of ln tau
    tau_min: float = 0.1  # of "level" always 0
    tau_max: float = 3.0  # the paper's T
    weight: str = "inverse-variance"  # s_t² / τ²; "power": s_t^(2 alpha), the paper's
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
    stop: str = "held-out"  # when held-out voxels get no better; "never": after all steps

    name: ClassVar[str] = "c2s"
    paper: ClassVar[str] = "Tu et al. 2025, arXiv:2505.05631"
    needs: ClassVar[str] = "one image or more; each volume is restored by itself"
    units: ClassVar[str] = "sigma"
    summary: ClassVar[str] = "one image learns from noise added to itself (Corruption2Self)"
    learns_many: ClassVar[bool] = True  # one network may learn from many scans
    takes_one_image: ClassVar[bool] = True
    is_posterior_mean: ClassVar[bool] = True  # so its derivative tells how sure it is
    takes_contrasts: ClassVar[bool] = True
    after_learning: ClassVar[tuple[str, ...]] = (
        "recorruptions", "recorruption_tau", "images_at_once",
    )  # what a learned model may be used with  # fmt: skip
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "fast":    {"steps": 250},
        "default": {},
        "paper":   {"tau": "uniform", "tau_min": 0.001, "tau_max": 5.0, "weight": "power",
                    "noise": "white", "attention": True, "steps": 10_000, "stop": "never",
                    "average": 0.999},
    }  # fmt: skip

    @property
    def assumes_white(self) -> bool:
        """Whether the noise that is added is white, whatever the scan's."""
        return self.noise == "white"

    def __post_init__(self) -> None:
        choices = {
            "neighbours": NEIGHBOURS,
            "tau": TAUS,
            "weight": WEIGHTS,
            "noise": ADDED,
            "stop": STOPS,
        }
        check_settings(self, choices, may_be_zero=("others", "alpha", "target", "recorruptions"))
        if not self.tau_min <= self.tau_max:
            raise InputError("tau_min must be at most tau_max; correct them", 2)
        if self.target > 1:
            raise InputError(f"target={self.target} is more noise than there is; give 0 to 1", 2)
        if self.average >= 1:
            raise InputError(f"average={self.average} never moves; give less than 1", 2)

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """The network h, from all volumes of all scans."""
        images = Images.of_all(scans, self.others, self.neighbours)
        roots = filters(noises, self)
        return learn(
            self.network(images[0].n_beside, run),
            images,
            lambda h, b, rng: self.loss(h, b, images[b.scan], roots[b.scan], rng),
            self,
            run,
            Training(steps_of(images, self), average=self.average, parts=run.parts),
        )

    def loss(
        self, net: Network, batch: Batch, images: Images, root: Tensor, rng: torch.Generator
    ) -> Tensor:
        """w ‖γ (h − X) + δ τ Z‖², which is w ‖γ h + δ X_t − X‖², in the mask."""
        X, tau = batch.y[:, :1], self.levels(len(batch.y), rng).to(batch.y.device)
        Z = draw_like(X, root, rng)
        gamma, weight = (like(value, X) for value in self.gamma_and_weight(tau))
        X_t, s_t = X + like(tau, X) * Z, (1 + tau**2).sqrt()
        h = images.estimate(net, X_t, batch.y, s_t, batch.group, self.target)
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
        s2 = 1 + tau**2
        gamma = tau**2 / (s2 - self.target**2)
        if self.weight == "inverse-variance":
            return gamma, s2 / tau**2  # what X_t leaves open of X's noise has variance τ² / s_t²
        return gamma, s2**self.alpha

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """One pass of every slice of every volume at tau = 0, or the mean over recorruptions."""
        im = Images.of(scan, self.others, self.neighbours)
        net = self.network(im.n_beside, run)
        load_weights(net, state, "network.").to(run.device)
        root = noise.to_add(self.noise).in_plane_filter(scan.data.shape[:2])

        def restore(batch: Batch) -> Tensor:
            X, y, s_t = batch.y[:, :1], batch.y, torch.ones(len(batch.y))
            if not self.recorruptions:
                return im.estimate(net, X, y, s_t, batch.group, self.target)
            tau = self.recorruption_tau
            s_t = s_t * (1 + tau**2) ** 0.5
            fresh = islice(im.fresh_noise(batch, root, run), self.recorruptions)
            return torch.stack([
                im.estimate(net, X + tau * Z, y, s_t, batch.group, self.target) for Z in fresh
            ]).mean(dim=0)  # fmt: skip

        return restored(restore, im, self, run)

    def network(self, n_beside: int, run: Run) -> UNet:
        """The U-Net F, untrained."""
        levels = (2,) if self.attention else ()
        return network("lean", self.channels, 1 + n_beside, 2, 2, run, "network", levels)
