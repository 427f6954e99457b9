"""DDM²: a diffusion model of the scan itself, entered at the state that is as noisy as the scan.

Paper   Xiang, Yurt, Syed, Setsompop, Chaudhari, "DDM²: Self-supervised diffusion MRI denoising
        with generative diffusion models", ICLR 2023, arXiv:2302.03018.
Idea    I.   A network Phi predicts a volume from others like it (their noise is independent).
        II.  The residual's size says which state of a diffusion chain the noisy slice is.
        III. A network F learns to undo the chain: it sees Phi's estimate with noise on it and
             has to give the noisy slice. The chain then runs from the slice itself.
Here    Phi's neighbours lie in the same shell, nearest direction first; one scale for the series;
        noise is drawn with the scan's own correlation. F starts from the slice and Phi's
        estimate of it, weighed by their variances, and answers in one step.
Differs preset "paper" is the published method: see each setting. Its code is followed where its
        text cannot work: states are matched on √(1-ᾱ_t) (Eq. 5 prints √β_t, at most 0.1), and the
        noise of stage III is scaled to its level. b=0 volumes without partners pass unchanged.

Symbols
    X, Y       noisy slice and Phi's estimate of it, [-1, 1]
    s_t, σ_t   √ᾱ_t and √(1-ᾱ_t);  m  the matched state
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from .. import noise as noise_model
from ..chains import Chain, draw_images, keep_distances, keep_spread, walk_from_states
from ..consistency import consistent, keep_means
from ..intensities import PER, Intensities
from ..matching import MATCHINGS, calibrate, match, match_variance
from ..noise import NoiseModel
from ..predictor import AS_PUBLISHED, NETWORKS, Predictor, VolumePredictor
from ..run import Run, State, onto
from ..sampling import RULES, Sampler
from ..schedule import Schedule, like, reverse_warmup
from ..series import NEIGHBOURS, InputError, Series, prior_volumes, shells
from ..settings import check_settings
from ..slices import Batch, draw, map_images
from ..trainer import Network, Training, as_used, load_weights, named, train

NOISES = ("measured", "shuffled", "gaussian")
TARGETS = ("noisy", "stage-1")  # of stage III; "noisy" is what the paper calls J-invariance
STARTS = ("consistent", "slice")
OUTPUTS = ("chain", "one-step", "start", "stage-1")


@dataclass(frozen=True)
class Ddm2:
    """DDM²; its fields are its settings."""

    priors: int = 12  # stage I: other volumes that Phi sees
    neighbours: str = "directions"  # ... "acquisition": the paper's, in file order
    stage1_steps: int = 300
    matching: str = "residual"  # stage II: "sqrt-beta" is Eq. 5 as printed; "half": t = T/2
    start: str = "consistent"  # of the chain; "slice": X itself, the paper's
    least_state: int = 2  # of a matched state: σ_0 = 0 would be divided by
    steps: int = 300  # stage III
    noise: str = "measured"  # "shuffled": pixels of the residual, the paper's
    target: str = "noisy"
    levels: float = 1.5  # steps that are learned, in units of the largest m; 0: all of the chain
    output: str = "one-step"  # x0_hat at once; "chain", the paper's, costs accuracy
    rule: str = "mean"  # of the chain, one of sampling.RULES; "posterior": the paper's
    eta: float = 0.0  # of rule "ddim"
    chain: int = 4  # steps of the chain from m on; 0: every one
    flips: int = 1  # of the image that F's answer is averaged over, up to 4
    samples: int = 1  # chains that are averaged; their spread is kept
    network: str = "lean"
    channels: int = 32  # of a lean network
    dimensions: int = 2  # 3: patches as deep as wide
    patches: int = 8  # per step
    patch: int = 64  # edge of a patch, voxels
    everywhere: bool = False  # learn and match on whole slices, air included
    intensities: str = "series"
    images_at_once: int = 8  # slices of one pass

    name: ClassVar[str] = "ddm2"
    paper: ClassVar[str] = "Xiang et al. 2023, arXiv:2302.03018"
    best_volumes: ClassVar[int] = 10  # from here on; checks and sentences ask here
    needs: ClassVar[str] = f"3 volumes or more of one b-value, better {best_volumes}"
    assumes_white: ClassVar[bool] = False
    summary: ClassVar[str] = "diffusion chain entered at the scan's own noise level"
    after_learning: ClassVar[tuple[str, ...]] = (
        "start", "output", "rule", "eta", "chain", "flips", "samples", "least_state",
        "images_at_once",
    )  # what a learned model may be used with  # fmt: skip
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "fast":    {"stage1_steps": 200, "steps": 200},
        "paper":   AS_PUBLISHED | {
            "priors": 2, "stage1_steps": 10_000, "start": "slice", "noise": "shuffled",
            "levels": 0.0, "output": "chain", "rule": "posterior", "chain": 0},
    }  # fmt: skip

    def __post_init__(self) -> None:
        choices = {"neighbours": NEIGHBOURS, "matching": MATCHINGS, "noise": NOISES,
                   "target": TARGETS, "start": STARTS, "output": OUTPUTS, "rule": RULES,
                   "network": NETWORKS, "intensities": PER, "dimensions": (2, 3),
                   "flips": (1, 2, 4)}  # fmt: skip
        check_settings(self, choices, may_be_zero=("levels", "chain", "eta"))
        if 0 < self.levels < 1:
            raise InputError(f"levels={self.levels} leaves the matched states out; give 0 or 1", 2)
        if self.least_state > 1000:
            raise InputError(f"least_state={self.least_state} is too large; give 1000 or less", 2)

    @property
    def units(self) -> str:
        """Noise 1 everywhere, or as published: the scanner's own."""
        return "scanner" if self.intensities == "volume-maximum" else "sigma"

    @property
    def draws_samples(self) -> bool:
        """Whether several random chains are drawn, so that there is a spread."""
        is_random = self.rule in ("posterior", "beta") or (self.rule == "ddim" and self.eta > 0)
        return self.samples > 1 and self.output == "chain" and is_random

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """Stages I, II and III on one scan."""
        (scan,), (noise,) = scans, noises  # Phi's volumes mean something in their own scan only
        groups, where = prior_volumes(scan, self.priors, self.neighbours), self.where(scan)
        range_ = Intensities.of(scan, where, groups[:, 0], self.intensities)
        X = range_.apply(scan.data)
        state = {"volumes": torch.from_numpy(groups), "top": torch.from_numpy(range_.top)}
        clean = X[where][:, groups[:, 0]]
        moments = float(clean.mean()), float(clean.std())
        weights = train(
            VolumePredictor.of(self, groups.shape[1] - 1, run, *moments),
            lambda rng: draw(X, where, self.patches, self.patch, rng, groups, self.dimensions),
            lambda Phi, batch, rng: batch.mean((Phi(batch.y[:, 1:]) - batch.y[:, :1]) ** 2),
            Training.of(self.network, self.stage1_steps),
            run,
            "stage I",
        )
        state |= named("Phi", weights)
        Y = self.stage1(X, where, state, run)

        level = range_.noise_of(scan, noise.sigma, groups[:, 0])
        schedule = reverse_warmup()
        m = match(schedule, X[..., groups[:, 0]], Y, where, self.matching, level)
        if n := int((m < self.least_state).sum()):
            run.voice.say(
                f"{n} slices hold almost no noise, or could not be matched; "
                f"state {self.least_state} is taken"
            )
        state["matched"] = torch.from_numpy(np.maximum(self.for_images(m), self.least_state))

        both = np.concatenate([X, Y], axis=3)
        pairs = np.stack([groups[:, 0], X.shape[3] + np.arange(len(groups))], axis=1)
        root = noise.in_plane_filter((min(self.patch, X.shape[0]), min(self.patch, X.shape[1])))
        weights = train(
            Predictor.of(self, run, *moments),
            lambda rng: draw(both, where, self.patches, self.patch, rng, pairs, self.dimensions),
            lambda F, batch, rng: self.loss(F, batch, state["matched"], schedule, root, rng),
            Training.of(self.network, self.steps),
            run,
            "stage III",
            lambda weights: state | named("F", weights),
        )
        return state | named("F", weights)

    def stage1(self, X: np.ndarray, where: np.ndarray, state: State, run: Run) -> np.ndarray:
        """Phi's estimate of every volume it can predict, (X, Y, Z, G)."""
        groups = state["volumes"].numpy()
        Phi = VolumePredictor.of(self, groups.shape[1] - 1, run)
        load_weights(Phi, state, "Phi.").to(run.device)
        forward = as_used(Phi, self.network, run.device)
        return map_images(
            lambda batch: forward(batch.y[:, 1:]),
            X, where, groups, run, self.images_at_once, "stage I", self.dimensions,
        )  # fmt: skip

    def for_images(self, m: np.ndarray) -> np.ndarray:
        """The states of slices (G, Z) as those of what the network is shown: in 3-D (G, 1)."""
        return m if self.dimensions == 2 else np.median(m, axis=1, keepdims=True).astype(int)

    def loss(
        self, F: Network, batch: Batch, m: Tensor, schedule: Schedule, root: Tensor,
        rng: torch.Generator,
    ) -> Tensor:  # fmt: skip
        """‖F(s Y' + √(1-s²) ε', s) − X‖², the paper's Eq. 7 with its noise scaled."""
        X, Y = batch.y[:, :1], batch.y[:, 1:]
        Y, eps = calibrate(X, Y, schedule, m[batch.group, batch.z])
        if self.noise == "shuffled":
            eps = noise_model.shuffled(eps, rng)
        elif self.noise == "gaussian":
            eps = onto(torch.randn(X.shape, generator=rng), X.device)
        else:
            eps = noise_model.draw_like(X, root, rng)
        last = schedule.T if not self.levels else min(schedule.T, int(self.levels * int(m.max())))
        n = 1 if self.everywhere else len(X)  # the released code: one step for the whole batch
        t = torch.randint(1, last + 1, (n,), generator=rng).expand(len(X))
        s = onto(schedule.between(t, rng), X.device)
        x_t = like(s, X) * Y + like((1 - s**2).sqrt(), X) * eps
        aim = X if self.target == "noisy" else Y
        return batch.mean((F(x_t, s) - aim) ** 2)

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """The chain from every slice's matched state; volumes without partners pass unchanged."""
        volumes, range_ = state["volumes"][:, 0].numpy(), Intensities(state["top"].numpy())
        X, where, m = range_.apply(scan.data), self.where(scan), state["matched"]
        noisy, restored = X[..., volumes], X[..., volumes]
        run.keep("passed through", np.setdiff1d(np.arange(scan.n_volumes), volumes))
        if self.output == "stage-1":
            restored = self.stage1(X, where, state, run)
        elif self.start == "consistent":
            sigma = noise.sigma[..., None] * (2 / range_.top[volumes])
            estimate = self.stage1(X, where, state, run)
            restored, variance = consistent(noisy, estimate, sigma, shells(scan)[volumes])
            m = torch.from_numpy(self.for_images(match_variance(reverse_warmup(), variance, where)))
            m = m.clamp(min=self.least_state)
        run.keep("matched states", m.numpy())
        if self.output in ("chain", "one-step"):
            level = range_.noise_of(scan, noise.sigma, volumes)
            restored = self.chain_from(restored, noisy, level, where, m, state, run)
        if self.intensities == "series":
            restored = keep_means(restored, noisy, where)
        return range_.put_back(scan.data, restored, volumes)

    def chain_from(
        self, x: np.ndarray, noisy: np.ndarray, level: np.ndarray, where: np.ndarray, m: Tensor,
        state: State, run: Run,
    ) -> np.ndarray:  # fmt: skip
        """x0_hat at the end of the chain of every slice, (X, Y, Z, G), averaged over samples.

        x, noisy  (X, Y, Z, G)  where the chains start, and the input
        level     (G,)          of the input's noise
        """
        chain = self.chain_of(state, (float(x.min()), float(x.max())), run)
        n_steps = {"one-step": 1}.get(self.output, self.chain) or chain.sampler.schedule.T
        restored, distances, spread = walk_from_states(
            chain, x, noisy, level, where, m, n_steps, self.start == "consistent", run,
            self.images_at_once, self.dimensions, self.samples,
        )  # fmt: skip
        volumes = state["volumes"][:, 0].numpy()
        keep_distances(distances, volumes, run)
        if spread is not None and self.draws_samples:
            keep_spread(spread, volumes, state["top"].numpy(), run)
        return restored

    def sample(
        self, state: State, shape: tuple[int, ...], n: int, steps: int, run: Run
    ) -> np.ndarray:
        """n images (X, Y, n) in [-1, 1] by ancestral sampling from noise alone.

        Raises InputError unless the chain was learned whole, in 2-D.
        """
        if self.levels or self.dimensions != 2:
            raise InputError(
                "this model has not learned the whole chain in 2-D, so it can't start from noise; "
                "train one with --set levels=0"
            )
        ancestral = replace(self, rule="posterior")
        return draw_images(ancestral.chain_of(state, (-1.0, 1.0), run), shape, n, steps, run)

    def where(self, scan: Series) -> np.ndarray:
        """(X, Y, Z) bool: where to learn and match."""
        return np.ones_like(scan.where) if self.everywhere else scan.where

    def predictor(self, state: State, run: Run) -> Predictor:
        """F with its learned weights."""
        return load_weights(Predictor.of(self, run), state, "F.").to(run.device)

    def chain_of(self, state: State, limits: tuple[float, float], run: Run) -> Chain:
        """The chain that F walks."""
        sampler = Sampler(reverse_warmup(), self.rule, self.eta)
        F = as_used(self.predictor(state, run), self.network, run.device)
        return Chain(F, sampler, limits, self.flips)
