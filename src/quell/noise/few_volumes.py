"""The noise of few volumes, from small places in which little but noise is left.

Idea    Over a whole head, few volumes differ by their contrast in every component. In a small place
        they do not: what tissue does there varies along few directions of the volume axis. The
        principal components of the surroundings of a block tell these directions; the last quarter
        of them, applied to the block itself, shows noise. As the block took no part in finding
        them, its noise there is as strong as anywhere.
Here    Blocks of one slice, their slow trend taken out. The quietest quarter counts, by what the
        surroundings say of them. The covariance of their voxels is fitted by an autocovariance of
        short reach, so strength and correlation come from one fit, and the trend is accounted for.
        In magnitudes the scale is refined as in `learning`. The map follows the finest detail of
        all blocks, smoothly: medians over some centimetres, so that anatomy does not show.
Trap    Two or three volumes of high signal still show anatomy in every place. Then taking out a
        straight trend finds more than taking out a bent one; noise alone would not. There the
        correlation is that of the air, or what the finest detail shows, which errs to the low side.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from ..scaling import Scale
from ..series import Series
from .model import LAGS

QUIET = 0.25  # share of the blocks that counts; phantom A
FEWEST, ENOUGH, MOST = 8, 24, 6000  # blocks: needed; of which none is left out; then thinned out
NOISE_ONLY = 4  # one in so many components of a small place is noise; phantom A
EDGE_OF_TISSUE = 1.8  # times the detail of the middle block: some three spreads of noise alone
RING = 3  # voxels of surroundings on each side of a block, and the same in the slices beside it
# Noise found after a straight trend over that after a bent one, above which it is anatomy: for 2 or
# 3 volumes, and for more, which leave little of it. Noise of a long reach has some 1.04; phantom A.
SHOWS_ANATOMY, FEW, SHOWS_ANATOMY_OF_MORE = 1.04, 3, 1.1
SHORT, SHORTER = 0.006, 0.03  # penalty on the reach of the correlation
FLOOR = 0.05  # of the mean, for directions of a block that hold next to no noise
AROUND_MM, SMOOTH_MM = 20.0, 8.0  # of the map: radius of its medians, width of what smooths them


@dataclass(frozen=True)
class Shape:
    """A block: its edge in voxels, the degree of the trend taken out, the reach of the fit."""

    edge: int
    degree: int
    reach: int


SHAPES = (Shape(7, 2, 3), Shape(5, 2, 2))  # the second where the first does not fit


@dataclass(frozen=True)
class QuietNoise:
    """Noise found in small places, in the units of the data.

    level           standard deviation
    relative        (X, Y, Z)  noise of each place over the level
    covariance      as in `NoiseModel`
    shows_anatomy   whether even there the volumes show more than noise
    n_blocks        that it was learned from
    """

    level: float
    relative: np.ndarray
    covariance: np.ndarray
    shows_anatomy: bool
    n_blocks: int


@dataclass(frozen=True)
class Blocks:
    """Blocks of a scan and what their surroundings say.

    at      (n, 3)     their first voxels
    images  (n, edge², K)  noise-like images of each
    above   (n, edge², K)  the same of the slice above; NaN where it is not in the mask
    energy  (n,)       of the surroundings in the same components
    V       volumes of the scan
    """

    at: np.ndarray
    images: np.ndarray
    above: np.ndarray
    energy: np.ndarray
    V: int


def quiet_noise(
    Y: np.ndarray,
    mask: np.ndarray,
    voxel_mm: tuple[float, ...],
    known: np.ndarray | None = None,
) -> QuietNoise | None:
    """The noise of few volumes; None where the mask has no room for blocks.

    Y      (X, Y, Z, V)  in units in which the noise is equally strong, or nearly so
    known  covariance of the noise in the air, for scans that show anatomy everywhere
    """
    for shape in SHAPES:
        blocks = blocks_of(Y, mask, shape)
        if blocks is not None:
            return _noise_of(blocks, shape, mask, voxel_mm, known)
    return None


def _noise_of(
    blocks: Blocks,
    shape: Shape,
    mask: np.ndarray,
    voxel_mm: tuple[float, ...],
    known: np.ndarray | None,
) -> QuietNoise | None:
    """The noise of some blocks; None where they hold none."""
    n = max(ENOUGH, round(QUIET * len(blocks.energy)))
    quiet = np.argsort(blocks.energy, kind="stable")[:n]
    own = (detail_of(blocks.images[quiet], shape) ** 2).mean(axis=(1, 2, 3))
    quiet = quiet[own <= EDGE_OF_TISSUE * np.median(own)]
    chosen = blocks.images[quiet]
    bent, straight = (
        fit(_second_moment(chosen, degree, shape), replace(shape, degree=degree))
        for degree in (shape.degree, shape.degree - 1)
    )
    if not bent[0, shape.reach] > 0:
        return None
    over = (straight[0, shape.reach] / bent[0, shape.reach]) ** 0.5
    shows_anatomy = over > (SHOWS_ANATOMY if blocks.V <= FEW else SHOWS_ANATOMY_OF_MORE)
    covariance = np.zeros([2 * lag + 1 for lag in LAGS])
    moment = _second_moment(chosen, shape.degree, shape)
    if not shows_anatomy:
        variance = float(bent[0, shape.reach])
        _put(covariance, bent / variance, 0)
        _put_above(covariance, _above(blocks, quiet, shape), variance)
        _cap_above(covariance, _above_in_detail(blocks, quiet, shape))
    elif known is not None:
        covariance = known.copy()
        _cap_above(covariance, _above_in_detail(blocks, quiet, shape))
        variance = strength(moment, covariance, shape)
    else:
        plane = fit(moment, shape, SHORTER, n_weighted=1)
        _put(covariance, plane / plane[0, shape.reach], 0)
        variance = float(plane[0, shape.reach]) / over**2  # what the trend held, detail holds too
    if not variance > 0:
        return None
    relative = np.ones(mask.shape, np.float32)
    if not shows_anatomy:
        relative = smooth_map(blocks, shape, mask, voxel_mm)
    return QuietNoise(variance**0.5, relative, covariance, bool(shows_anatomy), len(quiet))


# ---- blocks ------------------------------------------------------------------------------------


def blocks_of(Y: np.ndarray, mask: np.ndarray, shape: Shape) -> Blocks | None:
    """Blocks that lie in the mask, seen along the last components of their surroundings.

    None where there are fewer than a few.
    """
    V = Y.shape[3]
    at = _places(mask, shape.edge)
    if len(at) < FEWEST:
        return None
    C, n = _around(Y, mask, at, shape.edge)
    at, C, n = at[n >= 4 * V], C[n >= 4 * V], n[n >= 4 * V]
    if len(at) < FEWEST:
        return None
    values, vectors = np.linalg.eigh(C / n[:, None, None])
    K = max(1, V // NOISE_ONLY)
    last = vectors[:, :, :K]
    inside = _is_full(mask, shape.edge)
    i, j = np.meshgrid(*[np.arange(shape.edge)] * 2, indexing="ij")
    rows, columns = at[:, :1] + i.ravel(), at[:, 1:2] + j.ravel()
    images = Y[rows, columns, at[:, 2:]].astype(np.float64) @ last
    over = np.minimum(at[:, 2] + 1, mask.shape[2] - 1)
    above = Y[rows, columns, over[:, None]].astype(np.float64) @ last
    is_there = (over > at[:, 2]) & inside[at[:, 0], at[:, 1], over]
    above[~is_there] = np.nan
    return Blocks(at, images, above, values[:, :K].sum(axis=1), V)


def _places(mask: np.ndarray, edge: int) -> np.ndarray:
    """(n, 3) first voxels of blocks that lie in the mask, half an edge apart; thinned out."""
    grid = np.zeros_like(mask)
    step = (edge + 1) // 2
    grid[::step, ::step] = True
    at = np.argwhere(_is_full(mask, edge) & grid)
    return at[:: max(1, -(-len(at) // MOST))]


def _is_full(mask: np.ndarray, edge: int) -> np.ndarray:
    """(X, Y, Z) bool: whether the block that begins here lies in the mask."""
    origin = (-(edge // 2), -(edge // 2), 0)
    full = ndimage.minimum_filter(
        mask.astype(np.uint8), (edge, edge, 1), origin=origin, mode="constant"
    )
    return np.asarray(full > 0)


def _around(
    Y: np.ndarray, mask: np.ndarray, at: np.ndarray, edge: int
) -> tuple[np.ndarray, np.ndarray]:
    """(n, V, V) sums of products of what varies around each block, and (n,) of how many voxels.

    The block itself is left out.
    """
    V = Y.shape[3]
    C, n = np.zeros((len(at), V, V)), np.zeros(len(at))
    for z in range(mask.shape[2]):
        near = np.abs(at[:, 2] - z) <= 1
        if not near.any():
            continue
        here = mask[:, :, z]
        y = np.where(here[..., None], Y[:, :, z], 0).astype(np.float64)
        share = np.maximum(ndimage.uniform_filter(here.astype(np.float64), edge), 1e-3)
        varies = y - ndimage.uniform_filter(y, (edge, edge, 0)) / share[..., None]
        varies[~here] = 0
        products = _sums(varies[..., :, None] * varies[..., None, :])
        voxels = _sums(here.astype(np.float64))
        C[near] += _within(products, at[near], -RING, edge + RING)
        n[near] += _within(voxels, at[near], -RING, edge + RING)
        own = at[:, 2] == z
        C[own] -= _within(products, at[own], 0, edge)
        n[own] -= _within(voxels, at[own], 0, edge)
    return C, n


def _sums(values: np.ndarray) -> np.ndarray:
    """(X+1, Y+1, ...) sums of all values before, so that four of them tell that of a rectangle."""
    sums = np.zeros((values.shape[0] + 1, values.shape[1] + 1, *values.shape[2:]))
    sums[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    return sums


def _within(sums: np.ndarray, at: np.ndarray, first: int, end: int) -> np.ndarray:
    """The sum over the square from `first` to `end` voxels after each place."""
    (x0, x1), (y0, y1) = (
        (np.clip(at[:, axis] + first, 0, top), np.clip(at[:, axis] + end, 0, top))
        for axis, top in enumerate(np.array(sums.shape[:2]) - 1)
    )
    return np.asarray(sums[x1, y1] - sums[x0, y1] - sums[x1, y0] + sums[x0, y0])


# ---- the fit -----------------------------------------------------------------------------------


def without_trend(edge: int, degree: int) -> np.ndarray:
    """(edge², edge²) what takes a polynomial of that degree out of a block."""
    u = np.linspace(-1, 1, edge)
    i, j = np.meshgrid(u, u, indexing="ij")
    powers = [(a, b) for a in range(degree + 1) for b in range(degree + 1 - a)]
    trend, _ = np.linalg.qr(np.stack([(i**a * j**b).ravel() for a, b in powers], axis=1))
    return np.asarray(np.eye(edge**2) - trend @ trend.T)


def _second_moment(images: np.ndarray, degree: int, shape: Shape) -> np.ndarray:
    """(edge², edge²) mean product of the voxels of blocks without their trend."""
    flat = np.moveaxis(images, 2, 0).reshape(-1, shape.edge**2)
    flat = flat @ without_trend(shape.edge, degree)
    return np.asarray(flat.T @ flat / len(flat))


def _pairs(shape: Shape, lag: tuple[int, int]) -> np.ndarray:
    """(edge², edge²) 1 for pairs of voxels that lie so far apart."""
    at = np.stack(np.unravel_index(np.arange(shape.edge**2), (shape.edge, shape.edge)), axis=1)
    return np.asarray((at[None] - at[:, None] == lag).all(axis=2), dtype=np.float64)


def fit(
    moment: np.ndarray, shape: Shape, penalty: float = SHORT, n_weighted: int = 0
) -> np.ndarray:
    """(reach+1, 2 reach+1) autocovariance at lags from 0 on along x, from -reach on along y.

    moment      (edge², edge²)  mean product of the voxels of a block without its trend
    penalty     on values at long lags, growing with their square
    n_weighted  how often the fit is done again with weights for directions of little variance,
                where anatomy does not reach
    """
    reach = shape.reach
    lags = [(i, j) for i in range(reach + 1) for j in range(-reach, reach + 1) if (i, j) >= (0, 0)]
    basis = _basis(shape)
    S = basis.T @ moment @ basis
    parts = []
    for i, j in lags:
        pairs = _pairs(shape, (i, j))
        parts.append(basis.T @ np.maximum(pairs, pairs.T) @ basis)
    far = np.array([i * i + j * j for i, j in lags], dtype=np.float64)
    W = np.eye(len(S))
    for again in range(n_weighted + 1):
        A = np.stack([(W @ part @ W).ravel() for part in parts], axis=1)
        normal = A.T @ A
        normal += np.diag(penalty * np.trace(normal) / len(normal) * far)
        found = np.linalg.solve(normal, A.T @ (W @ S @ W).ravel())
        if again < n_weighted:
            W = _inverse_root(sum(c * part for c, part in zip(found, parts, strict=True)))
    plane = np.zeros((reach + 1, 2 * reach + 1))
    for (i, j), c in zip(lags, found, strict=True):
        plane[i, reach + j] = c
    plane[0, :reach] = plane[0, :reach:-1]
    return plane


def strength(moment: np.ndarray, covariance: np.ndarray, shape: Shape) -> float:
    """Variance of noise of a known correlation, mostly from the finest detail."""
    i, j, k = (n // 2 for n in covariance.shape)
    C = sum(
        covariance[i + a, j + b, k] * _pairs(shape, (a, b))
        for a in range(-min(i, shape.edge), min(i, shape.edge) + 1)
        for b in range(-min(j, shape.edge), min(j, shape.edge) + 1)
    )
    basis = _basis(shape)
    W = _inverse_root(basis.T @ C @ basis)
    whitened = W @ (basis.T @ moment @ basis) @ W
    return float(np.median(np.diag(whitened)))


def _basis(shape: Shape) -> np.ndarray:
    """(edge², n) orthonormal: all that a block may show but for the trend."""
    values, vectors = np.linalg.eigh(without_trend(shape.edge, shape.degree))
    return np.asarray(vectors[:, values > 0.5])


def _inverse_root(C: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(C)
    values = np.maximum(values, FLOOR * max(values.mean(), 1e-300))
    return np.asarray((vectors / np.sqrt(values)) @ vectors.T)


def _above(blocks: Blocks, quiet: np.ndarray, shape: Shape) -> np.ndarray | None:
    """(3, 3) covariance with the slice above at lags of -1 to 1; None where there is none."""
    chosen = quiet[np.isfinite(blocks.above[quiet]).all(axis=(1, 2))]
    if len(chosen) < FEWEST:
        return None
    P = without_trend(shape.edge, shape.degree)
    here, over = (
        np.moveaxis(images[chosen], 2, 0).reshape(-1, shape.edge**2) @ P
        for images in (blocks.images, blocks.above)
    )
    S = here.T @ over / len(here)
    lags = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    A = np.stack([(P @ _pairs(shape, lag) @ P).ravel() for lag in lags], axis=1)
    return np.linalg.lstsq(A, S.ravel(), rcond=None)[0].reshape(3, 3)


def _put(covariance: np.ndarray, plane: np.ndarray, dz: int) -> None:
    """Set the lags in plane, and those opposite to them."""
    i, j, k = (n // 2 for n in covariance.shape)
    reach = len(plane) - 1
    covariance[i : i + reach + 1, j - reach : j + reach + 1, k + dz] = plane
    covariance[i - reach : i + 1, j - reach : j + reach + 1, k - dz] = plane[::-1, ::-1]


def _put_above(covariance: np.ndarray, above: np.ndarray | None, variance: float) -> None:
    """Set the lags to the next slice."""
    if above is None:
        return
    i, j, k = (n // 2 for n in covariance.shape)
    covariance[i - 1 : i + 2, j - 1 : j + 2, k + 1] = above / variance
    covariance[i - 1 : i + 2, j - 1 : j + 2, k - 1] = above[::-1, ::-1] / variance


def _above_in_detail(blocks: Blocks, quiet: np.ndarray, shape: Shape) -> float:
    """Correlation of the finest detail with that of the slice above; 0 where there is none."""
    chosen = quiet[np.isfinite(blocks.above[quiet]).all(axis=(1, 2))]
    if len(chosen) < FEWEST:
        return 0.0
    here, over = (detail_of(images[chosen], shape) for images in (blocks.images, blocks.above))
    return float(np.sum(here * over) / np.sqrt(np.sum(here**2) * np.sum(over**2)))


def _cap_above(covariance: np.ndarray, most: float) -> None:
    """Let neighbouring slices correlate by no more than that."""
    i, j, k = (n // 2 for n in covariance.shape)
    said = float(covariance[i, j, k + 1])
    if said > max(most, 0):
        beside = np.arange(covariance.shape[2]) != k
        covariance[:, :, beside] *= max(most, 0) / said


# ---- the map -----------------------------------------------------------------------------------


def detail_of(images: np.ndarray, shape: Shape) -> np.ndarray:
    """(n, edge-1, edge-1, K) the four voxels of every square in plane, crosswise."""
    a = images.reshape(len(images), shape.edge, shape.edge, -1)
    return np.asarray(a[:, 1:, 1:] - a[:, 1:, :-1] - a[:, :-1, 1:] + a[:, :-1, :-1]) / 2


def smooth_map(
    blocks: Blocks, shape: Shape, mask: np.ndarray, voxel_mm: tuple[float, ...]
) -> np.ndarray:
    """(X, Y, Z) noise of each place over that of the middle one, from the finest detail."""
    power = np.log(np.mean(detail_of(blocks.images, shape) ** 2, axis=(1, 2, 3)) + 1e-300)
    centre = blocks.at + np.array([shape.edge // 2, shape.edge // 2, 0])
    tree = cKDTree(centre * np.asarray(voxel_mm))
    near = tree.query_ball_tree(tree, AROUND_MM)
    level = np.array([np.median(power[those]) for those in near])
    level = np.exp((level - np.median(level)) / 2)
    there, found = np.zeros((2, *mask.shape), np.float32)
    there[tuple(centre.T)] = 1
    found[tuple(centre.T)] = level
    width = [SMOOTH_MM / mm for mm in voxel_mm]
    share = ndimage.gaussian_filter(there, width)
    is_known = share > 1e-4 * share.max()
    smooth = ndimage.gaussian_filter(found, width) / np.maximum(share, 1e-30)
    nearest = ndimage.distance_transform_edt(~is_known, return_distances=False, return_indices=True)
    return np.asarray(smooth[tuple(nearest)], dtype=np.float32)


# ---- the scan ----------------------------------------------------------------------------------

PASSES = 4  # the stabiliser needs a map, the map a stabiliser


def of_few_volumes(
    series: Series,
    mask: np.ndarray,
    law: str,
    n_coils: float,
    known: np.ndarray | None = None,
    given: np.ndarray | None = None,
) -> tuple[np.ndarray, QuietNoise] | None:
    """The noise map (X, Y, Z) of a scan of few volumes, scanner units, and what it rests on.

    None where the mask has no room for blocks.

    known  covariance of the noise in the air, or None
    given  (X, Y, Z) noise map that is obeyed: then only the correlation is new, and the level
           is over that map
    """
    is_empty = np.all(series.data == 0, axis=3)
    inside = mask & ~is_empty
    if given is not None:
        Y = Scale.of(given, law, n_coils).apply(series.data)
        found = quiet_noise(Y, inside, series.voxel_mm, known)
        return None if found is None else (given, found)
    sigma = np.ones(mask.shape, np.float32)
    scale, found = Scale.of(sigma, "gaussian", 1.0), None
    for _ in range(PASSES):
        found = quiet_noise(scale.apply(series.data), inside, series.voxel_mm, known)
        if found is None:
            return None
        sigma = sigma * np.float32(found.level) * found.relative
        if not np.all((sigma > 0) & np.isfinite(sigma)):
            return None
        scale = Scale.of(sigma, law, n_coils)
    return None if found is None else (sigma, found)
