"""SNR and CNR in the corpus callosum, against the noise in air or against what a referee shows.

Paper   DDM2: Xiang et al., ICLR 2023, its notebook of quantitative metrics, which follows DIPY's
        example of SNR estimation.
Idea    The corpus callosum is found by its colour: strong anisotropy from left to right, in the
        middle of the brain. SNR is its mean signal over the noise, CNR its contrast over the noise.
Trap    DDM2 takes the noise from air. Air says nothing about the brain, and whoever flattens it
        wins: with zeroed air SNR is infinite. `flattened` tells, and then there is no figure.
Here    `snr_of_errors` takes the noise from the errors in the corpus callosum itself, against a
        truth or a second acquisition. What a method does to the air can't change it.
Differs DDM2 stretches every plane between its own extremes first, so that removing one bright
        outlier raises the SNR; that is in `published.py`. Here data units stay.
"""

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage

from ..series import B0_MAX
from .reference import masked
from .tensor import fit_tensors

COLOUR = (0.6, 1.0, 0.0, 0.1, 0.0, 0.1)  # of the callosum: left-right, forward, up; least and most
DILATED = 10  # voxels from the brain to what counts as air
FLAT = 0.1  # of the scan's noise in air: no method leaves so little in the brain
ZEROS = 0.1  # share of the air that may be 0
FEW_VOXELS = 10  # of air or callosum, in a whole scan


@dataclass(frozen=True)
class Change:
    """By how much a score of every volume differs from the noisy scan's."""

    mean: float
    sd: float
    best: float
    worst: float
    p: float  # of no change on average, two-sided t-test of pairs; NaN with one volume


def corpus_callosum(
    data: np.ndarray, bvals: np.ndarray, bvecs: np.ndarray, mask: np.ndarray, affine: np.ndarray
) -> np.ndarray:
    """(X, Y, Z) bool: where colour FA says corpus callosum, in the middle half of the brain's box.

    data    (X, Y, Z, V)  data units; the noisy scan, so that all its results share the place
    bvals   (V,)          s/mm²
    bvecs   (V, 3)        along the axes of the voxels
    mask    (X, Y, Z)     the brain
    affine  (4, 4)        mm: which axis runs from left to right
    """
    from dipy.segment.mask import segment_from_cfa

    box = np.zeros(mask.shape, bool)
    edges = []
    for places in np.nonzero(mask):
        low, high = int(places.min()), int(places.max())
        inset = (high - low) // 4
        edges.append(slice(low + inset, high - inset))
    box[tuple(edges)] = True
    inside = mask & box
    found = np.zeros(mask.shape, bool)
    if not inside.any():
        return found
    axes = nib.orientations.io_orientation(affine)[:, 0]  # of the world, for each of the voxels
    limits = np.array(COLOUR).reshape(3, 2)[axes.astype(int)].ravel()
    fit = fit_tensors(data[inside], bvals, bvecs)
    found[inside] = segment_from_cfa(fit, np.ones(int(inside.sum()), bool), limits)
    return found


def air_around(mask: np.ndarray) -> np.ndarray:
    """(X, Y, Z) bool: what is more than ten voxels from the brain, as DDM2 takes it."""
    return ~ndimage.binary_dilation(mask, iterations=DILATED)


def flattened(noisy: np.ndarray, denoised: np.ndarray, air: np.ndarray) -> str:
    """Why the air of a result can't be a measure of noise, in words; empty where it can.

    noisy, denoised  (X, Y, Z, V)  data units
    air              (X, Y, Z)     `air_around`
    """
    if np.count_nonzero(air) < FEW_VOXELS:
        return f"less than {FEW_VOXELS} voxels of air lie {DILATED} voxels from the brain"
    zeros = float(np.mean(denoised[air] == 0))
    if zeros > ZEROS:
        return f"{100 * zeros:.0f} % of the air is 0"
    before, after = (np.std(data[air], axis=0, dtype=np.float64) for data in (noisy, denoised))
    left = float(np.median(after / np.where(before > 0, before, np.inf)))
    if left < FLAT:
        return f"the air was flattened, to {left:.2g} of its noise"
    return ""


def snr_of_air(
    data: np.ndarray, callosum: np.ndarray, air: np.ndarray, volumes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """SNR and CNR of each volume, (G,) each: mean in the callosum, and that less the mean of air,
    over the standard deviation of air. inf where air has none.

    data           (X, Y, Z, V)  data units
    callosum, air  (X, Y, Z)     bool
    volumes        (G,)          which ones
    """
    snr, cnr = np.empty((2, len(volumes)))
    for i, v in enumerate(volumes):
        signal, noise = masked(data, callosum, v), masked(data, air, v)
        with np.errstate(divide="ignore", invalid="ignore"):
            snr[i] = signal.mean() / noise.std()
            cnr[i] = (signal.mean() - noise.mean()) / noise.std()
    return snr, cnr


def snr_of_errors(
    denoised: np.ndarray,
    reference: np.ndarray,
    callosum: np.ndarray,
    brain: np.ndarray,
    variance: float = 0.0,
) -> tuple[float, float]:
    """SNR and CNR over the errors in the corpus callosum, all volumes together.

    denoised         (X, Y, Z, G)  data units
    reference        (X, Y, Z, G)  data units; the truth, or an independent second acquisition
    callosum, brain  (X, Y, Z)     bool; CNR is the contrast of the one with the rest of the other
    variance         of the reference's own noise, which is no error of the result; 0 for a truth

    NaN where the errors are smaller than can be measured.
    """
    rest = brain & ~callosum
    volumes = range(denoised.shape[3])
    signal = np.mean([masked(denoised, callosum, v).mean() for v in volumes])
    around = np.mean([masked(denoised, rest, v).mean() for v in volumes]) if rest.any() else np.nan
    errors = [masked(denoised, callosum, v) - masked(reference, callosum, v) for v in volumes]
    mse = float(np.mean(np.square(errors))) - variance
    if mse <= 0:
        return float("nan"), float("nan")
    return float(signal / np.sqrt(mse)), float(abs(signal - around) / np.sqrt(mse))


def change_of(before: np.ndarray, after: np.ndarray) -> Change:
    """How a score of the volumes changed, pair by pair.

    before, after  (G,)  of the noisy scan and of the result
    """
    from scipy import stats  # not before: it takes half a second to load

    change = after - before
    n = len(change)
    varies = n > 1 and change.std() > 0
    p = float(stats.ttest_rel(after, before).pvalue) if varies else float("nan")
    sd = float(change.std(ddof=1)) if n > 1 else float("nan")
    return Change(float(change.mean()), sd, float(change.max()), float(change.min()), p)


def weighted_volumes(bvals: np.ndarray) -> np.ndarray:
    """(G,) the volumes that are no b=0, which DDM2 leaves out."""
    return np.flatnonzero(bvals > B0_MAX)
