"""UNSURE: SURE without the noise level, which is found while the network learns.

Paper   Tachella, Davies, Jacques, "UNSURE: self-supervised learning with unknown noise level and
        Stein's unbiased risk estimate", ICLR 2025, arXiv:2409.01985.
Idea    Of all denoisers take those whose divergence is 0, and there is no need to know σ:
            min over f of ‖f(y) - y‖²   where E tr(J Σ) = 0
            = min over f, max over η of ‖f(y) - y‖² + 2 η E tr(J Σ),
        SURE with the multiplier η in the place of σ². The answer is f(y) = y + η Σ ∇log p(y) with
        η = M / E‖Σ ∇log p(y)‖²: SURE's answer, had the noise variance been η.
Here    Every volume is an image of its own. Σ is the scan's correlation without its size; η is
        found in units of the noise model's σ², and √η kept as "noise level found".
        η is never below σ², and as far above it as the signal is rough: a signal that is white
        can't be told from noise, so all of it goes. As with a blind spot, details are lost.
Differs The paper has white noise: noise="white". η climbs with the optimiser that trains the
        network, its gradient reversed; the paper's gradient ascent has momentum and a fixed rate.
        The network and its training are those of quell's Noise2Void; it starts as the mean.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..divergence import kept_noise
from ..images import STOPS, Images, filters, learn, restored
from ..noise import ADDED, NoiseModel, draw_like
from ..predictor import network
from ..run import Run, State
from ..schedule import like
from ..series import Series
from ..settings import check_settings
from ..slices import Batch
from ..trainer import Network, load_weights


@dataclass(frozen=True)
class Unsure:
    """UNSURE; its fields are its settings."""

    noise: str = "measured"  # what the noise is like but for its size; "white": the paper
    pace: float = 2.0  # of ln η over that of other weights; at 4 it overshoots before it settles
    steps: int = 500  # of training
    channels: int = 32  # of the U-Net at full resolution
    patches: int = 8  # per step
    patch: int = 64  # edge of a patch, voxels
    images_at_once: int = 8  # slices of one pass
    stop: str = "never"  # η moves, so the held-out loss is no error; or "held-out"

    name: ClassVar[str] = "unsure"
    paper: ClassVar[str] = "Tachella et al. 2025, arXiv:2409.01985"
    needs: ClassVar[str] = "one image or more; signal as rough as the noise goes with it"
    units: ClassVar[str] = "sigma"
    summary: ClassVar[str] = "one image, by SURE that finds the noise level itself (UNSURE)"
    learns_many: ClassVar[bool] = True  # one network may learn from many scans
    takes_one_image: ClassVar[bool] = True
    takes_contrasts: ClassVar[bool] = True
    after_learning: ClassVar[tuple[str, ...]] = ("images_at_once",)
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "fast":    {"steps": 250},
        "default": {},
        "paper":   {"noise": "white", "steps": 10_000, "stop": "never"},
    }  # fmt: skip

    @property
    def assumes_white(self) -> bool:
        """Whether the noise is taken to be white, whatever it is."""
        return self.noise == "white"

    def __post_init__(self) -> None:
        check_settings(self, {"noise": ADDED, "stop": STOPS})

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """The network f and the multiplier η, from all volumes of all scans."""
        images = Images.of_all(scans)
        roots = filters(noises, self)
        net = self.network(images[0].n_beside, run)
        return learn(
            net,
            images,
            lambda f, b, rng: self.loss(f, net.height, b, images[b.scan], roots[b.scan], rng),
            self,
            run,
        )

    def loss(
        self,
        net: Network,
        height: Tensor,
        batch: Batch,
        images: Images,
        root: Tensor,
        rng: torch.Generator,
    ) -> Tensor:
        """‖f(y) − y‖² / M + 2 η tr(J Σ) / M in the mask, its gradient for η reversed.

        height  ln η over the pace
        """
        y = batch.y[:, :1]
        b = draw_like(y, root, rng)
        f_y, kept = kept_noise(lambda y: self.estimate(net, y, batch, images), y, b)
        trace, eta = batch.mean(kept), self.eta(height)
        # its value is the Lagrangian's, f descends along it and η climbs
        return (
            batch.mean((f_y - y) ** 2)
            + 2 * eta.detach() * trace
            - 2 * (eta - eta.detach()) * trace.detach()
        )

    def eta(self, height: Tensor) -> Tensor:
        """η, always above 0; 1 is the noise model's σ²."""
        return (self.pace * height).exp()

    def estimate(self, net: Network, y: Tensor, batch: Batch, images: Images) -> Tensor:
        """f(y), (B, 1, H, W); untrained it is the volume's mean."""
        mean, sd = (like(table[batch.group, 0], y) for table in (images.mean, images.sd))
        beside = batch.y[:, 1:]
        return mean + sd * net(images.standardised(torch.cat([y, beside], dim=1), batch.group))

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """One pass of every slice of every volume."""
        im = Images.of(scan)
        net = load_weights(self.network(im.n_beside, run), state, "network.").to(run.device)
        run.keep("noise level found", self.eta(net.height.detach()).sqrt().cpu().numpy())
        return restored(lambda b: self.estimate(net, b.y[:, :1], b, im), im, self, run)

    def network(self, n_beside: int, run: Run) -> "WithMultiplier":
        """The U-Net, untrained, and η = 1."""
        return WithMultiplier(network("lean", self.channels, 1 + n_beside, 0, 2, run, "network"))


class WithMultiplier(nn.Module):
    """A network and the multiplier that is learned with it.

    height  ln η over the pace; 0 to begin with
    """

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet, self.height = unet, nn.Parameter(torch.zeros(()))

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = self.unet(image)
        return result
