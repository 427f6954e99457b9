"""Di-Fusion: the late steps of a diffusion chain whose two ends are two volumes of the scan.

Paper   Wu, Kong, Jiang, Zhou, "Self-supervised diffusion MRI denoising via iterative and stable
        refinement", ICLR 2025, arXiv:2501.13514.
Idea    x, the volume to denoise, and x', another one, hold the same anatomy and independent noise.
        Fusion lets x' turn into x along a chain; a network F learns to say x at every step. Only
        the late, nearly noise-free steps are learned; sampling adds no noise and may stop early.
Here    x' is what the volumes of nearest direction in the shell say of x together, by least
        squares. The chain's answer knows nothing of x, so at its end it is weighed with x itself,
        each by its variance. Being made without x it is more than sigma away from x at once, so
        with the default threshold the chain ends after its first step; `stop` above 1 goes on.
Differs The published chain starts from x' and gives x a weight of 1/300: what only x shows must
        come from the weights of F, learned by heart (preset "paper"). The released program
        trains without fusion and its jumps lose amplitude (preset "released"); jumps here follow
        Bayes' rule. b=0 volumes without partners pass unchanged.

Symbols
    x, x', x*  noisy slice, its partner, their fusion at step t;  xi  their shuffled difference
    s_t        √ᾱ_t;  T_c  first step of the chain, T_r  from where every step is taken
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..chains import Chain, keep_distances, walk_series
from ..consistency import consistent, keep_means
from ..intensities import PER, Intensities
from ..noise import NoiseModel, mean_and_covariance, shuffled
from ..predictor import AS_PUBLISHED, NETWORKS, Predictor
from ..run import Run, State, onto
from ..sampling import RULES, Sampler, run_walk
from ..schedule import Schedule, like, reverse_warmup
from ..series import NEIGHBOURS, InputError, Series, prior_volumes, shells
from ..settings import check_settings
from ..slices import Batch, draw
from ..trainer import Network, Training, as_used, load_weights, named, train

FUSIONS = ("posterior", "none", "linear")  # Eq. 6; as released; straight from x to x'
MIXES = ("least-squares", "mean")
ENTRIES = ("consistency", "start", "none")
PUBLISHED_PAIRS = AS_PUBLISHED | {
    "latter": 301, "partners": 1, "mix": "mean", "own": "none", "threshold": 0.04,
}  # fmt: skip


@dataclass(frozen=True)
class DiFusion:
    """Di-Fusion; its fields are its settings. Steps count from 1: the paper's 300 is 301 here."""

    partners: int = 40  # volumes that make x'
    mix: str = "least-squares"  # how
    neighbours: str = "directions"  # "acquisition": the paper's, the one before in the file
    fusion: str = "none"
    latter: int = 51  # T_c; the paper's 301 was 1.3 dB worse on a phantom
    walk_from: int = 51  # T_r
    stride: int = 10  # p, of the run above T_r
    rule: str = "mean"  # one of sampling.RULES; "mean": no noise is added, the paper's eta = 0
    own: str = "consistency"  # how x enters; "start": the chain begins there; "none": by 1/300
    stop: float = 1.0  # end where x_out is this far from x, units of sigma; larger is smoother
    threshold: float = 0.0  # the paper's instead, in [-1, 1] and times b_x; 0: none
    steps: int = 400  # of training
    flips: int = 1  # of the image that F's answer is averaged over, up to 4
    network: str = "lean"
    channels: int = 32  # of a lean network
    patches: int = 8  # per step
    patch: int = 64  # edge of a patch, voxels
    everywhere: bool = False  # learn on whole slices, air included
    intensities: str = "series"
    images_at_once: int = 8  # slices of one pass

    name: ClassVar[str] = "difusion"
    paper: ClassVar[str] = "Wu et al. 2025, arXiv:2501.13514"
    best_volumes: ClassVar[int] = 10  # from here on; checks and sentences ask here
    needs: ClassVar[str] = f"2 volumes or more of one b-value, better {best_volumes}"
    dimensions: ClassVar[int] = 2
    assumes_white: ClassVar[bool] = False
    summary: ClassVar[str] = "late diffusion steps between two volumes of the scan"
    after_learning: ClassVar[tuple[str, ...]] = (
        "own", "rule", "stop", "threshold", "stride", "walk_from", "flips", "images_at_once",
    )  # what a learned model may be used with  # fmt: skip
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "default":  {},
        "fast":     {"steps": 300},
        "paper":    PUBLISHED_PAIRS | {"fusion": "posterior"},
        "released": PUBLISHED_PAIRS | {"fusion": "none", "rule": "mean-mixed"},
    }  # fmt: skip

    def __post_init__(self) -> None:
        choices = {"neighbours": NEIGHBOURS, "fusion": FUSIONS, "rule": RULES, "own": ENTRIES,
                   "mix": MIXES, "network": NETWORKS, "intensities": PER,
                   "flips": (1, 2, 4)}  # fmt: skip
        check_settings(self, choices, may_be_zero=("threshold", "stop"))
        if not 3 <= self.latter <= 1000:
            raise InputError(f"latter={self.latter} is no late step; give 3 to 1000", 2)

    @property
    def units(self) -> str:
        """Noise 1 everywhere, or as published: the scanner's own."""
        return "scanner" if self.intensities == "volume-maximum" else "sigma"

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """F, from the pairs of one scan."""
        (scan,) = scans
        groups, schedule = prior_volumes(scan, self.partners, self.neighbours), reverse_warmup()
        where = np.ones_like(scan.where) if self.everywhere else scan.where
        range_ = Intensities.of(scan, where, groups[:, 0], self.intensities)
        X, G = range_.apply(scan.data), len(groups)
        mixing = self.mixing(X, groups, where)
        both = self.pairs(X, groups, mixing)
        clean = both[where][:, :G]
        state = {"volumes": torch.from_numpy(groups), "top": torch.from_numpy(range_.top)} | mixing
        weights = train(
            Predictor.of(self, run, float(clean.mean()), float(clean.std())),
            lambda rng: draw(both, where, self.patches, self.patch, rng, _pairs_of(G)),
            lambda net, batch, rng: self.loss(net, batch, schedule, rng),
            Training.of(self.network, self.steps),
            run,
            as_state=lambda weights: state | named("F", weights),
        )
        return state | named("F", weights)

    def mixing(self, X: np.ndarray, groups: np.ndarray, where: np.ndarray) -> State:
        """How x' is made of the other volumes: weights (G, n) and offsets (G,)."""
        mean, C = mean_and_covariance(X[where])
        n = groups.shape[1] - 1
        weights, offset = np.full((len(groups), n), 1 / n), np.zeros(len(groups))
        if self.mix == "least-squares":
            for g, (v, *others) in enumerate(groups):
                ridge = 1e-6 * C[others, others].mean() * np.eye(n)  # a small shell shows twins
                weights[g] = np.linalg.solve(C[np.ix_(others, others)] + ridge, C[others, v])
                offset[g] = mean[v] - weights[g] @ mean[others]
        return {
            "mix": torch.from_numpy(weights.astype(np.float32)),
            "offset": torch.from_numpy(offset.astype(np.float32)),
        }

    def pairs(self, X: np.ndarray, groups: np.ndarray, mixing: State) -> np.ndarray:
        """Every volume x and then every partner x', (X, Y, Z, 2G)."""
        G, (mix, offset) = len(groups), (mixing[name].numpy() for name in ("mix", "offset"))
        both = np.empty((*X.shape[:3], 2 * G), dtype=np.float32)
        both[..., :G] = X[..., groups[:, 0]]
        for g, (_, *others) in enumerate(groups):
            both[..., G + g] = X[..., others] @ mix[g] + offset[g]
        return both

    def loss(self, F: Network, batch: Batch, schedule: Schedule, rng: torch.Generator) -> Tensor:
        """‖F(s x* + √(1-s²) xi, s) − x‖² at a random late step."""
        x, partner = batch.y[:, :1], batch.y[:, 1:]
        t = torch.randint(2, self.latter, (1,), generator=rng).expand(len(x))  # one for the batch
        x_t, s = self.diffuse(x, partner, t, schedule, rng)
        return batch.mean((F(x_t, s) - x) ** 2)

    def diffuse(
        self, x: Tensor, partner: Tensor, t: Tensor, schedule: Schedule, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """x_t (B, 1, H, W) and its s (B,), drawn between steps t-1 and t."""
        x_star = self.fuse(x, partner, t, schedule)
        difference = x - partner
        xi = shuffled(difference - difference.mean(dim=(1, 2, 3), keepdim=True), rng)  # Eq. 8
        s = onto(schedule.between(t.expand(len(x)), rng), x.device)
        return like(s, x) * x_star + like((1 - s**2).sqrt(), x) * xi, s  # Eq. 7

    def fuse(self, x: Tensor, partner: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
        """x* of step t: from x at the end of the chain to x' at its start (Eq. 6)."""
        if self.fusion == "none":
            return partner
        if self.fusion == "linear":
            share = like(1 - t / schedule.T, x)
            return share * x + (1 - share) * partner
        of_x, of_partner = schedule.posterior_weights(t)  # lambda_1, lambda_2
        return like(of_x, x) * x + like(of_partner, x) * partner

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """The chain of every slice; volumes without partners pass unchanged."""
        groups, range_ = state["volumes"].numpy(), Intensities(state["top"].numpy())
        volumes, G = groups[:, 0], len(groups)
        run.keep("passed through", np.setdiff1d(np.arange(scan.n_volumes), volumes))
        where = np.ones_like(scan.where) if self.everywhere else scan.where
        both = self.pairs(range_.apply(scan.data), groups, state)
        sigma = noise.sigma[..., None] * (2 / range_.top[volumes])
        restored = self.walk(both, where, sigma, state, run)
        if self.own == "consistency":
            restored, _ = consistent(both[..., :G], restored, sigma, shells(scan)[volumes])
        if self.intensities == "series":
            restored = keep_means(restored, both[..., :G], where)
        return range_.put_back(scan.data, restored, volumes)

    def walk(
        self, both: np.ndarray, where: np.ndarray, sigma: np.ndarray, state: State, run: Run
    ) -> np.ndarray:
        """x_out where the chain of every slice ends, (X, Y, Z, G)."""
        G, schedule = both.shape[3] // 2, reverse_warmup()
        F = load_weights(Predictor.of(self, run), state, "F.").to(run.device)
        limits = float(both[..., :G].min()), float(both[..., :G].max())
        forward = as_used(F, self.network, run.device)
        chain = Chain(forward, Sampler(schedule, self.rule), limits, self.flips)
        path = run_walk(self.latter, self.stride, self.walk_from)
        level = torch.from_numpy(np.sqrt(np.mean(sigma[where] ** 2, axis=0)))  # (G,) of x's noise

        def start(batch: Batch, rngs: list[torch.Generator]) -> Tensor:
            x, partner, t = batch.y[:, :1], batch.y[:, 1:], torch.tensor([path[0]])
            if self.own == "start":
                return x * float(schedule.alpha_bar[t].sqrt())
            parts = zip(x.split(1), partner.split(1), rngs, strict=True)
            return torch.cat([self.diffuse(a, b, t, schedule, rng)[0] for a, b, rng in parts])

        def distance(batch: Batch, x_out: Tensor, rows: Tensor) -> Tensor:
            x = batch.y[onto(rows, x_out.device), :1]
            if self.threshold:  # Eq. 13
                return ((x_out - x) ** 2).mean(dim=(1, 2, 3)).sqrt() * brain_weight(x)
            return batch.rms(x_out, rows) / level[batch.group[rows]].to(x)

        x_out, distances, _ = walk_series(
            chain, start, lambda batch: [path] * len(batch.y), distance,
            both, where, _pairs_of(G), run, "chain", self.images_at_once,
            stop=self.threshold or self.stop,
        )  # fmt: skip
        keep_distances(distances, state["volumes"][:, 0].numpy(), run)
        run.keep("stopping steps", (~np.isnan(distances)).sum(axis=2))
        return x_out


def brain_weight(x: Tensor) -> Tensor:
    """b_x (B,): makes the RMSE over a slice about that over the brain; x (B, 1, H, W), [-1, 1]."""
    shares = [(x > level).float().mean(dim=(1, 2, 3)) for level in (-0.95, -0.93)]
    return (0.5 / shares[0] + 0.5 / shares[1]).sqrt()


def _pairs_of(G: int) -> np.ndarray:
    """(G, 2): where `pairs` has x and x' of every group."""
    return np.stack([np.arange(G), G + np.arange(G)], axis=1)
