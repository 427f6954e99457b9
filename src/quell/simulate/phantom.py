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
from scipy.ndimage import gaussian_filter

from ..series import Series
from .anatomy import (
    CSF,
    DEEP,
    GREY,
    LESION,
    SCALP,
    WHITE,
    PhantomSettings,
    place_lesion,
    tissue_fractions,
)
from .fibres import bundles
from .schemes import scheme

WHITE_MATTER_B0 = 750.0
S0 = {CSF: 1650.0, GREY: 950.0, WHITE: 750.0, DEEP: 870.0, LESION: 1350.0, SCALP: 260.0}
ISOTROPIC = {CSF: 3.0e-3, DEEP: 0.75e-3, LESION: 0.9e-3, SCALP: 0.4e-3}  # mm²/s
GREY_TENSOR = (0.9e-3, 0.75e-3)  # along and across the way into the cortex, mean 0.8e-3
BUNDLE_TENSOR = (1.7e-3, 0.3e-3)
RADIAL_TENSOR = (1.2e-3, 0.5e-3)  # what is in no bundle fans out more

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
