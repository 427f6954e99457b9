"""Scans at the edges of what quell is for, made from formulas, each with its truth.

Here    A head of phantom B's make, coarse and small, unless the condition is another object. Noise
        is Rician and correlated unless the condition is the noise. Everything follows from SEED.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import nibabel as nib
import numpy as np
from quality_scans import put_floor
from scipy import fft, ndimage

from quell.series import Series
from quell.simulate import PhantomSettings, corrupt, g_factor, phantom

SEED = 0
CORRELATION = (0.17, 0.34, 0.0)
GRID, VOXEL_MM = (38, 46, 6), 4.2
WHITE = 3  # of the phantom's tissues


@dataclass(frozen=True)
class EdgeScan:
    """One scan and what it should be.

    noisy  as a user would have it
    goal   (X, Y, Z, V)     the truth, with the noise floor of a magnitude
    where  (X, Y, Z) bool   the object, where a result is scored
    sigma  (X, Y, Z)        true noise of one Gaussian part
    fa     whether a tensor can be fitted
    """

    noisy: Series
    goal: np.ndarray
    where: np.ndarray
    sigma: np.ndarray
    fa: bool = False


@cache
def head(
    n_b0: int, shells: tuple[tuple[float, int], ...], depth: int = 6
) -> tuple[Series, np.ndarray]:
    """The truth and its tissues."""
    settings = PhantomSettings(
        (*GRID[:2], depth), VOXEL_MM, n_b0, shells, seed=28, supersample=4,
        brain_mm=(66.5, 80.0, 66.0), slab_mm=10.0, ventricle=1.35,
    )  # fmt: skip
    made = phantom(settings)
    return replace(made.clean, mask=None), made.tissue


def scan_of(
    clean: Series,
    tissue: np.ndarray,
    snr: float = 15.0,
    sigma: np.ndarray | None = None,
    law: str = "rician",
    fa: bool = False,
) -> EdgeScan:
    """Noise on a truth; snr of white matter at b=0 (750)."""
    shape = clean.data.shape[:3]
    sigma = np.full(shape, 750.0 / snr, np.float32) if sigma is None else sigma
    rng = np.random.default_rng(SEED)
    data = corrupt(clean.data, sigma, rng, law, correlation=CORRELATION)
    goal = put_floor(clean.data, sigma, law) if law == "rician" else clean.data
    return EdgeScan(replace(clean, data=data), goal, (tissue > 0) & (tissue < 6), sigma, fa)


def brain(snr: float, n_b0: int = 3, n: int = 24) -> Callable[[], EdgeScan]:
    return lambda: scan_of(*head(n_b0, ((1000.0, n),)), snr=snr, fa=n >= 6)


def some_volumes(V: int) -> Callable[[], EdgeScan]:
    """The first b=0 and directions of the whole scheme, V in all."""
    return lambda: scan_of(*head(1, ((1000.0, V - 1),)), fa=V >= 7)


def one_volume(depth: int) -> Callable[[], EdgeScan]:
    def make() -> EdgeScan:
        clean, tissue = head(1, ((1000.0, 6),))
        middle = slice(3 - depth // 2, 3 - depth // 2 + depth)
        clean = replace(
            clean, data=clean.data[:, :, middle, :1], bvals=clean.bvals[:1], bvecs=clean.bvecs[:1]
        )
        return scan_of(clean, tissue[:, :, middle])

    return make


def changed(change: Callable[[EdgeScan], EdgeScan], snr: float = 15.0) -> Callable[[], EdgeScan]:
    """The plain scan with something done to it."""
    return lambda: change(brain(snr)())


def with_data(scan: EdgeScan, data: np.ndarray, **known: np.ndarray) -> EdgeScan:
    return replace(scan, noisy=replace(scan.noisy, data=data.astype(np.float32)), **known)


def single_slice() -> EdgeScan:
    scan, here = brain(15.0)(), np.s_[:, :, 3:4]
    noisy = replace(scan.noisy, data=scan.noisy.data[here])
    return replace(scan, noisy=noisy, goal=scan.goal[here], where=scan.where[here],
                   sigma=scan.sigma[here])  # fmt: skip


def steep() -> EdgeScan:
    clean, tissue = head(3, ((1000.0, 24),))
    return scan_of(clean, tissue, sigma=50 * g_factor(tissue.shape, 3.0))


def unequal() -> EdgeScan:
    clean, tissue = head(3, ((1000.0, 24),))
    low, high = (scan_of(clean, tissue, snr=snr) for snr in (15.0, 10.0))
    data, goal = low.noisy.data.copy(), low.goal.copy()
    data[..., 1::2], goal[..., 1::2] = high.noisy.data[..., 1::2], high.goal[..., 1::2]
    return with_data(low, data, goal=goal)


def interpolated(scan: EdgeScan) -> EdgeScan:
    """Resampled half a voxel along x: smoother noise, and a smoother truth."""
    half = (0.5, 0, 0, 0)
    data, goal = (
        ndimage.shift(x, half, order=1, mode="nearest") for x in (scan.noisy.data, scan.goal)
    )
    return with_data(scan, data, goal=goal)


def zero_filled(scan: EdgeScan) -> EdgeScan:
    """The outer fifth of k-space along y empty, of complex images; their magnitude."""
    clean, tissue = head(3, ((1000.0, 24),))
    rng = np.random.default_rng(SEED)
    parts = [corrupt(x, 50.0, rng, "gaussian") for x in (clean.data, 0 * clean.data)]
    n = clean.data.shape[1]
    is_empty = np.abs(fft.fftfreq(n)) > 0.4

    def filled(image: np.ndarray) -> np.ndarray:
        kspace = fft.fft(image, axis=1)
        kspace[:, is_empty] = 0
        return fft.ifft(kspace, axis=1)

    goal = np.abs(filled(clean.data.astype(complex)))
    goal = put_floor(goal, np.full(tissue.shape, 50 * np.sqrt(0.8), np.float32), "rician")
    return with_data(scan, np.abs(filled(parts[0] + 1j * parts[1])), goal=goal)


def quantised(scan: EdgeScan) -> EdgeScan:
    step = 50.0
    return with_data(scan, np.round(scan.noisy.data / step) * step)


def moved(scan: EdgeScan) -> EdgeScan:
    """The last third of the volumes lies one voxel further along y."""
    n = scan.goal.shape[3] * 2 // 3
    data, goal = scan.noisy.data.copy(), scan.goal.copy()
    for x in (data, goal):
        x[..., n:] = np.roll(x[..., n:], 1, axis=1)
    return with_data(scan, data, goal=goal)


def dropped(scan: EdgeScan) -> EdgeScan:
    """Two slices of single volumes without signal: the truth has none either."""
    data, goal = scan.noisy.data.copy(), scan.goal.copy()
    for z, v in ((2, 8), (4, 15)):
        data[:, :, z, v] *= 0.1
        goal[:, :, z, v] *= 0.1
    return with_data(scan, data, goal=goal)


def one_structure(scan: EdgeScan) -> EdgeScan:
    """81 voxels at 5 sigma in one volume."""
    places = np.argwhere(ndimage.binary_erosion(scan.where, iterations=2))
    place = places[len(places) // 2]
    distance = ((np.indices(scan.where.shape) - place[:, None, None, None]) ** 2).sum(axis=0)
    ball = np.zeros(scan.where.shape, bool)
    ball.flat[np.argsort(distance, axis=None, kind="stable")[:81]] = True
    data, goal = scan.noisy.data.copy(), scan.goal.copy()
    for x in (data, goal):
        x[..., 10] += 250 * ball
    return with_data(scan, data, goal=goal)


def masked(scan: EdgeScan) -> EdgeScan:
    """A mask of the white matter; the whole head is scored."""
    white = head(3, ((1000.0, 24),))[1] == WHITE
    return replace(scan, noisy=replace(scan.noisy, mask=white))


def stripped(scan: EdgeScan) -> EdgeScan:
    """Zero outside the head, but for stray voxels."""
    stray = np.random.default_rng(SEED).random(scan.where.shape) < 0.003
    return with_data(scan, scan.noisy.data * (scan.where | stray)[..., None])


def no_air(scan: EdgeScan) -> EdgeScan:
    here = np.s_[9:29, 10:36]
    noisy = replace(scan.noisy, data=scan.noisy.data[here])
    return replace(scan, noisy=noisy, goal=scan.goal[here], where=scan.where[here],
                   sigma=scan.sigma[here])  # fmt: skip


def signed() -> EdgeScan:
    return scan_of(*head(3, ((1000.0, 24),)), law="gaussian", fa=True)


def complex_data() -> EdgeScan:
    """A smooth phase, complex noise; scored as magnitudes along the truth's phase."""
    clean, tissue = head(3, ((1000.0, 24),))
    x, y = (np.linspace(-1, 1, n) for n in tissue.shape[:2])
    phase = np.exp(1j * (2 * x[:, None] + 1.5 * y**2))[:, :, None, None]
    rng = np.random.default_rng(SEED)
    parts = [corrupt(0 * clean.data, 50.0, rng, "gaussian", correlation=CORRELATION) for _ in "ri"]
    goal = (clean.data * phase).astype(np.complex64)
    data = (goal + parts[0] + 1j * parts[1]).astype(np.complex64)
    sigma = np.full(tissue.shape, 50.0, np.float32)
    where = (tissue > 0) & (tissue < 6)
    return EdgeScan(replace(clean, data=data), goal, where, sigma)


# ---- other objects ---------------------------------------------------------------------------


def object_of(
    values: np.ndarray, bvals: np.ndarray | None, bvecs: np.ndarray | None, sigma: float,
    voxel_mm: tuple[float, float, float], fourth_axis: str = "directions", fa: bool = False,
) -> EdgeScan:  # fmt: skip
    """Noise on an object (X, Y, Z, V); it is where the first volume is not 0."""
    affine = np.diag([-voxel_mm[0], *voxel_mm[1:], 1.0])
    header = nib.Nifti1Header()
    header.set_data_shape(values.shape)
    header.set_zooms((*voxel_mm, 1.0))
    rng, values = np.random.default_rng(SEED), values.astype(np.float32)
    data = corrupt(values, sigma, rng, "rician", correlation=CORRELATION)
    sigmas = np.full(values.shape[:3], sigma, np.float32)
    series = Series(data, affine, header, bvals=bvals, bvecs=bvecs, fourth_axis=fourth_axis)
    return EdgeScan(series, put_floor(values, sigmas, "rician"), values[..., 0] > 0, sigmas, fa)


def coordinates(shape: tuple[int, int, int]) -> list[np.ndarray]:
    return np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")


def gradients() -> tuple[np.ndarray, np.ndarray]:
    clean, _ = head(3, ((1000.0, 24),))
    return clean.bvals, clean.bvecs


def attenuated(S0: np.ndarray, along: float, across: float) -> np.ndarray:
    """A tensor along z, diffusivities in mm²/s."""
    b, g = gradients()
    D = across + (along - across) * g[:, 2] ** 2
    return S0[..., None] * np.exp(-b * D)


def cord() -> EdgeScan:
    """A thin cylinder of fibres in fluid, 0.9 x 0.9 x 5 mm."""
    x, y, _ = coordinates((40, 40, 8))
    r = np.hypot(x, y)
    values = attenuated(700.0 * (r < 0.22), 1.7e-3, 0.3e-3)
    values += attenuated(1400.0 * ((r >= 0.22) & (r < 0.4)), 3e-3, 3e-3)
    return object_of(values, *gradients(), 50.0, (0.9, 0.9, 5.0))


def sphere() -> EdgeScan:
    """A sphere of water: a tensor without a direction."""
    x, y, z = coordinates((36, 36, 8))
    S0 = 1000.0 * (np.sqrt(x**2 + y**2 + 0.3 * z**2) < 0.8)
    return object_of(attenuated(S0, 2e-3, 2e-3), *gradients(), 50.0, (2, 2, 2), fa=True)


def rodent() -> EdgeScan:
    """The head's pattern at voxels of 0.15 x 0.15 x 0.4 mm."""
    scan = brain(12.0)()
    affine = np.diag([-0.15, 0.15, 0.4, 1.0])
    header = scan.noisy.header.copy()
    header.set_zooms((0.15, 0.15, 0.4, 1.0))
    return replace(scan, noisy=replace(scan.noisy, affine=affine, header=header))


def body() -> EdgeScan:
    """Organs of different T2 in ten breath-holds, each shifted by up to a voxel."""
    x, y, _ = coordinates((44, 36, 6))
    values = []
    for shift in np.random.default_rng(1).uniform(-0.03, 0.03, 10):
        trunk = np.hypot(x / 0.9, y / 0.85) < 1
        organ = np.hypot((x - 0.35) / 0.35, (y + shift) / 0.4) < 1
        kidney = np.hypot((x + 0.45) / 0.2, (y + shift) / 0.3) < 1
        values.append(trunk * (350.0 + 400 * organ + 800 * kidney))
    data = np.stack(values, axis=3)
    return object_of(data, None, None, 50.0, (2.5, 2.5, 5.0), "repetitions")


def activation() -> EdgeScan:
    """40 repetitions; a block design of 1 sigma in 60 voxels of the cortex."""
    clean, tissue = head(1, ((1000.0, 6),))
    image = clean.data[..., 0]
    values = np.repeat(image[..., None], 40, axis=3)
    places = np.argwhere(tissue == 2)
    near = places[np.argsort(((places - places[len(places) // 2]) ** 2).sum(axis=1))[:60]]
    blocks = (np.arange(40) // 5) % 2
    values[tuple(near.T)] += 50.0 * blocks
    scan = object_of(values, None, None, 50.0, (VOXEL_MM,) * 3, "repetitions")
    return replace(scan, where=(tissue > 0) & (tissue < 6))


def contrasts() -> EdgeScan:
    """Five contrasts of one head."""
    _, tissue = head(1, ((1000.0, 6),))
    levels = np.zeros((7, 5), np.float32)  # of a tissue in every contrast
    levels[1:] = (
        (1650, 900, 300, 700, 1200), (950, 800, 700, 650, 900), (750, 900, 900, 600, 700),
        (870, 850, 800, 620, 800), (1350, 700, 600, 900, 1400), (260, 400, 500, 300, 200),
    )  # fmt: skip
    values = ndimage.gaussian_filter(levels[tissue], (0.5, 0.5, 0, 0))
    scan = object_of(values, None, None, 40.0, (VOXEL_MM,) * 3, "contrasts")
    return replace(scan, where=(tissue > 0) & (tissue < 6))


CONDITIONS: dict[str, Callable[[], EdgeScan]] = {
    "SNR 30": brain(30.0),
    "SNR 15": brain(15.0),
    "SNR 7.5": brain(7.5),
    "one image": one_volume(6),
    "one slice of one image": one_volume(1),
    "2 volumes": some_volumes(2),
    "3 volumes": some_volumes(3),
    "4 volumes": some_volumes(4),
    "1 b0 + 6, SNR 15": some_volumes(7),
    "1 b0 + 6, SNR 30": lambda: scan_of(*head(1, ((1000.0, 6),)), snr=30.0, fa=True),
    "1 b0 + 6, SNR 60": lambda: scan_of(*head(1, ((1000.0, 6),)), snr=60.0, fa=True),
    "8 volumes": some_volumes(8),
    "12 volumes": some_volumes(12),
    "two shells": lambda: scan_of(*head(2, ((1000.0, 12), (2000.0, 12)))),
    "one slice, 27 volumes": single_slice,
    "steep g-factor": steep,
    "every other volume 1.5 x the noise": unequal,
    "interpolated": changed(interpolated),
    "zero-filled": changed(zero_filled),
    "quantised to 1 sigma": changed(quantised),
    "a third moved by a voxel": changed(moved),
    "dropped slices": changed(dropped),
    "81 voxels at 5 sigma in one volume": changed(one_structure),
    "mask of white matter": changed(masked),
    "skull-stripped with stray voxels": changed(stripped),
    "no air, no mask": changed(no_air),
    "cord": cord,
    "sphere of water": sphere,
    "rodent": rodent,
    "body, ten breath-holds": body,
    "signed": signed,
    "complex": complex_data,
    "repetitions with activation": activation,
    "five contrasts": contrasts,
}
