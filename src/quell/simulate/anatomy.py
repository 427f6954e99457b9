"""Anatomy: where the tissues of a phantom lie.

Idea    Every structure is a signed distance in anatomical millimetres (x to the side, y forward,
        z up, 0 between the thalami). Structures are laid over each other at sub-voxel resolution,
        so borders have partial volume.
Here    Folded cortex, outer and ventricular CSF, deep grey nuclei, white matter, one lesion, a
        scalp; the shapes are ours.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

TISSUES = ("background", "csf", "grey", "white", "deep grey", "lesion", "scalp")
CSF, GREY, WHITE, DEEP, LESION, SCALP = range(1, 7)


@dataclass(frozen=True)
class PhantomSettings:
    shape: tuple[int, int, int]
    voxel_mm: float
    n_b0: int
    shells: tuple[tuple[float, int], ...]  # (b in s/mm², number of directions) each
    seed: int  # folding, warp, texture and directions
    supersample: int = 2  # points per voxel and axis where tissues meet
    brain_mm: tuple[float, float, float] = (66.0, 85.0, 68.0)  # half axes of the skull's inside
    slab_mm: float = 9.0  # height of the middle slice
    warp_mm: float = 2.0  # how far anatomy is pushed about, so that no half mirrors the other
    gyrus_mm: float = 11.5  # from sulcus to sulcus
    sulcus_mm: float = 21.0  # mean depth
    ribbon_mm: float = 3.0  # thickness of the cortex
    ventricle: float = 1.0  # width of the ventricles, 1 = young adult
    callosum_mm: tuple[float, float] = (40.0, 27.0)  # half length and height of its arch
    lesion_mm: float = 4.4  # radius


def anatomical(settings: PhantomSettings, per_voxel: int) -> np.ndarray:
    """Anatomical position of every point of the grid, (3, X·n, Y·n, Z·n) float32, mm.

    per_voxel   n, points per voxel and axis
    """
    axes = [
        ((np.arange(size * per_voxel) + 0.5) / per_voxel - size / 2) * settings.voxel_mm
        for size in settings.shape
    ]
    axes[2] += settings.slab_mm
    points = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
    rng = np.random.default_rng([settings.seed, 1])  # its own, to warp coarse and fine grid alike
    push = [waves(points, 75.0, 6, rng) for _ in range(3)]
    return points + np.float32(settings.warp_mm) * np.stack(push)


def waves(
    points: np.ndarray, length_mm: float, n_waves: int, rng: np.random.Generator
) -> np.ndarray:
    """Smooth random field of unit variance: a sum of plane waves of about one length.

    points      (3, ...)   mm
    length_mm   scalar     wavelength
    """
    k = rng.standard_normal((n_waves, 3))
    k *= 2 * np.pi / length_mm / np.linalg.norm(k, axis=1, keepdims=True)
    k *= rng.uniform(0.85, 1.15, (n_waves, 1))
    field = np.zeros(points.shape[1:], np.float32)
    phases = rng.uniform(0, 2 * np.pi, n_waves).astype(np.float32)
    for (kx, ky, kz), phase in zip(k.astype(np.float32), phases, strict=True):
        field += np.cos(kx * points[0] + ky * points[1] + kz * points[2] + phase)
    return field * np.float32(np.sqrt(2 / n_waves))


def soft(inside_mm: np.ndarray, width_mm: float) -> np.ndarray:
    """Share of a border of the given width that lies inside, 0 to 1."""
    return np.clip(0.5 + inside_mm / width_mm, 0, 1)


def ellipsoid(
    q: np.ndarray, centre: tuple[float, float, float], radii: tuple[float, float, float]
) -> np.ndarray:
    """How deep inside an ellipsoid, mm (approximate), positive inside."""
    rho = np.sqrt(sum(((q[i] - centre[i]) / radii[i]) ** 2 for i in range(3)))
    return (1 - rho) * min(radii)


def hull(q: np.ndarray, settings: PhantomSettings) -> tuple[np.ndarray, np.ndarray]:
    """Relative radius (1 on the inside of the skull) and depth below it in mm."""
    ax, ay, az = settings.brain_mm
    narrow = 1 - 0.1 * q[1] / ay  # the forehead is narrower than the back
    rho = np.sqrt((q[0] / (ax * narrow)) ** 2 + (q[1] / ay) ** 2 + (q[2] / az) ** 2)
    rho = np.maximum(rho, 0.05)
    return rho, np.sqrt((q**2).sum(axis=0)) * (1 / rho - 1)


def callosal_arch(
    x: np.ndarray | float, y: np.ndarray, z: np.ndarray, settings: PhantomSettings
) -> tuple[np.ndarray, ...]:
    """Position relative to the arch of the corpus callosum, followed out to the side.

    Fibres start at (y₀, z₀) of the midline, fan out forwards and backwards, and rise:
    y = y₀ (1 + (x/45)²),  z = z₀ + 10 (x/40)².

    Returns y₀, z₀ (mm, from the middle of the arch) and the elliptic radius, 0.88 on the arch.
    """
    length, height = settings.callosum_mm
    y0 = (y + 3) / (1 + (x / 45) ** 2)
    z0 = z + 4 - 10 * (x / 40) ** 2
    return y0, z0, np.hypot(y0 / length, z0 / height)


def tissue_fractions(settings: PhantomSettings) -> np.ndarray:
    """Volume fraction of every tissue in every voxel, (7, X, Y, Z) float32, without the lesion.

    Later tissues are laid over earlier ones; what is left over is background.
    """
    n, width = settings.supersample, settings.voxel_mm / settings.supersample
    q = anatomical(settings, n)
    side = np.concatenate([np.abs(q[:1]), q[1:]])  # left and right are alike before the warp
    rho, depth = hull(q, settings)
    cortex = cortex_depth(q, rho, depth, settings)
    layers = (
        (SCALP, np.minimum(-depth - 4, depth + 8)),
        (CSF, depth),
        (GREY, cortex),
        (WHITE, cortex - settings.ribbon_mm),
        (DEEP, deep_grey(side)),
        (CSF, ventricles(side, settings)),
    )
    fractions = np.zeros((len(TISSUES), *settings.shape), np.float32)
    fine = np.zeros((len(TISSUES), *rho.shape), np.float32)
    for tissue, inside_mm in layers:
        share = soft(inside_mm, width)
        fine *= 1 - share
        fine[tissue] += share
    x, y, z = settings.shape
    for tissue in range(1, len(TISSUES)):
        fractions[tissue] = fine[tissue].reshape(x, n, y, n, z, n).mean(axis=(1, 3, 5))
    fractions[0] = 1 - fractions.sum(axis=0)
    return fractions


def cortex_depth(
    q: np.ndarray, rho: np.ndarray, depth: np.ndarray, settings: PhantomSettings
) -> np.ndarray:
    """Depth below the folded surface of the brain in mm, negative in CSF.

    Sulci are the zero surfaces of a random field that hardly changes along the way in, cut off at
    a depth that varies; to these come the fissure between the halves and the lateral fissures.
    """
    rng = np.random.default_rng([settings.seed, 2])
    spacing = settings.voxel_mm / settings.supersample
    s = waves(q / rho**0.45, 2 * settings.gyrus_mm, 28, rng)
    slope = np.sqrt(sum(np.gradient(s, spacing, axis=i) ** 2 for i in range(3)))
    across = np.abs(s) / np.maximum(slope, 0.3 * np.pi / settings.gyrus_mm)

    *_, arch = callosal_arch(0.0, q[1], q[2], settings)
    bottom = np.maximum(1.12 - arch, 0) * settings.callosum_mm[1]
    fissure = np.hypot(q[0] + 0.8 * s, bottom) - 0.8
    slant = (q[2] + 2 + 0.7 * q[1] + 2.5 * s) / 1.22
    past_ends = np.maximum(np.abs(q[1]) - 22, 0)
    lateral = np.sqrt(slant**2 + np.maximum(44 - np.abs(q[0]), 0) ** 2 + past_ends**2) - 1.0

    reach = settings.sulcus_mm * (1 + 0.4 * waves(q, 40.0, 8, rng))
    surface = np.minimum(depth, 1.3 * fissure + 10)  # the medial wall folds too, less deeply
    spared = bottom - np.maximum(np.abs(q[0]) - 14, 0)  # no sulcus runs into the callosum
    sulcus = np.hypot(across, np.maximum.reduce([surface - reach, spared, 0 * spared])) - 0.7
    return np.minimum.reduce([depth - 2.0, sulcus, fissure, lateral])


def deep_grey(side: np.ndarray) -> np.ndarray:
    """Depth inside thalamus, putamen with pallidum, or head of the caudate, mm."""
    return np.maximum.reduce(
        [
            ellipsoid(side, (11.0, -15.0, 2.0), (8.0, 13.0, 9.0)),
            ellipsoid(side, (29.5, 5.0, -1.0), (5.0, 14.0, 10.0)),
            ellipsoid(side, (14.0, 22.0, 5.0), (4.5, 9.0, 9.0)),
        ]
    )


def ventricles(side: np.ndarray, settings: PhantomSettings) -> np.ndarray:
    """Depth inside the lateral ventricles (bent tubes along y) or the third (a slit), mm."""
    x, y, z = side
    back = np.clip((-y - 12) / 40, 0, 1)  # the tubes part towards the back
    along = (y + 9) / 46  # -1 and 1 at the tips of the horns
    thin = np.sqrt(np.clip(1 - along**2, 0.01, 1))
    radius_x = settings.ventricle * (4.2 + 2.5 * back) * thin
    off_x = x - (5.5 + 0.004 * np.maximum(y, 0) ** 2 + 17 * back**1.5) - 0.2 * settings.ventricle
    off_z = z - (9 - 0.006 * (y + 5) ** 2)
    tube = (1 - np.hypot(off_x / radius_x, off_z / (8.0 * thin))) * radius_x
    tube = np.minimum(tube, 46 * (1 - np.abs(along)))
    third = ellipsoid(side, (0.0, -8.0, -5.0), (2.0 * settings.ventricle, 13.0, 9.0))
    return np.maximum(tube, third)


def place_lesion(
    tissues: np.ndarray, weights: np.ndarray, settings: PhantomSettings, rng: np.random.Generator
) -> None:
    """Turn a lump of white matter into lesion, as far from grey matter and bundle cores as it goes.

    tissues   (7, X, Y, Z)   fractions, changed in place
    weights   (P, X, Y, Z)   of the bundles; above 0.6 is a core
    """
    free = (tissues[WHITE] > 0.9) & (weights[:-1].max(axis=0) < 0.6)
    room = distance_transform_edt(np.pad(free, 1))[1:-1, 1:-1, 1:-1]  # the slab's ends count too
    middle, off = settings.shape[0] // 2, round(18.0 / settings.voxel_mm)
    room[middle - off : middle + off] = 0  # not among the deep nuclei
    centre = np.unravel_index(room.argmax(), room.shape)
    offset = np.indices(settings.shape, np.float32) - np.reshape(centre, (3, 1, 1, 1))
    offset *= settings.voxel_mm
    radius = settings.lesion_mm * (1 + 0.12 * waves(offset, 14.0, 6, rng))
    share = soft(radius - np.sqrt((offset**2).sum(axis=0)), settings.voxel_mm)
    tissues[LESION] = share * tissues[WHITE]
    tissues[WHITE] -= tissues[LESION]
