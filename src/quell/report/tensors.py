"""FA and MD before and after, in the planes that the page shows."""

import numpy as np

from ..evaluate.tensor import WORST_CONDITION, fit_tensors
from ..series import B0_MAX
from . import figures
from .facts import ReportFacts
from .pictures import Map

SINGLE_EXPONENTIAL = 1500.0  # s/mm²; far above it a tensor no longer describes tissue
MOST_VOXELS = 60_000  # of three planes; fitting them twice takes seconds
FA, FA_CHANGE = (0.0, 0.8), 0.2
MD, MD_CHANGE = (0.0, 3.0), 0.5  # 10⁻³ mm²/s; the upper one is free water at body temperature


def tensor_volumes(bvals: np.ndarray | None, bvecs: np.ndarray | None) -> np.ndarray | None:
    """(G,) volumes that a tensor is fitted to, those above 1500 s/mm² left out where the rest do.

    bvals  (V,)    s/mm²
    bvecs  (V, 3)  unit vectors, zeros for b=0

    None where the directions don't determine a tensor.
    """
    if bvals is None or bvecs is None or not np.isfinite(bvecs).all():
        return None
    for most in (SINGLE_EXPONENTIAL, np.inf):
        kept = np.flatnonzero(bvals <= most)
        weighted = kept[bvals[kept] > B0_MAX]
        x, y, z = bvecs[weighted].T
        design = np.stack([x * x, y * y, z * z, 2 * x * y, 2 * x * z, 2 * y * z], axis=1)
        has_b0 = len(weighted) < len(kept)
        if has_b0 and len(weighted) >= 6 and np.linalg.cond(design) < WORST_CONDITION:
            return kept
    return None


def fa_and_md(
    series: np.ndarray, where: np.ndarray, kept: np.ndarray, bvals: np.ndarray, bvecs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """FA and MD (10⁻³ mm²/s) in some voxels, each (X, Y, Z), 0 elsewhere.

    series  (X, Y, Z, V)  data units
    where   (X, Y, Z)     bool
    kept    (G,)          volumes that the tensor is fitted to
    bvals   (V,)          s/mm²
    bvecs   (V, 3)        unit vectors, zeros for b=0
    """
    fa, md = (np.zeros(where.shape, dtype=np.float32) for _ in range(2))
    if not where.any():
        return fa, md
    values = np.nan_to_num(series[where][:, kept].astype(np.float64))
    fit = fit_tensors(values, bvals[kept], bvecs[kept])
    fa[where], md[where] = np.nan_to_num(fit.fa), np.nan_to_num(1e3 * fit.md)
    return fa, md


def tensor_maps_shown(facts: ReportFacts, view: figures.View) -> tuple[list[Map], str]:
    """FA and MD before, after and their difference, with a sentence on how; none where it can't be.

    Only the voxels of the mask in the shown planes are fitted.
    """
    kept = tensor_volumes(facts.bvals, facts.bvecs)
    if kept is None or facts.bvals is None or facts.bvecs is None:
        return [], "Not shown: it needs a b=0 and 6 well spread directions."
    where = np.zeros_like(facts.mask)
    for axis, i in enumerate(view.centre):
        plane = [slice(None)] * 3
        plane[axis] = slice(i, i + 1)
        where[tuple(plane)] = facts.mask[tuple(plane)]
    n_voxels = int(where.sum())
    if not 0 < n_voxels <= MOST_VOXELS:
        return [], f"Not shown: {n_voxels:,} voxels of the mask lie in the three planes."
    fa: list[np.ndarray] = []
    md: list[np.ndarray] = []
    for series in (facts.noisy, facts.denoised):
        found = fa_and_md(series, where, kept, facts.bvals, facts.bvecs)
        fa.append(found[0])
        md.append(found[1])
    shown = []
    for (before, after), name, window, change, unit in (
        (fa, "FA", FA, FA_CHANGE, ""),
        (md, "MD", MD, MD_CHANGE, " × 10⁻³ mm²/s"),
    ):
        medians = [float(np.median(m[where])) for m in (before, after)]
        grey = np.where(where, after - before, 0)
        shown += [
            Map(f"{name} before", f"Median {medians[0]:.3f}{unit}.", before, window, "gray", ""),
            Map(f"{name} after", f"Median {medians[1]:.3f}{unit}.", after, window, "gray", ""),
            Map(f"{name}, after − before", "Grey is no change.", grey, (-change, change), "gray",
                ""),
        ]  # fmt: skip
    highest = facts.bvals[kept].max()
    return shown, (
        f"Weighted least squares on the {len(kept)} volumes up to b={highest:.0f} s/mm², in the "
        f"{n_voxels:,} voxels of the mask in these three planes only."
    )
