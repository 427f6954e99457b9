"""Tractography: the streamlines from one region to another, and how coherent they are.

Source  DIPY's example of fibre-to-bundle coherence; Wu et al., Di-Fusion, ICLR 2025,
        arXiv:2501.13514, where it judges denoisers.
Idea    Noise turns fibre directions about. Streamlines then end early or stray, and those that
        arrive share less of their way with the others: see `coherence`.
Here    CSD gives the fibres, and the GFA of CSA (up to order 6) says where they end. DIPY's
        probabilistic tracking, one streamline for each seed. Only voxels of the mask that are near
        the regions are looked at. Coordinates are those of the affine, mm.
Differs Seeds lie at random within their cells of the voxel. On a lattice those with the same
        2x + 3y + 5z would share their random numbers, as DIPY 1.12.1 deals them.
Trap    Few streamlines are no merit. The poster of Di-Fusion counts 3091 in the noisy scan, 1862
        in its own result, 681 in DDM2's, 1524 in the noisy one after RFBC filtering, and calls few
        good. There is no truth in these numbers: fibres that a denoiser lost are missing, too.
Trap    Coherence is no merit by itself either. In phantom B with an SNR of 10 the mean RFBC of the
        corticospinal tract is 0.13, without noise 0.18, and 0.32 once the noisy scan is blurred by
        two voxels, which loses half of its streamlines. Read it beside a reference's.
Trap    GFA of noise is high: in a scan of low SNR nothing ends a streamline but the mask, and the
        results of two denoisers end in other places. A blanked scan has no streamlines at all.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from scipy.spatial import cKDTree

from ..series import B0_MAX, InputError
from .coherence import COHERENT, SHORTEST, coherence
from .crossvalidation import CSD_COEFFICIENTS, LEAST_DIRECTIONS, ROI_FA, response_of
from .directions import shells
from .tensor import gradients_of

CSA_ORDER = 6  # of the harmonics; 4 with fewer than 28 directions
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class TractographySettings:
    density: int = 4  # seeds along each edge of a voxel: 64 in it
    most_seeds: int = 20_000  # of a larger region, so many at random: about half a minute
    gfa: float = 0.25  # streamlines end where it is lower
    step_mm: float = 0.5
    max_angle: float = 30.0  # degrees from one step to the next
    tolerance_mm: float = 1.8  # from the middle of a target voxel; half its diagonal at least
    margin_mm: float = 30.0  # around both regions; nothing is tracked further away


@dataclass(frozen=True, eq=False)
class Bundle:
    """The streamlines that reach the target, and how far the others support them."""

    streamlines: tuple[np.ndarray, ...]  # each (points, 3) float32, mm, as the affine has them
    lfbc: tuple[np.ndarray, ...]  # each (points,) float32, over the mean of the bundle
    rfbc: np.ndarray  # (streamlines,)
    n_seeds: int  # streamlines started

    @property
    def is_coherent(self) -> np.ndarray:
        """(streamlines,) bool: what is left after cleaning."""
        return self.rfbc > COHERENT


def fibre_bundle(
    data: np.ndarray,
    bvals: np.ndarray,
    bvecs: np.ndarray,
    mask: np.ndarray,
    affine: np.ndarray,
    seeds: np.ndarray,
    target: np.ndarray,
    seed: int,
    settings: TractographySettings | None = None,
    response: tuple[np.ndarray, float] | None = None,
) -> Bundle:
    """Track from one region and keep what reaches the other.

    data      (X, Y, Z, V)  data units
    bvals     (V,)          s/mm²; the shell of most directions is used
    bvecs     (V, 3)        unit vectors as in FSL's files, zeros for b=0
    mask      (X, Y, Z)     where there is brain
    affine    (4, 4)        mm
    seeds     (X, Y, Z)     where to start
    target    (X, Y, Z)     what to reach
    seed      of the random numbers; the same one gives the same streamlines
    response  of CSD; default: this scan's own. Give all results of a scan that of the raw one, by
              `tract_response`

    Without any streamline the bundle is empty. Raises InputError for regions that are empty, not
    in the mask or not apart, too few directions, and a scan without a response.
    """
    settings = settings or TractographySettings()
    volumes = _one_shell(bvals)
    _refuse_regions(mask, seeds, target)
    seeds, target = seeds & mask, target & mask
    box = _box(seeds | target, affine, settings.margin_mm)
    here = _affine_of(box, affine)
    starts, voxels = seed_points(_padded(seeds[box]), here, settings, np.random.default_rng(seed))
    gradients = gradients_of(bvals[volumes], along_axes(bvecs[volumes], affine))
    values, where = data[box][..., volumes], mask[box]
    gfa = _gfa(values, gradients, where)
    is_fibre = gfa > settings.gfa
    if not (is_fibre & seeds[box]).any():  # as in a blanked scan, which has no response either
        return Bundle((), (), np.zeros(0), len(starts))
    if response is None:
        response = tract_response(data, bvals, bvecs, mask)
    odf = _odf(values, gradients, is_fibre, response)
    lines = _track(_padded(odf), _padded(gfa), here, starts, voxels, settings)
    kept = tuple(lines[i] for i in _arrivals(lines, target, affine, settings.tolerance_mm))
    lfbc, rfbc = coherence(kept)
    return Bundle(kept, tuple(along.astype(np.float32) for along in lfbc), rfbc, len(starts))


def coherence_scores(bundle: Bundle) -> dict[str, float]:
    """What a bundle comes to: how many arrive, together, out of how many, and the mean RFBC.

    "streamlines" that reach the target, "coherent" ones among them, "reached": share of the seeds,
    "rfbc": mean over the streamlines, NaN where there is none.
    """
    n = len(bundle.streamlines)
    return {
        "streamlines": float(n),
        "coherent": float(bundle.is_coherent.sum()),
        "reached": n / bundle.n_seeds,
        "rfbc": float(bundle.rfbc.mean()) if n else float("nan"),
    }


def tract_response(
    data: np.ndarray, bvals: np.ndarray, bvecs: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, float]:
    """CSD's response of the shell that is tracked in: eigenvalues (mm²/s), b=0 signal (data units).

    Arguments of `fibre_bundle`. Raises InputError where nothing in the middle of the brain is
    anisotropic enough.
    """
    volumes = _one_shell(bvals)
    try:
        return response_of(data[..., volumes], bvals[volumes], bvecs[volumes], mask)
    except InputError:
        raise InputError(
            f"no voxel in the middle of the brain has an FA above {ROI_FA}, so CSD has no response "
            "to track with; take that of the raw scan"
        ) from None


def along_axes(bvecs: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """(V, 3) directions along the voxel axes, of those in FSL's files.

    FSL turns x about where the affine's determinant is positive.
    """
    return bvecs * (-1 if np.linalg.det(affine[:3, :3]) > 0 else 1, 1, 1)


def seed_points(
    region: np.ndarray,
    affine: np.ndarray,
    settings: TractographySettings,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Where streamlines start, (seeds, 3) mm, and the voxels they lie in, (seeds, 3) int.

    region  (X, Y, Z) bool
    affine  (4, 4)  mm

    A voxel is cut into density³ cells with one seed in each.
    """
    n = settings.density
    cells = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    voxels = np.repeat(np.argwhere(region), len(cells), axis=0)
    chosen = np.sort(rng.permutation(len(voxels))[: settings.most_seeds])
    inside = (cells[chosen % len(cells)] + rng.random((len(chosen), 3))) / n - 0.5
    return nib.affines.apply_affine(affine, voxels[chosen] + inside), voxels[chosen]


# --- local models -------------------------------------------------------------------------------


def _one_shell(bvals: np.ndarray) -> np.ndarray:
    """Indices of the b=0 volumes and of the shell with most directions, the outer one of equals."""
    n_b0, least = int(np.sum(bvals <= B0_MAX)), LEAST_DIRECTIONS["csd"]
    weighted = [group for group in shells(bvals, len(bvals)) if (bvals[group] > B0_MAX).all()]
    shell = max(reversed(weighted), key=len, default=np.zeros(0, int))
    if n_b0 == 0 or len(shell) < least:
        raise InputError(
            f"tractography needs a b=0 and {least} directions of one shell; here are {n_b0} and "
            f"{len(shell)}"
        )
    return np.sort(np.concatenate([np.flatnonzero(bvals <= B0_MAX), shell]))


def _order(gradients: Any, most: int) -> int:
    """The highest order of the harmonics, up to a given one, that so many directions determine."""
    n = int(np.sum(~gradients.b0s_mask))
    return max(o for o, coefficients in CSD_COEFFICIENTS.items() if o <= most and coefficients <= n)


def _gfa(data: np.ndarray, gradients: Any, where: np.ndarray) -> np.ndarray:
    """(X, Y, Z): generalised FA of the ODF by constant solid angle, 0 outside `where`."""
    from dipy.reconst.shm import CsaOdfModel

    gfa = np.zeros(where.shape)
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore")  # a voxel without signal has no ODF: 0, below
        model = CsaOdfModel(gradients, sh_order_max=_order(gradients, CSA_ORDER))
        gfa[where] = np.nan_to_num(model.fit(data[where]).gfa)
    return gfa


def _odf(
    data: np.ndarray, gradients: Any, where: np.ndarray, response: tuple[np.ndarray, float]
) -> np.ndarray:
    """(X, Y, Z, coefficients): harmonics of CSD's fibre ODF, 0 outside `where`."""
    from dipy.reconst.csdeconv import ConstrainedSphericalDeconvModel

    order = _order(gradients, max(CSD_COEFFICIENTS))
    odf = np.zeros((*where.shape, CSD_COEFFICIENTS[order]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of DIPY's own keywords and basis
        model = ConstrainedSphericalDeconvModel(gradients, response, sh_order_max=order)
        odf[where] = np.nan_to_num(model.fit(data[where]).shm_coeff)
    return odf


# --- streamlines --------------------------------------------------------------------------------


def _track(
    odf: np.ndarray,
    gfa: np.ndarray,
    affine: np.ndarray,
    starts: np.ndarray,
    voxels: np.ndarray,
    settings: TractographySettings,
) -> list[np.ndarray]:
    """One streamline from every seed, both ways along the largest lobe of its voxel's ODF."""
    from dipy.data import default_sphere
    from dipy.reconst.shm import sh_to_sf
    from dipy.tracking.stopping_criterion import ThresholdStoppingCriterion
    from dipy.tracking.tracker import probabilistic_tracking

    order = next(o for o, n in CSD_COEFFICIENTS.items() if n == odf.shape[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        amplitude = sh_to_sf(odf[tuple(voxels.T)], default_sphere, sh_order_max=order)
        found = probabilistic_tracking(
            starts,
            ThresholdStoppingCriterion(gfa, settings.gfa),
            affine,
            seed_directions=default_sphere.vertices[amplitude.argmax(axis=1)],
            sh=odf,
            sphere=default_sphere,
            step_size=settings.step_mm,
            max_angle=settings.max_angle,
            # times 2x + 3y + 5z of a seed's voxel coordinates: spreads its numbers over 32 bits
            random_seed=int(2**32 / (np.dot(gfa.shape, (2, 3, 5)) + 1)),
        )
        return [np.asarray(line, dtype=np.float32) for line in found]


def _arrivals(
    lines: list[np.ndarray], target: np.ndarray, affine: np.ndarray, tolerance_mm: float
) -> np.ndarray:
    """Indices of the streamlines that pass by the target, as DIPY's `near_roi`, and aren't short.

    tolerance_mm  from the middle of a voxel; raised to half its diagonal, so as to leave no gaps
    """
    long = [i for i, line in enumerate(lines) if len(line) >= SHORTEST]
    if not long:
        return np.zeros(0, int)
    middles = cKDTree(nib.affines.apply_affine(affine, np.argwhere(target)))
    reach = max(tolerance_mm, float(np.linalg.norm(affine[:3, :3] @ [0.5, 0.5, 0.5])))
    points = np.concatenate([lines[i] for i in long])
    is_near = np.isfinite(middles.query(points, distance_upper_bound=reach)[0])
    begin = np.cumsum([0] + [len(lines[i]) for i in long[:-1]])
    return np.array(long)[np.logical_or.reduceat(is_near, begin)]


def _box(region: np.ndarray, affine: np.ndarray, margin_mm: float) -> Box:
    """The region's bounding box and a margin, cut to the grid."""
    margin = np.ceil(margin_mm / nib.affines.voxel_sizes(affine)).astype(int)
    inside = np.argwhere(region)
    low = np.maximum(inside.min(axis=0) - margin, 0)
    high = np.minimum(inside.max(axis=0) + margin + 1, region.shape)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return x, y, z


def _affine_of(box: Box, affine: np.ndarray) -> np.ndarray:
    """(4, 4): affine of what `_padded` makes of the box."""
    corner = nib.affines.apply_affine(affine, [s.start - 1 for s in box])
    return nib.affines.from_matvec(affine[:3, :3], corner)


def _padded(values: np.ndarray) -> np.ndarray:
    """One empty voxel more on each side: DIPY wants voxel coordinates above 0 for its seeds."""
    return np.pad(values, [(1, 1)] * 3 + [(0, 0)] * (values.ndim - 3))


def _refuse_regions(mask: np.ndarray, seeds: np.ndarray, target: np.ndarray) -> None:
    """Raise InputError for regions on another grid, empty, outside the mask, or not apart."""
    for name, region in (("seed", seeds), ("target", target)):
        if region.shape != mask.shape:
            raise InputError(
                f"the {name} region is {' x '.join(map(str, region.shape))} and the scan "
                f"{' x '.join(map(str, mask.shape))}; make the region on the scan's grid"
            )
        if not region.any():
            raise InputError(f"the {name} region is empty; mark some voxels of white matter")
        if not (region & mask).any():
            raise InputError(f"the {name} region lies outside the mask; mark voxels of the brain")
    if (n := int((seeds & target).sum())) > 0:
        raise InputError(
            f"the regions share {n} voxels, where streamlines have arrived before they start; "
            "mark two that lie apart"
        )
