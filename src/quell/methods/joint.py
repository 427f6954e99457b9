"""joint: Corruption2Self over the whole series, with the scan's own noise. quell's default.

Paper   The GDSM loss is that of Tu, Shi, Lam, "Score-based Self-supervised MRI Denoising",
        ICLR 2025, arXiv:2505.05631 (Corruption2Self).
Idea    The V volumes of a scan are rotated to their principal components, which gathers what they
        share. One small network learns E[clean component | noisy components] by removing noise
        that was added on purpose, drawn with the scan's own spatial correlation.
Here    sigma = 1 after `scaling`, target level sigma_g = 0. The network restores one component at
        a time, told its signal variance and shown the leading components as guides, so the same
        weights serve any number of volumes and components.
Differs Corruption2Self denoises one image at a time, adds white noise, and weighs noise levels
        by (tau² + sigma²)^alpha. Here the whole series is one image, the added noise has the
        measured covariance (with white noise on correlated noise the minimiser is a wrong
        filter), and the weight is the inverse variance of the target.

Symbols, in units of the scan's noise (sigma = 1):
    x, x_t   noisy components and x + tau z;  s_t² = 1 + tau²
    ev       signal variance of a component: its eigenvalue minus 1
"""

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from .. import noise as noise_model
from ..noise import ADDED, NoiseModel, principal_components
from ..run import Run, State
from ..series import InputError, Series
from ..slices import Batch, draw, map_slices
from ..trainer import Network, Training, load_weights, named, train
from ..unet import UNet, UNetSettings, weights_from

IMAGES_AT_ONCE = 4  # components of a slice per pass: more is slower, the caches overflow


@dataclass(frozen=True)
class Joint:
    """The joint method; its fields are its settings."""

    steps: int = 400  # training steps
    patches: int = 2  # per step
    components: int = 4  # restored per patch and step
    patch: int = 64  # edge of a patch, voxels
    guides: int = 4  # leading components shown beside the one to restore
    channels: int = 32  # of the U-Net at full resolution
    multipliers: tuple[int, ...] = (1, 2, 2)  # of the U-Net's levels
    tau_min: float = 0.05  # added noise, units of sigma
    tau_max: float = 1.05  # about sigma itself
    least_signal: float = 0.03  # components with less signal variance are set to their mean
    noise: str = "measured"  # "white" ignores the measured correlation

    name: ClassVar[str] = "joint"
    paper: ClassVar[str] = "quell; loss of Tu et al. 2025, arXiv:2505.05631"
    needs: ClassVar[str] = "one image or more of one anatomy; 12 or more to be at its best"
    units: ClassVar[str] = "sigma"
    takes_one_image: ClassVar[bool] = True
    summary: ClassVar[str] = "one network over all volumes, trained with the scan's own noise"
    presets: ClassVar[dict[str, dict[str, int]]] = {
        "fast":    {"steps": 150, "channels": 32},
        "default": {"steps": 400, "channels": 32},
        "best":    {"steps": 3000, "channels": 48},
    }  # fmt: skip

    @property
    def assumes_white(self) -> bool:
        """Whether the noise that is added is white, whatever the scan's."""
        return self.noise == "white"

    def __post_init__(self) -> None:
        """Raise InputError (status 2) for settings that no network or noise can have."""
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name == "guides" else 1
            if field.type is int and value < least:
                raise InputError(f"{field.name}={value} is too small; give {least} or more", 2)
        if self.channels % 8:
            raise InputError(f"channels={self.channels} does not fit; give a multiple of 8", 2)
        if not self.multipliers or min(self.multipliers) < 1:
            raise InputError("a multiplier is below 1, or none is there; give 1,2,2 or so", 2)
        if not 0 < self.tau_min <= self.tau_max:
            raise InputError("tau_min must be above 0 and at most tau_max; correct them", 2)
        if self.least_signal < 0:
            raise InputError(f"least_signal={self.least_signal} is too small; give 0 or more", 2)
        if self.noise not in ADDED:
            raise InputError(f"noise={self.noise} is not known; choose from {', '.join(ADDED)}", 2)

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """Learn rotation and network from one scan, sigma = 1 units."""
        (scan,), (noise,) = scans, noises  # components of another scan mean something else
        rotation = self.rotation(scan)
        space = Components(rotation, self.guides)
        filter_ = noise.to_add(self.noise).in_plane_filter((self.patch, self.patch))
        net = self.network(run.rng("network"))
        weights = train(
            net,
            lambda rng: draw(scan.data, scan.where, self.patches, self.patch, rng),
            lambda net, batch, rng: self.loss(net, batch, space, filter_, rng),
            Training(self.steps),
            run,
            as_state=lambda weights: rotation | named("network", weights),
        )
        return rotation | named("network", weights)

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """One pass of every slice at tau = 0; (X, Y, Z, V)."""
        net = self.network(run.rng("network")).to(run.device)
        load_weights(net, state, "network.")
        space = Components(state, self.guides)
        return map_slices(lambda y: self.restore(net, y, space), scan.data, run)

    def rotation(self, scan: Series) -> State:
        """The components that hold signal: mean (V,), rotation (V, K), signal variance (K,)."""
        mean, values, vectors = principal_components(scan.data[scan.where])
        ev = values - 1.0
        K = max(1, int((ev > self.least_signal).sum()))
        return {
            "mean": torch.from_numpy(mean),
            "rotation": torch.from_numpy(np.ascontiguousarray(vectors[:, :K], dtype=np.float32)),
            "signal_variance": torch.from_numpy(np.maximum(ev[:K], 1e-3).astype(np.float32)),
        }

    def network(self, rng: torch.Generator) -> UNet:
        """The U-Net F, its weights drawn from `rng`."""
        with weights_from(rng):
            settings = UNetSettings(self.channels, self.multipliers)
            return UNet(1 + self.guides, 1, n_condition=2, settings=settings)

    def loss(
        self,
        net: Network,
        batch: Batch,
        space: "Components",
        filter_: Tensor,
        rng: torch.Generator,
    ) -> Tensor:
        """‖γ h(x_t) + δ x_t − x‖² / γ, which is γ ‖h(x_t) − (x − z/τ)‖², in the mask."""
        x = space.rotate(batch.y)  # (B, K, H, W)
        B, K = x.shape[:2]
        tau = self._levels(B, rng).to(x.device)[:, None, None, None]
        z = noise_model.draw(filter_.to(x.device), tuple(x.shape), rng)
        x_t, s_t, target = x + tau * z, (1 + tau**2).sqrt(), x - z / tau
        gamma = (tau / s_t) ** 2  # γ = τ²/s_t², δ = 1/s_t² (Tu et al. 2025 with sigma_g = 0)
        k = torch.stack([torch.randperm(K, generator=rng)[: self.components] for _ in range(B)])
        i = torch.arange(B)[:, None].expand_as(k)
        i, k = i.reshape(-1).to(x.device), k.reshape(-1).to(x.device)
        h = estimate(net, x_t, s_t[:, 0, 0, 0], i, k, space)
        weight = gamma[i, 0] * batch.mask[i]
        return (weight * (h - target[i, k]) ** 2).sum() / batch.mask[i].sum()

    def restore(self, net: Network, y: Tensor, space: "Components") -> Tensor:
        """Clean volumes of one slice, y (1, V, H, W) -> (1, V, H, W)."""
        x = space.rotate(y)
        s_t = torch.ones(1, device=y.device)
        parts = torch.arange(x.shape[1], device=y.device).split(IMAGES_AT_ONCE)
        h = [estimate(net, x, s_t, torch.zeros_like(k), k, space) for k in parts]
        return space.rotate_back(torch.cat(h)[None])

    def _levels(self, n: int, rng: torch.Generator) -> Tensor:
        """n values of tau, uniform, one in each n-th of the range."""
        u = (torch.arange(n) + torch.rand(n, generator=rng)) / n
        return self.tau_min + (self.tau_max - self.tau_min) * u


class Components:
    """The rotation between volumes and components, and which components guide."""

    def __init__(self, state: State, guides: int) -> None:
        self.mean, self.U, self.ev = (
            state[name] for name in ("mean", "rotation", "signal_variance")
        )
        self.guides = guides

    def rotate(self, y: Tensor) -> Tensor:
        """(B, V, H, W) -> (B, K, H, W)."""
        y = y - self.mean.to(y.device)[:, None, None]
        return torch.einsum("bvhw,vk->bkhw", y, self.U.to(y.device))

    def rotate_back(self, x: Tensor) -> Tensor:
        """(B, K, H, W) -> (B, V, H, W); components left out stay at their mean."""
        y = torch.einsum("bkhw,vk->bvhw", x, self.U.to(x.device))
        return y + self.mean.to(x.device)[:, None, None]


def estimate(
    net: Network, x_t: Tensor, s_t: Tensor, i: Tensor, k: Tensor, space: Components
) -> Tensor:
    """h(x_t): component k[n] of patch i[n], (N, H, W).

    x_t  (B, K, H, W)
    s_t  (B,)  noise level of each patch

    h = w x_t + c F(x_t / sqrt(ev + s_t²)): w, c make F start as the global Wiener filter
    (F = 0) and keep its output near unit variance.
    """
    ev, s2 = space.ev.to(x_t.device), (s_t**2)[:, None]
    scaled = x_t / (ev + s2).sqrt()[:, :, None, None]
    is_self = torch.arange(space.guides, device=x_t.device) == k[:, None]  # (N, guides)
    guides = x_t.new_zeros(len(k), space.guides, *x_t.shape[2:])
    there = min(space.guides, x_t.shape[1])
    guides[:, :there] = scaled[i, :there] * ~is_self[:, :there, None, None]
    image = torch.cat([scaled[i, k][:, None], guides], dim=1)
    ev, s2 = ev[k], s2[i, 0]
    F = net(image, torch.stack([s2.log() / 2, ev.log() / 2], dim=1))[:, 0]
    w, c = ev / (ev + s2), (ev * s2 / (ev + s2)).sqrt()
    return w[:, None, None] * x_t[i, k] + c[:, None, None] * F
