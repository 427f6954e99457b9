"""A brain-like diffusion scan made from formulas, with its truth.

Source  The signal is the multi-tensor model of Tuch et al. 2002; the shapes are ours.
Idea    Every structure is a signed distance in anatomical millimetres (x to the side, y forward,
        z up, 0 between the thalami). Structures are laid over each other at sub-voxel resolution,
        so borders have partial volume, and each fibre bundle is a formula with its own tangent.
Here    Folded cortex, outer and ventricular CSF, deep grey nuclei, white matter with five bundles
        and a weaker radial population, one lesion, a scalp. b=0 signal: white matter 750 on
        average over pure voxels, deep grey 870, cortex 950, lesion 1350, CSF 1650, scalp 260;
        0 outside the head.
Differs No vessels, no susceptibility, no motion: what noise does is the only question here.
"""

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from ..series import Series
from .schemes import scheme

WHITE_MATTER_B0 = 750.0
TISSUES = ("background", "csf", "grey", "white", "deep grey", "lesion", "scalp")
CSF, GREY, WHITE, DEEP, LESION, SCALP = range(1, 7)
S0 = {CSF: 1650.0, GREY: 950.0, WHITE: 750.0, DEEP: 870.0, LESION: 1350.0, SCALP: 260.0}
ISOTROPIC = {CSF: 3.0e-3, DEEP: 0.75e-3, LESION: 0.9e-3, SCALP: 0.4e-3}  # mm²/s
GREY_TENSOR = (0.9e-3, 0.75e-3)  # along and across the way into the cortex, mean 0.8e-3
BUNDLE_TENSOR = (1.7e-3, 0.3e-3)
RADIAL_TENSOR = (1.2e-3, 0.5e-3)  # what is in no bundle fans out more
BUNDLES = ("callosum", "corticospinal", "arcuate", "cingulum", "inferior", "radial")


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


INSTANCES = {
    "A": PhantomSettings((76, 96, 24), 2.0, 6, ((1000.0, 30), (2000.0, 30)), seed=1),
    "B": PhantomSettings(
        (76, 96, 20), 2.0, 6, ((1000.0, 64),), seed=28,
        brain_mm=(66.5, 80.0, 66.0), slab_mm=10.0, warp_mm=1.7, gyrus_mm=10.8, sulcus_mm=23.0,
        ribbon_mm=2.7, ventricle=1.35, callosum_mm=(37.0, 28.5), lesion_mm=4.7,
    ),
    "small": PhantomSettings(
        (32, 36, 10), 5.0, 2, ((1000.0, 12),), seed=3, supersample=4, gyrus_mm=17.0, lesion_mm=8.0
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Phantom:
    clean: Series  # bvecs along the voxel axes, which is FSL's convention too: det(affine) < 0
    tissue: np.ndarray  # (X, Y, Z) uint8, index into TISSUES of the largest fraction
    lesion: np.ndarray  # (X, Y, Z) bool, at least half lesion
    white_matter_b0: float  # mean b=0 signal of pure white matter
    directions: np.ndarray  # (X, Y, Z, P, 3) unit tangents of the populations in BUNDLES
    fractions: np.ndarray  # (X, Y, Z, P) volume fraction of each, zero outside white matter

    @property
    def principal(self) -> np.ndarray:
        """Direction of the largest population, (X, Y, Z, 3), zeros where there is none."""
        largest = self.fractions.argmax(axis=-1)[..., None]
        direction = np.take_along_axis(self.directions, largest[..., None], axis=3)[..., 0, :]
        return direction * (np.take_along_axis(self.fractions, largest, axis=3) > 0)


def phantom(which: str | PhantomSettings = "A") -> Phantom:
    """Make a phantom; the same settings give the same bytes.

    which   name in INSTANCES ("A" to choose settings on, "B" to report on, "small" for tests)
            or settings of one's own

    Raises ValueError for a name that is not in INSTANCES.
    """
    if isinstance(which, str) and which not in INSTANCES:
        raise ValueError(f"no phantom is called {which!r}: choose from {', '.join(INSTANCES)}")
    settings = INSTANCES[which] if isinstance(which, str) else which
    rng = np.random.default_rng(settings.seed)
    bvals, bvecs = scheme(settings.n_b0, settings.shells, rng)
    tissues = tissue_fractions(settings)  # (7, X, Y, Z)
    weights, tangents = bundles(settings)  # (P, X, Y, Z), (P, 3, X, Y, Z)
    place_lesion(tissues, weights, settings, rng)
    fibres = weights * tissues[WHITE]
    data = signal(tissues, fibres, tangents, bvals, bvecs, texture(settings, rng))
    pure = tissues[WHITE] > 0.95
    data *= WHITE_MATTER_B0 / data[pure][:, bvals == 0].mean(dtype=np.float64)
    mask = tissues[CSF : LESION + 1].sum(axis=0) > 0.5
    return Phantom(
        clean=as_series(data, settings, bvals, bvecs, mask),
        tissue=tissues.argmax(axis=0).astype(np.uint8),
        lesion=tissues[LESION] >= 0.5,
        white_matter_b0=WHITE_MATTER_B0,
        directions=np.ascontiguousarray(np.moveaxis(tangents, (0, 1), (3, 4))),
        fractions=np.ascontiguousarray(np.moveaxis(fibres, 0, 3)),
    )


# --- where things are ---------------------------------------------------------------------------


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


# --- tissues ------------------------------------------------------------------------------------


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


# --- fibres -------------------------------------------------------------------------------------


def bundles(settings: PhantomSettings) -> tuple[np.ndarray, np.ndarray]:
    """Share of each population in white matter and its direction.

    Returns weights (P, X, Y, Z), which sum to 1, and unit tangents (P, 3, X, Y, Z), float32.
    """
    q = anatomical(settings, 1)
    side = np.concatenate([np.abs(q[:1]), q[1:]])
    found = [
        bundle(side, settings)
        for bundle in (callosum, corticospinal, arcuate, cingulum, inferior, radial)
    ]
    weights = np.stack([soft(inside_mm, 3.0) for inside_mm, _ in found])
    weights[-1] = 0.12 + 0.88 * np.clip(1 - weights[:-1].sum(axis=0), 0, 1)
    weights /= weights.sum(axis=0)
    tangents = np.stack([np.stack(np.broadcast_arrays(*tangent)) for _, tangent in found])
    tangents[:, 0] *= np.where(q[0] < 0, -1, 1)  # mirror to the other half
    # Tangents are of warped space. Back on the grid: solve (dq/dp) t = t_warped.
    jacobian = np.stack(np.gradient(q, settings.voxel_mm, axis=(1, 2, 3)))  # (p, q, X, Y, Z)
    matrix = np.moveaxis(jacobian, (0, 1), (-1, -2))  # (X, Y, Z, q, p)
    tangents = np.einsum("xyzpq,kqxyz->kpxyz", np.linalg.inv(matrix), tangents, optimize=True)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    return weights.astype(np.float32), tangents.astype(np.float32)


Bundle = tuple[np.ndarray, tuple[np.ndarray | float, ...]]  # depth inside in mm, tangent


def callosum(side: np.ndarray, settings: PhantomSettings) -> Bundle:
    """A sheet from half to half over the ventricles, fanning out in front and behind."""
    x, y, z = side
    y0, z0, arch = callosal_arch(x, y, z, settings)
    half_mm = 3.2 + 5.5 * np.minimum(x / 35, 1) ** 2
    inside = half_mm - np.abs(arch - 0.88) * settings.callosum_mm[1]
    inside = np.minimum.reduce([inside, z0 + 6, 50 - x])
    return inside, (np.ones_like(x), 2 * x * y0 / 45**2, 20 * x / 40**2)


def corticospinal(side: np.ndarray, settings: PhantomSettings) -> Bundle:
    """Narrow between thalamus and putamen, a fan above, crossing callosum and arcuate."""
    x, y, z = side
    up = np.maximum(z - 2, 0) / 32
    width, length = 4.5 + 13 * up**2, 7 + 20 * up**2
    a, b = (x - 22 - 0.15 * z) / width, (y + 8) / length
    inside = (1 - np.hypot(a, b)) * width
    return inside, (0.15 + a * 26 * up / 32, b * 40 * up / 32, np.ones_like(x))


def arcuate(side: np.ndarray, settings: PhantomSettings) -> Bundle:
    """Forward to backward above the lateral fissure, then round a bend and down."""
    x, y, z = side
    dy, dz = np.minimum(y + 14, 0), np.maximum(z + 8, 1e-3)  # at their limits: straight parts
    radius = np.hypot(dy, dz)
    inside = 5.5 - np.hypot(x - 34, radius - 30)
    inside = np.minimum(inside, 32 - y)
    return inside, (np.zeros_like(x), dz / radius, -dy / radius)


def cingulum(side: np.ndarray, settings: PhantomSettings) -> Bundle:
    """A thin cord on top of the callosum, bent along it."""
    x, y, z = side
    length, height = settings.callosum_mm
    y0, z0, arch = callosal_arch(0.0, y, z, settings)
    inside = np.minimum(3.8 - np.hypot(x - 8, (arch - 1.1) * height), z0 + 4)
    across = np.maximum(np.hypot(z0 / height**2, y0 / length**2), 1e-6)
    return inside, (np.zeros_like(x), z0 / height**2 / across, -y0 / length**2 / across)


def inferior(side: np.ndarray, settings: PhantomSettings) -> Bundle:
    """Front to back below the arcuate, bowed round putamen and ventricle."""
    x, y, z = side
    inside = 4.5 - np.hypot(x - 37 + 0.004 * y**2, z + 4 - 0.1 * y)
    return np.minimum(inside, 66 - np.abs(y)), (-0.008 * y, np.ones_like(x), np.full_like(x, 0.1))


def radial(side: np.ndarray, settings: PhantomSettings) -> Bundle:
    """Everything else: along the normal of the hull, into the gyri."""
    scaled = [side[i] / settings.brain_mm[i] ** 2 for i in range(3)]
    length = np.sqrt(sum(s**2 for s in scaled)) + 1e-6
    return np.zeros_like(side[0]), tuple(s / length for s in scaled)


# --- signal -------------------------------------------------------------------------------------


def texture(settings: PhantomSettings, rng: np.random.Generator) -> np.ndarray:
    """Two smooth random fields of unit variance, for T2 and for diffusivity, (2, X, Y, Z)."""
    fields = []
    for _ in range(2):
        white = rng.standard_normal(settings.shape, np.float32)
        fine, broad = (gaussian_filter(white, mm / settings.voxel_mm) for mm in (2.5, 8.0))
        fields.append(0.7 * fine / fine.std() + 0.7 * broad / broad.std())
    return np.stack(fields)


def signal(
    tissues: np.ndarray,
    fibres: np.ndarray,
    tangents: np.ndarray,
    bvals: np.ndarray,
    bvecs: np.ndarray,
    variation: np.ndarray,
) -> np.ndarray:
    """S = Σ_c f_c S0_c exp(-b gᵀ D_c g) for every volume, (X, Y, Z, V) float32.

    tissues     (7, X, Y, Z)      volume fractions
    fibres      (P, X, Y, Z)      volume fractions inside white matter
    tangents    (P, 3, X, Y, Z)   unit directions
    bvals       (V,)              s/mm²
    bvecs       (V, 3)            along the voxel axes
    variation   (2, X, Y, Z)      texture of S0 (4 %) and of the diffusivity across fibres (7 %)
    """
    t2, faster = 1 + 0.04 * variation[0], 1 + 0.07 * variation[1]
    head = tissues[0] < 1
    data = np.zeros((*head.shape, len(bvals)), np.float32)
    f, fibres, t2, faster = tissues[:, head], fibres[:, head], t2[head], faster[head]
    tangents = np.moveaxis(tangents[:, :, head], 1, 2)  # (P, voxels, 3)
    along, across = np.array([BUNDLE_TENSOR] * (len(fibres) - 1) + [RADIAL_TENSOR], np.float32).T
    for i_volume, (b, g) in enumerate(zip(bvals, bvecs.astype(np.float32), strict=True)):
        cos2 = (tangents @ g) ** 2  # (P, voxels)
        still = f[0] * 0
        for tissue, diffusivity in ISOTROPIC.items():
            still += f[tissue] * S0[tissue] * np.exp(np.float32(-b * diffusivity) * faster)
        grey = GREY_TENSOR[1] * faster + (GREY_TENSOR[0] - GREY_TENSOR[1]) * cos2[-1]
        still += f[GREY] * S0[GREY] * np.exp(-np.float32(b) * grey)
        white = across[:, None] * faster + (along - across)[:, None] * cos2
        still += S0[WHITE] * (fibres * np.exp(-np.float32(b) * white)).sum(axis=0)
        data[head, i_volume] = still * t2
    return data


def as_series(
    data: np.ndarray,
    settings: PhantomSettings,
    bvals: np.ndarray,
    bvecs: np.ndarray,
    mask: np.ndarray,
) -> Series:
    """The phantom on an oblique grid, stored left to right reversed as many scanners do."""
    tilt, turn = np.deg2rad(9.0), np.deg2rad(-4.0)
    about_x = [[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]]
    about_z = [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    affine = np.eye(4)
    affine[:3, :3] = np.array(about_x) @ about_z @ np.diag([-1, 1, 1]) * settings.voxel_mm
    affine[:3, 3] = -affine[:3, :3] @ (np.array(settings.shape) - 1) / 2
    header = nib.Nifti1Header()
    header.set_data_shape(data.shape)
    header.set_data_dtype(np.float32)
    header.set_xyzt_units("mm", "sec")
    header.set_zooms((*[settings.voxel_mm] * 3, 7.0))
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    return Series(
        data=data, affine=affine, header=header, bvals=bvals, bvecs=bvecs, mask=mask,
        stored_dtype="float32",
    )  # fmt: skip
