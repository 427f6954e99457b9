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

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from .. import noise as noise_model
from ..consistency import consistent, keep_means
from ..intensities import PER, Intensities
from ..matching import MATCHINGS, calibrate, match, match_variance
from ..noise import NoiseModel
from ..predictor import AS_PUBLISHED, NETWORKS, Predictor, network
from ..run import Run, State
from ..sampling import RULES, Chain, Sampler, even_path, keep_distances, walk_series
from ..schedule import Schedule, like, reverse_warmup
from ..series import NEIGHBOURS, InputError, Series, prior_volumes, shells
from ..settings import check_settings
from ..slices import Batch, draw, map_images
from ..trainer import Network, Training, load_weights, train

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
    needs: ClassVar[str] = "3 volumes or more of one b-value, better 10"
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
        groups, schedule = prior_volumes(scan, self.priors, self.neighbours), reverse_warmup()
        where = np.ones_like(scan.where) if self.everywhere else scan.where
        range_ = Intensities.of(scan, where, groups[:, 0], self.intensities)
        X = range_.apply(scan.data)
        clean = X[where][:, groups[:, 0]]
        centre, spread = float(clean.mean()), float(clean.std())
        state = {"volumes": torch.from_numpy(groups), "top": torch.from_numpy(range_.top)}

        Phi = network(
            self.network, self.channels, groups.shape[1] - 1, 0, self.dimensions, run, "Phi"
        )
        weights = train(
            Phi,
            lambda rng: draw(X, where, self.patches, self.patch, rng, groups, self.dimensions),
            lambda net, batch, rng: batch.mean(
                (self.predict(net, batch.y[:, 1:], centre, spread) - batch.y[:, :1]) ** 2
            ),
            self._training(self.stage1_steps),
            run,
            "stage I",
        )
        state |= {f"Phi.{name}": value for name, value in weights.items()}
        state |= {"centre": torch.tensor(centre), "spread": torch.tensor(spread)}
        Y = self.stage1(X, where, state, run)

        sigma = _level(scan, noise, range_.top[groups[:, 0]])
        m = match(schedule, X[..., groups[:, 0]], Y, where, self.matching, sigma)
        if (m < self.least_state).any():
            n = int((m < self.least_state).sum())
            run.voice.say(
                f"{n} slices hold almost no noise, or could not be matched; "
                f"state {self.least_state} is taken"
            )
        m = np.maximum(self.for_images(m), self.least_state)
        state["matched"] = torch.from_numpy(m)

        F = Predictor(
            network(self.network, self.channels, 1, 1, self.dimensions, run, "F"),
            centre, spread, self.network == "lean",
        )  # fmt: skip
        both = np.concatenate([X, Y], axis=3)
        pairs = np.stack([groups[:, 0], X.shape[3] + np.arange(len(groups))], axis=1)
        root = noise.in_plane_filter((min(self.patch, X.shape[0]), min(self.patch, X.shape[1])))
        weights = train(
            F,
            lambda rng: draw(both, where, self.patches, self.patch, rng, pairs, self.dimensions),
            lambda net, batch, rng: self.loss(net, batch, state["matched"], schedule, root, rng),
            self._training(self.steps),
            run,
            "stage III",
        )
        return state | {f"F.{name}": value for name, value in weights.items()}

    def for_images(self, m: np.ndarray) -> np.ndarray:
        """The states of slices (G, Z) as those of what the network is shown: in 3-D (G, 1)."""
        return m if self.dimensions == 2 else np.median(m, axis=1, keepdims=True).astype(int)

    def predict(self, Phi: Network, priors: Tensor, centre: float, spread: float) -> Tensor:
        """Y (B, 1, H, W) from the priors (B, n, H, W); a lean Phi corrects their mean."""
        if self.network == "published":
            return Phi(priors)
        return priors.mean(dim=1, keepdim=True) + spread * Phi((priors - centre) / spread)

    def stage1(self, X: np.ndarray, where: np.ndarray, state: State, run: Run) -> np.ndarray:
        """Phi's estimate of every volume it can predict, (X, Y, Z, G)."""
        groups = state["volumes"].numpy()
        n_priors = groups.shape[1] - 1
        Phi = network(self.network, self.channels, n_priors, 0, self.dimensions, run, "Phi")
        load_weights(Phi, state, "Phi.").to(run.device)
        centre, spread = float(state["centre"]), float(state["spread"])
        return map_images(
            lambda batch: self.predict(Phi, batch.y[:, 1:], centre, spread),
            X, where, groups, run, self.images_at_once, "stage I", self.dimensions,
        )  # fmt: skip

    def loss(
        self, F: Network, batch: Batch, m: Tensor, schedule: Schedule, root: Tensor,
        rng: torch.Generator,
    ) -> Tensor:  # fmt: skip
        """‖F(s Y' + √(1-s²) ε', s) − X‖², the paper's Eq. 7 with its noise scaled."""
        X, Y = batch.y[:, :1], batch.y[:, 1:]
        own = m[batch.group, batch.z]
        Y, eps = calibrate(X, Y, schedule, own)
        if self.noise == "shuffled":
            eps = noise_model.shuffled(eps, rng)
        elif self.noise == "gaussian":
            eps = torch.randn(X.shape, generator=rng).to(X)
        else:
            eps = noise_model.draw_like(X, root, rng)
        last = schedule.T if not self.levels else min(schedule.T, int(self.levels * int(m.max())))
        n = 1 if self.everywhere else len(X)  # the released code: one step for the whole batch
        t = torch.randint(1, last + 1, (n,), generator=rng).expand(len(X))
        s = schedule.alpha_bar.sqrt()
        u = torch.rand(len(X), generator=rng)
        s = (s[t] + u * (s[t - 1] - s[t])).float().to(X.device)
        x_t = like(s, X) * Y + like((1 - s**2).sqrt(), X) * eps
        aim = X if self.target == "noisy" else Y
        return batch.mean((F(x_t, s) - aim) ** 2)

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """The chain from every slice's matched state; volumes without partners pass unchanged."""
        groups = state["volumes"].numpy()
        where = np.ones_like(scan.where) if self.everywhere else scan.where
        range_ = Intensities(state["top"].numpy())
        X = range_.apply(scan.data)
        run.keep("passed through", np.setdiff1d(np.arange(scan.n_volumes), groups[:, 0]))
        run.keep("matched states", state["matched"].numpy())
        if self.output == "stage-1":
            restored = self.stage1(X, where, state, run)
        else:
            x, m = X[..., groups[:, 0]], state["matched"]
            if self.start == "consistent":
                sigma = noise.sigma[..., None] * (2 / range_.top[groups[:, 0]])
                estimate = self.stage1(X, where, state, run)
                x, variance = consistent(x, estimate, sigma, shells(scan)[groups[:, 0]])
                states = self.for_images(match_variance(reverse_warmup(), variance, where))
                m = torch.from_numpy(states).clamp(min=self.least_state)
                run.keep("matched states", m.numpy())
            noisy, level = X[..., groups[:, 0]], _level(scan, noise, range_.top[groups[:, 0]])
            restored = x
            if self.output != "start":
                restored = self.chain_from(x, noisy, level, where, m, state, run)
        if self.intensities == "series":
            restored = keep_means(restored, X[..., groups[:, 0]], where)
        out = scan.data.astype(np.float32)
        out[..., groups[:, 0]] = range_.undo(restored, groups[:, 0])
        return out

    def chain_from(
        self, x: np.ndarray, noisy: np.ndarray, level: np.ndarray, where: np.ndarray, m: Tensor,
        state: State, run: Run,
    ) -> np.ndarray:  # fmt: skip
        """x0_hat at the end of the chain of every slice, (X, Y, Z, G), averaged over samples.

        x, noisy  (X, Y, Z, G)  where the chains start, and the input
        level     (G,)          of the input's noise
        """
        sampler = Sampler(reverse_warmup(), self.rule, self.eta)
        limits, s = (float(x.min()), float(x.max())), sampler.schedule.alpha_bar.sqrt()
        chain = Chain(self.predictor(state, run), sampler, limits, self.flips)
        n_steps = {"one-step": 1}.get(self.output, self.chain) or sampler.schedule.T

        def start(batch: Batch, rngs: list[torch.Generator]) -> Tensor:
            # the published chain starts from X itself, though state m means s_m times the image
            is_scaled = self.start == "consistent"
            x = batch.y[:, :1]
            return x * like(s[m[batch.group, batch.z]], x) if is_scaled else x

        G, parts = x.shape[3], []
        both, pairs = (
            np.concatenate([x, noisy], axis=3),
            np.stack([np.arange(G), np.arange(G, 2 * G)], 1),
        )
        for sample in range(self.samples):
            restored, distances = walk_series(
                chain, start,
                lambda batch: [even_path(int(t), n_steps) for t in m[batch.group, batch.z]],
                lambda batch, x0_hat, rows: batch.rms(x0_hat, rows, 1)
                / torch.from_numpy(level)[batch.group[rows]].to(x0_hat),
                both, where, pairs, run, f"chain {sample}",
                self.images_at_once, dimensions=self.dimensions,
            )  # fmt: skip
            parts.append(restored)
        volumes = state["volumes"][:, 0].numpy()
        keep_distances(distances, volumes, run)
        if self.draws_samples:
            spread = np.zeros((*x.shape[:3], len(state["top"])), dtype=np.float32)
            spread[..., volumes] = np.std(parts, axis=0, ddof=1) * state["top"].numpy()[volumes] / 2
            run.keep("spread", spread)
        return np.mean(parts, axis=0)

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
        sampler = Sampler(reverse_warmup(), "posterior")
        chain = Chain(self.predictor(state, run), sampler, (-1.0, 1.0), self.flips)
        path, images = even_path(sampler.schedule.T, steps), []
        for k in range(n):
            rng = run.rng("sample", k)
            x_T = torch.randn((1, 1, *shape), generator=rng).to(run.device)
            with torch.no_grad():
                images.append(chain.run(x_T, [path], [rng])[0][0, 0].cpu().numpy())
            run.voice.progress("sampling", k + 1, n)
        return np.stack(images, axis=-1)

    def predictor(self, state: State, run: Run) -> Predictor:
        """F with its learned weights."""
        net = network(self.network, self.channels, 1, 1, self.dimensions, run, "F")
        F = Predictor(net, 0.0, 1.0, self.network == "lean")
        return load_weights(F, state, "F.").to(run.device)

    def _training(self, steps: int) -> Training:
        """Adam at 1e-4 for the published network, quell's own training for a lean one."""
        if self.network == "published":
            return Training(steps, learning_rate=1e-4, is_plain=True)
        return Training(steps)


def _level(scan: Series, noise: NoiseModel, top: np.ndarray) -> np.ndarray:
    """(G,) noise of volumes whose top becomes 1: the median in the mask, [-1, 1] units."""
    return np.asarray(np.median(noise.sigma[scan.where]) * 2 / top, dtype=np.float32)
