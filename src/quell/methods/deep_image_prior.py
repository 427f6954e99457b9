"""Deep Image Prior: a network fits an image before it fits the noise; it is stopped in between.

Paper   Ulyanov, Vedaldi, Lempitsky, "Deep image prior", CVPR 2018, arXiv:1711.10925.
Idea    A network f of random weights θ and a fixed random input z is fitted to the noisy image,
            min_θ ‖f_θ(z) − y‖²,
        and to nothing else. Convolutions find an image sooner than noise, so that what f says on
        the way is denoised; in the end it is y. When to stop is the whole method.
Here    Never by the truth. "discrepancy": as soon as the residual is as large as the noise, which
        quell knows, ‖f − y‖² ≤ M σ² over the M values in the mask (Morozov). "held-out": some of
        the values are left out of the fit, and the result is the one that says them best. One
        network a slice; its channels are volumes. Nothing is learned in `fit`: all work is done
        when a scan is denoised.
Differs A slice starts where the one before it ended, with the same z: it is fitted in a third of
        the steps, and better, as it begins with an image of the anatomy next to it. Kernels are
        trained by Muon, in a tenth of Adam's steps. z and its jitter are in a ratio of 10 to 1,
        where the paper's are of equal size, for the same reason. "paper": a new network for every
        volume of every slice, Adam, the published widths, input, jitter, length and average; but
        the U-Net is quell's, whose skip connections are as wide as its levels.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from math import ceil
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..consistency import keep_means
from ..images import Images
from ..muon import Muon
from ..noise import NoiseModel
from ..run import Run, State
from ..series import InputError, Series
from ..settings import check_settings
from ..slices import map_slices
from ..trainer import fastest
from ..unet import UNet, UNetSettings, weights_from


class Discrepancy:
    """Done as soon as the residual is as large as the noise: ‖x̂ − y‖² ≤ M σ², and σ = 1.

    y     (1, V, H, W)
    mask  (H, W)
    """

    def __init__(self, y: Tensor, mask: Tensor, method: "DeepImagePrior", rng: torch.Generator):
        self.y, self.mask, self.fitted = y, mask, torch.ones_like(y)
        self.best, self.step = y, 0

    def is_done(self, x_hat: Tensor, step: int) -> bool:
        self.best, self.step = x_hat, step
        return bool(mean_square(x_hat - self.y, self.mask) <= 1)


class HeldOut:
    """Done when values in the mask that the fit has not seen have been said no better for long.

    y     (1, V, H, W)
    mask  (H, W)
    """

    def __init__(self, y: Tensor, mask: Tensor, method: "DeepImagePrior", rng: torch.Generator):
        self.y, self.patience, self.least = y, method.patience, torch.inf
        lot = torch.rand(y.shape, generator=rng).to(y)
        least = lot[mask.expand_as(lot) > 0].min()  # one at least
        self.left_out = (lot <= least.clamp(min=method.held_out)).to(y) * mask
        self.fitted = 1 - self.left_out
        self.best, self.step = y, 0

    def is_done(self, x_hat: Tensor, step: int) -> bool:
        error = float(mean_square(x_hat - self.y, self.left_out))
        if error < self.least:
            self.best, self.step, self.least = x_hat, step, error
        return step - self.step >= self.patience


def mean_square(difference: Tensor, weight: Tensor) -> Tensor:
    """Mean of a square, (1, V, H, W), where the weight is 1; (H, W) or as the difference."""
    weight = weight.expand_as(difference)
    return (difference**2 * weight).sum() / weight.sum().clamp(min=1)


def by_muon(net: nn.Module, rate: float) -> Callable[[], object]:
    """Muon for the kernels, Adam for all else, as in `trainer`, at a constant rate."""
    muon = Muon([p for p in net.parameters() if p.ndim > 2], weight_decay=0)
    adam = torch.optim.Adam([p for p in net.parameters() if p.ndim <= 2], rate / 10)
    return lambda: (muon.step_at(rate), adam.step())


def by_adam(net: nn.Module, rate: float) -> Callable[[], object]:
    """Adam at a constant rate."""
    return torch.optim.Adam(net.parameters(), rate).step


FEW_VOXELS = 200  # of the mask in a slice: chance would say when to stop, so all of it does
STOPS: dict[str, type[Discrepancy] | type[HeldOut]] = {
    "discrepancy": Discrepancy, "held-out": HeldOut,
}  # fmt: skip
OPTIMISERS: dict[str, Callable[[nn.Module, float], Callable[[], object]]] = {
    "muon": by_muon, "adam": by_adam,
}  # fmt: skip
# The slice whose network a slice goes on with; its own is new.
STARTS: dict[str, Callable[[int], int]] = {"previous": lambda z: 0, "random": lambda z: z}


@dataclass(frozen=True)
class DeepImagePrior:
    """Deep Image Prior; its fields are its settings."""

    stop: str = "discrepancy"  # when; "held-out" needs no noise level, but white noise
    held_out: float = 0.03  # share of the values in the mask that "held-out" leaves out of the fit
    patience: int = 40  # steps without a better one, after which "held-out" stops
    steps: int = 1000  # at most, of one slice
    start: str = "previous"  # a slice begins with the network of the one before; "random": anew
    volumes_at_once: int = 32  # channels of one network, at most
    channels: int = 32  # of the U-Net at full resolution
    multipliers: tuple[int, ...] = (1, 2, 2)  # channels of each level, in units of those
    inputs: int = 8  # channels of z
    size: float = 1.0  # z is uniform from 0 to this
    jitter: float = 0.1  # standard deviation of the noise added to z, anew every step
    average: float = 0.9  # decay of the running average of the images that f says
    optimiser: str = "muon"  # "adam": the paper's
    rate: float = 0.02  # of learning

    name: ClassVar[str] = "deep_image_prior"
    paper: ClassVar[str] = "Ulyanov et al. 2018, arXiv:1711.10925"
    needs: ClassVar[str] = (
        "one image or more, and time: every scan is fitted anew; noise of any correlation for the "
        "stop by discrepancy, though correlated noise is fitted sooner; white noise for held-out"
    )
    units: ClassVar[str] = "sigma"
    summary: ClassVar[str] = "a network fits the scan alone and is stopped before it fits the noise"
    takes_one_image: ClassVar[bool] = True
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "fast":    {"channels": 16, "steps": 400},
        "default": {},
        "paper":   {"start": "random", "volumes_at_once": 1, "channels": 128,
                    "multipliers": (1, 1, 1, 1, 1), "inputs": 32, "size": 0.1, "jitter": 1 / 30,
                    "average": 0.99, "optimiser": "adam", "rate": 0.01, "steps": 3000},
    }  # fmt: skip

    @property
    def assumes_white(self) -> bool:
        """Whether it is stopped by values that must say nothing of each other's noise."""
        return self.stop == "held-out"

    def __post_init__(self) -> None:
        choices: dict[str, Collection[str]]
        choices = {"stop": STOPS, "start": STARTS, "optimiser": OPTIMISERS}
        check_settings(self, choices, may_be_zero=("jitter", "average"))
        for share in ("held_out", "average"):
            if getattr(self, share) >= 1:
                raise InputError(f"{share}={getattr(self, share)} is too large; give below 1", 2)
        if not self.multipliers or min(self.multipliers) < 1:
            raise InputError("multipliers are whole numbers from 1 up, one a level", 2)

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """Nothing: what is learned of a slice is its result."""
        return {}

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """Every slice of every group of volumes fitted, one after the other."""
        im, taken = Images.of(scan), []
        result = np.empty(scan.data.shape, dtype=np.float32)
        n_groups = ceil(scan.n_volumes / self.volumes_at_once)
        for group in np.array_split(np.arange(scan.n_volumes), n_groups):
            result[..., group], steps = self.restore(im, group, run)
            taken.append(steps)
        run.keep("stopping steps", np.array(taken))
        return keep_means(result, scan.data, im.where)

    def restore(self, im: Images, group: np.ndarray, run: Run) -> tuple[np.ndarray, list[int]]:
        """All slices (X, Y, Z, G) of some volumes, and how many steps each took."""
        mean, sd = (t[group, 0].to(run.device)[:, None, None] for t in (im.mean, im.sd))
        first, steps, nets = int(group[0]), list[int](), dict[int, UNet]()
        shape = 1, self.inputs, *im.data.shape[:2]
        fixed = (self.size * torch.rand(shape, generator=run.rng("input"))).to(run.device)

        def restore_slice(y: Tensor) -> Tensor:
            z = len(steps)
            mask = torch.from_numpy(im.where[:, :, z].copy()).to(y)
            begins = STARTS[self.start](z)
            net = nets.get(begins) or self.network(len(group), begins, run)
            nets.clear()
            nets[begins] = net
            rng = run.rng(f"fit {first}", z)
            where = mask if mask.sum() >= FEW_VOXELS else torch.ones_like(mask)
            stop = STOPS[self.stop](y, where, self, rng)
            self.fit_slice(net, fixed, lambda F: mean + sd * F, stop, rng)
            steps.append(stop.step)
            return stop.best

        return map_slices(restore_slice, im.data[..., group], run), steps

    @torch.enable_grad()  # `map_slices` goes without
    def fit_slice(
        self,
        net: UNet,
        fixed: Tensor,
        scaled: Callable[[Tensor], Tensor],
        stop: Discrepancy | HeldOut,
        rng: torch.Generator,
    ) -> None:
        """min_θ ‖f_θ(z) − y‖² until `stop` has its image.

        fixed   (1, inputs, H, W)  z
        scaled  what turns an output of the network into an image

        A loop of its own: in `trainer` nothing is looked at on the way.
        """
        forward = fastest(net, fixed.device)
        take_step = OPTIMISERS[self.optimiser](net, self.rate)
        average = None
        for step in range(1, self.steps + 1):
            net.zero_grad(set_to_none=True)
            jitter = self.jitter * torch.randn(fixed.shape, generator=rng).to(fixed)
            f = scaled(forward(fixed + jitter))
            mean_square(f - stop.y, stop.fitted).backward()
            take_step()
            keep = min(self.average, step / (9 + step))
            average = f.detach() if average is None else torch.lerp(f.detach(), average, keep)
            if stop.is_done(average, step):
                break

    def network(self, n_out: int, z: int, run: Run) -> UNet:
        """The U-Net f, untrained."""
        with weights_from(run.rng("network", z)):
            settings = UNetSettings(self.channels, self.multipliers)
            return UNet(self.inputs, n_out, 0, settings).to(run.device)
