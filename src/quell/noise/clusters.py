"""Clusters: places where a volume's residual holds more than noise, and how much of it is signal.

Idea    A method that learns what the volumes share takes for noise what only one of them shows,
        however clear it is there. In the residual such a structure stands in one place, and noise
        does not. So the residual of every volume is filtered at three widths (matched filters of
        structures of some 10, 40 and 100 voxels) and compared with what the noise's own
        correlation lets such filters see.
Here    A peak counts where chance would give one in 100 scans (Bonferroni over voxels, volumes and
        widths); its cluster is what lies above `EXTENT` around it, of one sign. Where every volume
        has more than noise in a place (a noise map too low, an edge), a single volume has to have
        more still: the local scale, which a few volumes hardly move.
        In a cluster the signal is estimated by empirical Bayes: of a residual of local power P,
        the noise is 1, so the share 1 - 1/P is kept.
Papers  Worsley et al., Human Brain Mapping 4:58, 1996 (search over widths); Efron and Morris,
        JASA 68:117, 1973 (empirical Bayes).
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy import ndimage, stats

WIDTHS = (1.0, 1.5, 2.2)  # voxels, standard deviations of the filters
CHANCE = 0.01  # of one false peak in a whole scan
EXTENT = 3.2  # standard deviations; 1 voxel of noise in 700 lies above it
LIMIT = 4.0  # of a squared deviation in the local scale, so that few volumes hardly move it
OF_LIMITED = 0.9205  # mean of min(z², 4) of a standard Gaussian
LIKE_NOISE = 8  # volumes of noise alone that are counted to the local scale: few say little
POWER_WIDTH = 1.0  # voxels, window of the local power
MAD = 1.4826  # standard deviation of a Gaussian over its median absolute deviation

VolumeOf = Callable[[int], np.ndarray]  # (X, Y, Z) residual of a volume over its noise
Located = tuple["Cluster", np.ndarray]  # a cluster, and its voxels (n, 3)


@dataclass(frozen=True)
class Cluster:
    """A place where a volume's residual stands above noise, at a family-wise level of 1 %."""

    volume: int  # from 0
    centre: tuple[int, int, int]  # voxel where it is strongest
    n_voxels: int
    peak: float  # of the filtered residual, in its standard deviations; signed
    amplitude: float  # mean of the residual there, in sigma; signed


@dataclass(frozen=True)
class Above:
    """Voxels of one volume, filtered at one width, that lie above `EXTENT`.

    places  (n,)  in the flattened box around the mask
    z       (n,)  in standard deviations
    """

    places: np.ndarray
    z: np.ndarray


def find_clusters(
    residual: VolumeOf, n_volumes: int, mask: np.ndarray, covariance: np.ndarray | None
) -> tuple[Cluster, ...]:
    """The clusters of a residual, strongest first.

    residual    of a volume by its number, (X, Y, Z), over the noise's standard deviation
    mask        (X, Y, Z) bool         where to look
    covariance  (2Lx+1, 2Ly+1, 2Lz+1)  noise autocorrelation, centre 1; None for white noise
    """
    located = locate_clusters(residual, n_volumes, mask, covariance)
    return tuple(cluster for cluster, _ in located)


def locate_clusters(
    residual: VolumeOf, n_volumes: int, mask: np.ndarray, covariance: np.ndarray | None
) -> list[Located]:
    """The clusters of a residual and the voxels of each, strongest first; as `find_clusters`."""
    if not mask.any():
        return []
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    inside = mask[box]
    expected = [filtered_sd(covariance, width) for width in WIDTHS]
    limited = np.zeros((len(WIDTHS), *inside.shape), dtype=np.float32)
    above: list[list[Above]] = []
    of_volume = partial(_deviations, residual=residual, box=box, inside=inside, expected=expected)
    n_threads = torch.get_num_threads()
    with ThreadPoolExecutor(n_threads) as pool:  # filters let go of the interpreter
        for start in range(0, n_volumes, n_threads):  # a few volumes in memory at a time
            some = range(start, min(start + n_threads, n_volumes))
            for found, power in pool.map(of_volume, some):
                above.append(found)
                limited += power
    n_like = n_volumes + LIKE_NOISE
    scale = np.sqrt(np.maximum(1, (limited / OF_LIMITED + LIKE_NOISE) / n_like))
    n_tests = n_volumes * len(WIDTHS) * np.count_nonzero(inside)
    threshold = float(stats.norm.isf(CHANCE / (2 * n_tests)))
    offset = np.array([axis.start for axis in box])
    located = []
    for v, one in enumerate(above):
        if pieces := list(_clusters_of(one, scale, inside.shape, threshold)):
            r = residual(v)[box]
            located += [_described(r, v, z, voxels, offset) for z, voxels in pieces]
    return sorted(located, key=lambda one: -abs(one[0].peak))


def put_back(
    denoised: np.ndarray, noisy: np.ndarray, mask: np.ndarray, covariance: np.ndarray | None
) -> list[Located]:
    """Give a result back what the clusters of its residual hold of signal, in place.

    denoised    (X, Y, Z, V)           changed in the clusters alone; sigma = 1 units
    noisy       (X, Y, Z, V)           the scan in the same units
    mask        (X, Y, Z) bool         where to look
    covariance  (2Lx+1, 2Ly+1, 2Lz+1)  noise autocorrelation, centre 1; None for white noise

    Returns the clusters, strongest first.
    """

    def residual(v: int) -> np.ndarray:
        return np.asarray(noisy[..., v] - denoised[..., v])

    located = locate_clusters(residual, noisy.shape[3], mask, covariance)
    found = [signal_in(residual(cluster.volume), mask, voxels) for cluster, voxels in located]
    for (cluster, voxels), signal in zip(located, found, strict=True):
        denoised[(*voxels.T, cluster.volume)] += signal
    return located


def signal_in(residual: np.ndarray, mask: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """(n,) what of a volume's residual is signal in some voxels; sigma units.

    residual  (X, Y, Z)       of one volume, sigma = 1
    mask      (X, Y, Z) bool
    voxels    (n, 3)
    """
    margin = int(np.ceil(4 * POWER_WIDTH))
    low, high = np.maximum(voxels.min(axis=0) - margin, 0), voxels.max(axis=0) + margin + 1
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    inside = mask[box].astype(np.float32)
    square = residual[box].astype(np.float32) ** 2 * inside
    power = ndimage.gaussian_filter(square, POWER_WIDTH, mode="constant")
    power /= np.maximum(ndimage.gaussian_filter(inside, POWER_WIDTH, mode="constant"), 1e-3)
    share = np.maximum(0, 1 - 1 / np.maximum(power, 1e-6))
    return np.asarray(residual[tuple(voxels.T)] * share[tuple((voxels - low).T)])


def filtered_sd(covariance: np.ndarray | None, width: float) -> float:
    """Standard deviation of noise of variance 1 after a Gaussian filter of that width."""
    reach = int(np.ceil(6 * width))
    lags = np.arange(-reach, reach + 1)
    line = np.exp(-(lags**2) / (4 * width**2)) / (2 * width * np.sqrt(np.pi))
    if covariance is None:
        return float(line[reach] ** 1.5)
    lines = [
        line[reach - min(n // 2, reach) : reach + min(n // 2, reach) + 1] for n in covariance.shape
    ]
    kept = tuple(
        slice(n // 2 - len(one) // 2, n // 2 + len(one) // 2 + 1)
        for n, one in zip(covariance.shape, lines, strict=True)
    )
    variance = np.einsum("ijk,i,j,k", covariance[kept], *lines)
    return float(np.sqrt(max(variance, line[reach] ** 3)))


def _deviations(
    v: int,
    residual: VolumeOf,
    box: tuple[slice, ...],
    inside: np.ndarray,
    expected: list[float],
) -> tuple[list[Above], np.ndarray]:
    """What of one volume lies far out at each width, and min(z², LIMIT) there, (W, x, y, z)."""
    filtered = np.where(inside, residual(v)[box], 0).astype(np.float32)
    found, limited = [], np.empty((len(WIDTHS), *inside.shape), dtype=np.float32)
    for i, width in enumerate(WIDTHS):
        further = np.sqrt(width**2 - (WIDTHS[i - 1] ** 2 if i else 0))  # Gaussians add up
        filtered = ndimage.gaussian_filter(filtered, further, mode="constant")
        values = filtered[inside]
        spread = MAD * float(np.median(np.abs(values - np.median(values))))
        z = filtered / np.float32(max(spread, expected[i]))
        np.minimum(z**2, LIMIT, out=limited[i])
        places = np.flatnonzero((np.abs(z) > EXTENT) & inside)
        found.append(Above(places, z.ravel()[places]))
    return found, limited


def _clusters_of(
    found: list[Above], scale: np.ndarray, shape: tuple[int, ...], threshold: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Deviations (x, y, z) and voxels (n, 3) of every cluster of one volume with such a peak.

    scale  (W, x, y, z)  local scale at each width
    """
    z = np.zeros(int(np.prod(shape)), dtype=np.float32)
    for one, local in zip(found, scale, strict=True):
        value = one.z / local.ravel()[one.places]
        is_more = np.abs(value) > np.abs(z[one.places])
        z[one.places[is_more]] = value[is_more]
    if np.abs(z).max(initial=0) <= threshold:
        return
    field = z.reshape(shape)
    for sign in (1, -1):
        pieces, n = ndimage.label(sign * field > EXTENT)
        peaks = ndimage.maximum(sign * field, pieces, np.arange(1, n + 1)) if n else []
        for i in np.flatnonzero(np.asarray(peaks) > threshold):
            yield field, np.argwhere(pieces == i + 1)


def _described(
    residual: np.ndarray, v: int, z: np.ndarray, voxels: np.ndarray, offset: np.ndarray
) -> Located:
    """The cluster and its voxels on the whole grid."""
    values = z[tuple(voxels.T)]
    strongest = int(np.abs(values).argmax())
    x, y, slice_ = (int(i) for i in voxels[strongest] + offset)
    amplitude = float(residual[tuple(voxels.T)].mean(dtype=np.float64))
    cluster = Cluster(v, (x, y, slice_), len(voxels), float(values[strongest]), amplitude)
    return cluster, voxels + offset
