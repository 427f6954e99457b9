"""MP-PCA: what rises above pure noise among the principal components of every patch is kept.

Papers  Veraart, Fieremans, Novikov, Magn Reson Med 76:1582, 2016; Veraart et al., NeuroImage
        142:394, 2016. Those of the estimators are in `marchenko_pastur`.
Idea    The matrix of a patch, N voxels by V volumes, is of low rank but for its noise. Of noise
        alone the law of the singular values is known, so what lies above its edge is signal.
Here    The default takes the noise from the median singular value and shrinks those above the edge
        to the least error. "mp" is the papers' search for the edge, above which everything is kept
        as it is; US10698065B2 is a patent on that search, which is why it is not the default.
        Noise that correlates between voxels rises above the edge, too. So the voxels of a patch are
        whitened by the correlation that was measured; white noise loses nothing by it.
        The noise map is that of the Gaussian parts: magnitudes of low signal spread less.
        Complex volumes are complex matrices, of half the components. On the CPU, in patches of one
        row at a time.
Differs Patches lie `stride` apart, and all estimates of a voxel are averaged, those near the centre
        of a patch and of few components first; the papers keep the centre of a patch around every
        voxel.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..marchenko_pastur import Law, no_factor, noise_by_median, noise_by_search, optimal_factor
from ..noise import ADDED, NoiseModel
from ..run import Run, State
from ..scaling import Stabiliser, sigma_of_spread
from ..series import InputError, Series
from ..settings import check_settings

ESTIMATORS = {"median": (noise_by_median, optimal_factor), "mp": (noise_by_search, no_factor)}
WINDOW = 0.35  # standard deviation of the weight around a patch's centre, over its edge; phantom A
LEAST = 0.02  # eigenvalue of a patch's covariance: measured lags end, so some come out below 0
ROUNDING = 1e-14  # of the strongest squared singular value
AHEAD = 1  # rows that may wait for their turn to be added
AT_ONCE = 1 << 17  # values of the patches in one batch: few matrices keep memory small


@dataclass(frozen=True)
class MpPca:
    """MP-PCA; its fields are its settings."""

    extent: int = 0  # edge of a patch, voxels; 0: the least odd one with a voxel for every volume
    stride: int = 0  # voxels from patch to patch; 0: half the edge, 1 to 2 % off a stride of 1
    estimator: str = "median"  # of noise and rank; "mp": the papers' search, hard threshold
    noise: str = "measured"  # "white": patches are not whitened

    name: ClassVar[str] = "mppca"
    paper: ClassVar[str] = "Veraart et al. 2016, NeuroImage 142:394; Gavish and Donoho 2017"
    best_volumes: ClassVar[int] = 15  # from here on; checks and sentences ask here
    needs: ClassVar[str] = f"{best_volumes} volumes or more, neither smoothed nor interpolated"
    units: ClassVar[str] = "scanner"
    maps: ClassVar[tuple[str, ...]] = ("noise", "rank")  # kept beside the result
    summary: ClassVar[str] = "principal components of patches, shrunk by random matrix theory"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "paper":   {"extent": 5, "stride": 1, "estimator": "mp", "noise": "white"},
    }  # fmt: skip

    @property
    def assumes_white(self) -> bool:
        """Whether patches are taken as they are, whatever the scan's noise."""
        return self.noise == "white"

    def __post_init__(self) -> None:
        choices = {"estimator": ESTIMATORS, "noise": ADDED}
        check_settings(self, choices, may_be_zero=("extent", "stride"))
        if self.extent and self.extent % 2 == 0:
            raise InputError(f"extent={self.extent} has no centre; give an odd number", 2)

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """Nothing is learned: every patch speaks for itself."""
        return {}

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """Every patch shrunk and averaged with those over it, (X, Y, Z, V)."""
        is_complex = scan.parts is not None
        grid, V = scan.data.shape[:3], scan.n_volumes // (2 if is_complex else 1)
        shape = patch_shape(grid, V, self.extent)
        step = min(self.stride or max(1, (max(shape) - 1) // 2), max(shape))  # no voxel left out
        x_starts, y_starts, z_starts = (
            starts(n, e, step) for n, e in zip(grid, shape, strict=True)
        )
        whitener = Whitener.of(noise.to_add(self.noise).covariance, shape)
        of_row = partial(
            denoise_row, z_starts=z_starts, shape=shape, whitener=whitener,
            law=Law(int(np.prod(shape)), V), estimator=self.estimator, is_complex=is_complex,
        )  # fmt: skip
        out = np.zeros(scan.data.shape, dtype=np.float32)
        maps = np.zeros((*grid, 3), dtype=np.float32)  # weight; weight times sigma, times rank
        with workers() as (pool, n_threads):
            for x in x_starts:
                along_x = slice(x, x + shape[0])
                boxes = [(along_x, slice(y, y + shape[1])) for y in y_starts]
                rows = in_order(pool, n_threads, of_row, (scan.data[box] for box in boxes))
                for box, (estimate, of_maps) in zip(boxes, rows, strict=True):
                    out[box] += estimate
                    maps[box] += of_maps
                run.voice.progress("denoising", x + 1, x_starts[-1] + 1)
        parts = np.float32(2**0.5 if is_complex else 1.0)  # sigma is of one part
        sigma = maps[..., 1] / maps[..., 0] / parts
        stabiliser = Stabiliser.of(noise.law, noise.n_coils)
        for x, (plane, weight) in enumerate(zip(out, maps[..., 0], strict=True)):
            plane /= weight[..., None]
            sigma[x] = sigma_of_spread(sigma[x], plane, stabiliser)
        run.keep("noise map", sigma)
        run.keep("rank map", maps[..., 2] / maps[..., 0])
        return out


# ---- patches -----------------------------------------------------------------------------------


def patch_shape(grid: tuple[int, ...], V: int, extent: int) -> tuple[int, int, int]:
    """Edges of a patch inside the image: `extent`, or the least odd one with V voxels or more."""
    edge = extent or 3
    while not extent and np.prod([min(edge, n) for n in grid]) < V and edge < max(grid):
        edge += 2
    x, y, z = (min(edge, n) for n in grid)
    return x, y, z


def starts(n: int, edge: int, stride: int) -> list[int]:
    """Where patches begin along an axis of n voxels; the last one ends where the axis does."""
    return [*range(0, n - edge, stride), n - edge]


def window(shape: tuple[int, int, int]) -> np.ndarray:
    """(ex, ey, ez) float32, Gaussian weight of the voxels of a patch."""
    x, y, z = (
        np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (WINDOW * n)) ** 2).astype(np.float32)
        for n in shape
    )
    return np.asarray(x[:, None, None] * y[:, None] * z)


@contextmanager
def workers() -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """As many threads as torch has, each alone in its linear algebra: matrices are too small."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(n_threads) as pool:
            yield pool, n_threads
    finally:
        torch.set_num_threads(n_threads)


def in_order(
    pool: ThreadPoolExecutor, n_threads: int, work: Callable[[Any], Any], items: Iterable[Any]
) -> Iterator[Any]:
    """The results of `work` in the order of the items; only a few wait to be taken."""
    waiting: deque[Future[Any]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > AHEAD + n_threads:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def denoise_row(
    row: np.ndarray, z_starts: list[int], shape: tuple[int, int, int], whitener: "Whitener",
    law: Law, estimator: str, is_complex: bool,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """All patches of one row along z.

    row       (ex, ey, Z, V), or 2 V real and imaginary parts
    z_starts  where patches begin

    Returns the sum of weighted estimates, as `row`, and (ex, ey, Z, 3) the sums of weights, and of
    weights times sigma and rank.
    """
    V, near_centre = law.V, window(shape)
    estimates, maps = np.zeros(row.shape, np.float32), np.zeros((*row.shape[:3], 3), np.float32)
    there = torch.from_numpy(np.ascontiguousarray(row))
    if is_complex:
        there = torch.complex(there[..., :V], there[..., V:])
    n_at_once = max(1, AT_ONCE // (law.N * V))
    for i in range(0, len(z_starts), n_at_once):
        boxes = [np.s_[:, :, z : z + shape[2]] for z in z_starts[i : i + n_at_once]]
        Y = torch.stack([there[box] for box in boxes]).reshape(len(boxes), law.N, V)
        X, sigma, rank = shrink_patches(Y, whitener, law, estimator)
        if is_complex:
            X = torch.cat([X.real, X.imag], dim=2)
        patches = X.reshape(len(X), *shape, -1).numpy()
        for box, patch, s, r in zip(boxes, patches, sigma.tolist(), rank.tolist(), strict=True):
            weight = near_centre[..., None] / np.float32(1 + r)  # noise left grows with the rank
            estimates[box] += weight * patch
            maps[box] += weight * np.array([1, s, r], np.float32)
    return estimates, maps


def shrink_patches(
    Y: Tensor, whitener: "Whitener", law: Law, estimator: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Patches without noise, their sigma and their rank.

    Y  (B, N, V)  real or complex

    Returns (B, N, V), (B,) and (B,). A patch whitened is W Y = U S Vᴴ, and its estimate
    W⁻¹ U S diag(factor) Vᴴ = Y V diag(factor) Vᴴ: only V is needed, of the leading components.
    """
    whitened = whitener.apply(Y).to(torch.complex128 if Y.is_complex() else torch.float64)
    if law.N >= law.V:  # float64: the noise is some 1e-7 of the strongest eigenvalue
        values, vectors = torch.linalg.eigh(whitened.mH @ whitened)
    else:
        values, left = torch.linalg.eigh(whitened @ whitened.mH)
        vectors = whitened.mH @ left / values.clamp(min=1e-300).sqrt()[:, None]
    values = values.clamp(min=0)  # (B, m), rising; s²
    estimate, factor = ESTIMATORS[estimator]
    variance, edge = estimate(values, law)
    variance = torch.maximum(variance, ROUNDING / law.n * values[:, -1]).clamp(min=1e-300)
    rank = (values > edge[:, None]).sum(dim=1)
    lead = max(1, int(rank.max()))  # of the batch
    values, vectors = values[:, -lead:], vectors[..., -lead:].to(Y.dtype)
    components = Y @ vectors  # (B, N, lead)
    stretch = torch.linalg.vector_norm(components, dim=1).double() ** 2 / values.clamp(min=1e-300)
    y2 = values / (law.n * variance[:, None])
    shrunk = torch.where(
        values > edge[:, None], factor(y2, stretch, law, whitener.lengths), 0.0
    ).to(Y.dtype)
    return (components * shrunk[:, None]) @ vectors.mH, variance.sqrt(), rank


@dataclass(frozen=True)
class Whitener:
    """What makes the noise of a patch's voxels independent.

    matrix   (N, N)  C^-½, C the correlation of its voxels; None where the noise is white
    lengths          least and largest eigenvalue of C
    """

    matrix: Tensor | None
    lengths: tuple[float, float]

    @classmethod
    def of(cls, covariance: np.ndarray, shape: tuple[int, int, int]) -> "Whitener":
        """The whitener of patches in noise of that correlation at small lags, 1 in the centre."""
        centre = np.array(covariance.shape) // 2
        if np.count_nonzero(covariance) == 1:
            return cls(None, (1.0, 1.0))
        at = np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), axis=1)
        lag = at[:, None] - at + centre  # (N, N, 3)
        is_known = ((lag >= 0) & (lag < covariance.shape)).all(axis=2)
        lag = np.where(is_known[..., None], lag, 0)
        C = np.where(is_known, covariance[tuple(np.moveaxis(lag, 2, 0))], 0.0)
        values, vectors = np.linalg.eigh(C)
        values = np.maximum(values, LEAST)
        root = (vectors / np.sqrt(values)) @ vectors.T
        lengths = float(values.min()), float(values.max())
        return cls(torch.from_numpy(root.astype(np.float32)), lengths)

    def apply(self, Y: Tensor) -> Tensor:
        """W Y, (B, N, V)."""
        return Y if self.matrix is None else self.matrix.to(Y.dtype) @ Y
