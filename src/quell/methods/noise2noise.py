"""Noise2Noise across volumes: a network that learns one noisy volume from another one.

Paper   Lehtinen et al., "Noise2Noise", ICML 2018, arXiv:1803.04189; between volumes of a diffusion
        scan as in the comparisons of DDM² (Xiang et al. 2023) and Di-Fusion (Wu et al. 2025).
Idea    x = clean + n and x' = clean + n' with independent noise: E[x | x'] = E[clean | x'], so a
        network that predicts x from x' removes the noise of x'. It is then given x itself.
Here    x' is the volume of nearest direction in the shell, or another of the nearest few. With
        neighbours = "repeats" it is the same volume acquired again: the statement then holds as
        it stands, and volumes that were not repeated pass unchanged.
Differs Two directions do not share one clean image: what differs between them is lost as if it
        were noise. b=0 volumes without partners pass unchanged.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..consistency import keep_means
from ..intensities import Intensities
from ..noise import NoiseModel
from ..predictor import network
from ..run import Run, State
from ..series import NEIGHBOURS, Series, prior_volumes
from ..settings import check_settings
from ..slices import Batch, draw, map_images
from ..trainer import Network, Training, load_weights, named, train


@dataclass(frozen=True)
class Noise2Noise:
    """Noise2Noise across volumes; its fields are its settings."""

    partners: int = 4  # x' is one of so many
    neighbours: str = "directions"  # "acquisition": beside it in the file; "repeats": of itself
    steps: int = 400  # of training
    channels: int = 32  # of the U-Net at full resolution
    patches: int = 8  # per step
    patch: int = 64  # edge of a patch, voxels
    images_at_once: int = 8  # slices of one pass

    name: ClassVar[str] = "noise2noise"
    paper: ClassVar[str] = "Lehtinen et al. 2018, arXiv:1803.04189"
    needs: ClassVar[str] = (
        "2 volumes or more of one b-value, of nearly equal contrast; the same one acquired twice "
        "with neighbours=repeats"
    )
    units: ClassVar[str] = "sigma"
    assumes_white: ClassVar[bool] = False
    summary: ClassVar[str] = "one volume learned from another of its shell"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"default": {}, "fast": {"steps": 200}}

    def __post_init__(self) -> None:
        check_settings(self, {"neighbours": NEIGHBOURS})

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """The network, from pairs of volumes of one scan."""
        (scan,) = scans
        groups = prior_volumes(scan, self.partners, self.neighbours)
        range_ = Intensities.of(scan, scan.where, groups[:, 0], "series")
        X = range_.apply(scan.data)
        pairs = np.concatenate([groups[:, [0, k]] for k in range(1, groups.shape[1])])
        net = network("lean", self.channels, 1, 0, 2, run, "network")
        state = {"volumes": torch.from_numpy(groups), "top": torch.from_numpy(range_.top)}
        weights = train(
            net,
            lambda rng: draw(X, scan.where, self.patches, self.patch, rng, pairs),
            lambda net, b, rng: self.loss(net, b),
            Training(self.steps),
            run,
            as_state=lambda weights: state | named("network", weights),
        )
        return state | named("network", weights)

    def loss(self, net: Network, batch: Batch) -> Tensor:
        """‖h(x′) − x‖² in the mask."""
        x, partner = batch.y[:, :1], batch.y[:, 1:]
        return batch.mean((self.estimate(net, partner) - x) ** 2)

    def estimate(self, net: Network, x: Tensor) -> Tensor:
        """h(x), (B, 1, H, W): the network gives what to add."""
        return x + net(x)

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """One pass of every slice of every volume that has partners, (X, Y, Z, V)."""
        volumes, range_ = state["volumes"][:, 0].numpy(), Intensities(state["top"].numpy())
        run.keep("passed through", np.setdiff1d(np.arange(scan.n_volumes), volumes))
        net = network("lean", self.channels, 1, 0, 2, run, "network")
        load_weights(net, state, "network.").to(run.device)
        X = range_.apply(scan.data)
        restored = map_images(
            lambda b: self.estimate(net, b.y),
            X, scan.where, volumes[:, None], run, self.images_at_once,
        )  # fmt: skip
        restored = keep_means(restored, X[..., volumes], scan.where)
        return range_.put_back(scan.data, restored, volumes)
