"""Implicit prior: what a blind denoiser knows of images, and the way from an image up to it.

Paper   Kadkhodaie, Simoncelli, "Stochastic solutions for linear inverse problems using the prior
        implicit in a denoiser", NeurIPS 2021, arXiv:2007.13640.
Idea    The best denoiser of y is y + f(y) with f(y) = σ² ∇log p(y), p the density of images with
        noise σ (Miyasawa 1961). So f points to more likely images, its length says how much noise
        is left, and steps along it while σ falls end on an image of the prior.
Here    sigma = 1 units. A bias-free network is trained on the scan with noise of random levels
        added, and learns E[x | z] from R2R's target y - Z / τ, whose noise is independent of that
        of z = y + τ Z. Levels below the scan's it has never seen: they are left to homogeneity.
Differs The paper has clean images to learn from. Noise is correlated as the scan's: then f is
        σ² Σ ∇log p, and what is added on the way has covariance Σ, too.

Symbols of the paper: h_t, d_t, σ_t, γ_t, β; here t is a step of the ascent.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from .bias_free import BiasFree
from .images import STOPS, Images, draw_from, filters, parted
from .noise import ADDED, NoiseModel, draw_like
from .run import Run, State
from .schedule import like
from .series import InputError
from .settings import check_settings
from .slices import Batch, map_images
from .trainer import Network, Training, load_weights, named, train


@dataclass(frozen=True)
class Ascent:
    """What methods that end with the ascent have in common; its fields are settings."""

    tau_max: float = 2.0  # noise added in training is uniform up to here, units of the scan's
    h0: float = 0.1  # share of the first step; the paper's 0.01 takes three times as many
    beta: float = 1.0  # 1: no noise is put back; 0.01: the paper's, for samples
    sigma_end: float = 0.5  # where it stops, units of the scan's noise; less is less like the scan
    most_steps: int = 100  # whatever is left
    noise: str = "measured"  # what added noise is like; "white": the paper
    steps: int = 500  # of training, of each network
    channels: int = 32  # of each at full resolution
    patches: int = 8  # per step
    patch: int = 64  # edge of a patch, voxels
    images_at_once: int = 8  # slices of one pass
    stop: str = "held-out"  # when held-out voxels get no better; "never": after all steps

    needs: ClassVar[str] = "one image or more; each volume is restored by itself"
    units: ClassVar[str] = "sigma"
    learns_many: ClassVar[bool] = True  # the same networks may learn from many scans
    takes_one_image: ClassVar[bool] = True
    after_learning: ClassVar[tuple[str, ...]] = (
        "h0", "beta", "sigma_end", "most_steps", "images_at_once",
    )  # fmt: skip
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "fast":    {"steps": 250},
        "default": {},
        "paper":   {"noise": "white", "h0": 0.01, "beta": 0.01, "sigma_end": 0.2,
                    "most_steps": 1000, "patches": 128, "patch": 40, "steps": 10_000,
                    "stop": "never"},
    }  # fmt: skip

    @property
    def assumes_white(self) -> bool:
        """Whether the noise that is added is white, whatever the scan's."""
        return self.noise == "white"

    def __post_init__(self) -> None:
        check_settings(self, {"noise": ADDED, "stop": STOPS}, may_be_zero=("beta",))
        for name in ("h0", "beta"):
            if getattr(self, name) > 1:
                raise InputError(f"{name}={getattr(self, name)} is too large; give 1 or less", 2)


def learn_prior(
    method: Ascent,
    images: list[Images],
    noises: list[NoiseModel],
    run: Run,
    first: State | None = None,
) -> State:
    """The blind denoiser of all volumes of all scans, and what was learned first."""
    known = first or {}
    roots = filters(noises, method)

    def loss(f: Network, batch: Batch, rng: torch.Generator) -> Tensor:
        return blind_loss(f, batch, roots[batch.scan], method.tau_max, rng)

    parts, judge = parted(images, method, loss, run)
    weights = train(
        BiasFree.of(method.channels, run),
        lambda rng: draw_from(parts, method.patches, method.patch, rng),
        loss,
        Training(method.steps, parts=run.parts),
        run,
        "prior",
        lambda weights: known | named("prior", weights),
        judge,
    )
    return known | named("prior", weights)


def blind_loss(
    f: Network, batch: Batch, root: Tensor, tau_max: float, rng: torch.Generator
) -> Tensor:
    """γ ‖z + f(z) − (y − Z / τ)‖², γ = τ² / (1 + τ²), in the mask, but for the part without f.

    tau_max  added noise is uniform up to here, in units of the scan's

    γ is one over the variance of the target's noise. The part without f is that of 1 / τ².
    """
    y = batch.y[:, :1]
    n = len(y)
    tau = tau_max * (torch.arange(n) + torch.rand(n, generator=rng)) / n
    tau, Z = like(tau, y), draw_like(y, root, rng)
    z = y + tau * Z
    r = z + f(z) - y
    return batch.mean((tau**2 * r**2 + 2 * tau * r * Z) / (1 + tau**2))


def climb(
    method: Ascent,
    start: np.ndarray,
    images: Images,
    noise: NoiseModel,
    state: State,
    run: Run,
) -> np.ndarray:
    """The ascent of every slice of every volume from `start`, (X, Y, Z, V); keeps its steps."""
    net = BiasFree.of(method.channels, run)
    load_weights(net, state, "prior.").to(run.device)
    root = noise.to_add(method.noise).in_plane_filter(start.shape[:2])
    steps = np.zeros(start.shape[:1:-1], dtype=int)  # (V, Z)

    def restore(batch: Batch) -> Tensor:
        x, n = ascend(net, batch.y, images.fresh_noise(batch, root, run), method)
        steps[batch.group.numpy(), batch.z.numpy()] = n.numpy()
        return x

    result = map_images(
        restore, start, images.where, images.groups, run, method.images_at_once, "climbing"
    )
    run.keep("stopping steps", steps)
    return result


def ascend(
    f: Callable[[Tensor], Tensor], y: Tensor, fresh: Iterator[Tensor], method: Ascent
) -> tuple[Tensor, Tensor]:
    """The images (B, 1, H, W) where the ascent from y ends, and after how many steps (B,).

    f      what the denoiser adds to an image, (B, 1, H, W)
    fresh  noise of variance 1 like that of y, again and again

    An image stops where σ_t < sigma_end, and is then given to the denoiser once more.
    """
    n_steps = torch.zeros(len(y), dtype=torch.long)
    for t in range(1, method.most_steps + 1):
        h = method.h0 * t / (1 + method.h0 * (t - 1))
        d = f(y)
        sigma = d.flatten(1).square().mean(dim=1).sqrt()
        goes_on = (sigma >= method.sigma_end).cpu()
        if not bool(goes_on.any()):
            break
        step = h * d
        if method.beta < 1:
            gamma = ((1 - method.beta * h) ** 2 - (1 - h) ** 2) ** 0.5 * sigma
            step = step + like(gamma, y) * next(fresh)
        y = torch.where(like(goes_on, y) > 0, y + step, y)
        n_steps += goes_on
    return y + f(y), n_steps
