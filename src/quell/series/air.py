"""Air: whether the darker part of a scan is air, or tissue of an object that leaves no air.

Idea    Otsu's threshold parts the two largest classes of an image. Where the field of view holds
        no air, or little, these are two tissues, such as brain and fluid, and the darker is lost.
Here    Air is faint, and in one image it varies as much as it is bright: mean over standard
        deviation is 1.9 for one coil and 11 for the sum of squares of 32, whatever sigma is. Tissue
        is brighter and varies less. And air is as bright with diffusion weighting as without.
Trap    Neighbours may share their noise (filters, interpolation), so the variation is taken from
        differences of voxels that lie apart.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

APART = 3  # voxels in plane
LOOKED_AT = 6  # volumes
FEW_PAIRS = 30  # below it, nothing is said of how a class varies
SCRAP = 0.5  # of the class that it was split from: so bright, a scrap of tissue is no air
MAD = 1.4826  # standard deviation of a Gaussian over its median absolute deviation
WEIGHTED = 500.0  # s/mm²; from here on tissue attenuates clearly
AIR_KEEPS = 0.95  # of its mean where diffusion is weighted; tissue 0.2 to 0.9
LOSES = 0.8  # less is left only of signal; ghosts are signal, but faint and unsteady
# Tissue over the brighter class, and over its own variation: either pair is enough. Real air has up
# to 0.09 and 8 or 0.24 and 2, or keeps its mean; dark tissue beside fluid has from 0.47 and 4.
TISSUE = ((0.25, 3.0), (0.12, 6.5))
ATTENUATED = (0.1, 3.0)  # likewise, where diffusion attenuates it
FLAT = 1.15  # variance over that of noise; air 0.8 to 1.1, tissue from 1.2 unless it is all noise
OPEN = (0.2, 2.5)  # likewise, from which on nobody should be certain of air
AS_NOISY = 0.85  # of the brighter class; air has 0.66 to 0.71 of the noise of signal
NEVER_AIR = 0.75  # of the brighter class
SPLITS = 4  # fluid from brain, grey from white, tissue from air; one more


@dataclass(frozen=True)
class _Class:
    """What the darker class of an image is like."""

    share: float  # its median over that of the brighter class
    steadiness: float  # its median over its own variation; nan: too small to tell
    spread: float  # its variance over that of differences of voxels that lie apart

    @classmethod
    def of(cls, image: np.ndarray, low: np.ndarray, high: np.ndarray) -> "_Class":
        """image, low, high (X, Y, Z)."""
        sizes = []
        for axis in (0, 1):
            n = image.shape[axis]
            near, far = (np.arange(max(n - APART, 0)) + shift for shift in (0, APART))
            pairs = low.take(near, axis) & low.take(far, axis)
            sizes.append(np.abs(image.take(near, axis)[pairs] - image.take(far, axis)[pairs]))
        differences, brighter = np.concatenate(sizes), float(np.median(image[high]))
        if brighter == 0:
            return cls(np.nan, np.nan, np.nan)
        middle = float(np.median(image[low]))
        if len(differences) < FEW_PAIRS:
            return cls(middle / brighter, np.nan, np.nan)
        total = MAD * float(np.median(np.abs(image[low] - middle)))
        variation = MAD / np.sqrt(2) * float(np.median(differences)) or 1e-6 * brighter
        return cls(middle / brighter, middle / variation, (total / variation) ** 2)


def level_above_air(image: np.ndarray, level: float, data: np.ndarray, bvals: np.ndarray) -> float:
    """The threshold, lowered until what is below it is air; 0 where all that is not 0 is tissue.

    image  (X, Y, Z)     mean of the volumes of one contrast
    level                a threshold that parts two classes of it
    data   (X, Y, Z, V)  what it was made from
    bvals  (V,)          s/mm², or empty
    """
    low, high = (image > 0) & (image <= level), image > level
    for split in range(SPLITS):
        if not is_tissue(low, high, data, bvals, may_be_flat=split > 0):
            return level
        values = image[low]
        if np.ptp(values) == 0:
            break
        level = otsu_level(values)
        high, low = low & (image > level), low & (image <= level)
    return 0.0


def otsu_level(values: np.ndarray) -> float:
    """Otsu's threshold; the middle where they are too alike, or too large, for a histogram."""
    from dipy.segment.threshold import otsu  # only for scans without a mask

    try:
        return float(otsu(values))
    except ValueError:
        return float(values.min() / 2 + values.max() / 2)


def is_tissue(
    low: np.ndarray,
    high: np.ndarray,
    data: np.ndarray,
    bvals: np.ndarray,
    may_be_flat: bool = False,
) -> bool:
    """Whether the darker class of a scan shows tissue, rather than air.

    low, high    (X, Y, Z) bool    the two classes
    data         (X, Y, Z, V)
    bvals        (V,)              s/mm², or empty; the least weighted volumes tell
    may_be_flat  a class without structure is tissue, too; else the air of many coils, unless
                 diffusion attenuates it
    """
    if not low.any() or not high.any():
        return False
    least = _least_weighted(data, bvals)
    share, steadiness = _seen(low, high, data, least)
    if np.isnan(steadiness):
        return may_be_flat and share > SCRAP
    kept = _kept(data, bvals, least, low)
    if kept is not None and kept < LOSES and share > ATTENUATED[0] and steadiness > ATTENUATED[1]:
        return True
    if not any(share > s and steadiness > r for s, r in TISSUE):
        return False
    if kept is not None:
        return kept < AIR_KEEPS
    if may_be_flat or share > NEVER_AIR:
        return True
    mean = np.mean([np.abs(data[..., v]) for v in least], axis=0)
    return _Class.of(mean, low, high).spread > FLAT or _is_as_noisy(data, least, low, high)


def is_open(mask: np.ndarray, data: np.ndarray, bvals: np.ndarray) -> bool:
    """Whether what a mask leaves out may be tissue as well as the air of many coils.

    mask   (X, Y, Z) bool
    data   (X, Y, Z, V)
    bvals  (V,)  s/mm², or empty
    """
    least = _least_weighted(data, bvals)
    out = ~ndimage.binary_dilation(mask, iterations=2) & (data[..., least[0]] != 0)
    if np.count_nonzero(out) < FEW_PAIRS:
        return False
    share, steadiness = _seen(out, mask, data, least)
    seems = share > OPEN[0] and steadiness > OPEN[1]
    return bool(seems and _kept(data, bvals, least, out) is None)


def _least_weighted(data: np.ndarray, bvals: np.ndarray) -> np.ndarray:
    """Indices of the volumes that are looked at."""
    least = np.flatnonzero(bvals == bvals.min()) if len(bvals) else np.arange(data.shape[3])
    return least[:LOOKED_AT]


def _seen(
    low: np.ndarray, high: np.ndarray, data: np.ndarray, volumes: np.ndarray
) -> tuple[float, float]:
    """Share and steadiness of the darker class, in the typical one of the volumes."""
    seen = [_Class.of(np.abs(data[..., v]), low, high) for v in volumes]
    share, steadiness = np.median([(one.share, one.steadiness) for one in seen], axis=0)
    return float(share), float(steadiness)


def _is_as_noisy(data: np.ndarray, volumes: np.ndarray, low: np.ndarray, high: np.ndarray) -> bool:
    """Whether volumes differ as much in the darker class as in the brighter.

    In the air of magnitude data they differ less: one part of the noise is across the signal.
    """
    ratios = []
    for before, after in pairwise(volumes):
        change = np.abs(data[..., after]) - np.abs(data[..., before])
        sd = [np.median(np.abs(change[part] - np.median(change[part]))) for part in (low, high)]
        ratios.append(sd[0] / sd[1] if sd[1] > 0 else 0.0)
    return bool(ratios) and bool(np.median(ratios) > AS_NOISY)


def _kept(data: np.ndarray, bvals: np.ndarray, least: np.ndarray, low: np.ndarray) -> float | None:
    """Signal left in a class where diffusion is weighted; None where no volumes tell."""
    weighted = np.flatnonzero(bvals >= WEIGHTED)[:LOOKED_AT]
    if not len(weighted) or bvals.min() >= WEIGHTED:
        return None
    before, after = (
        float(np.mean([np.median(np.abs(data[..., v][low])) for v in volumes]))
        for volumes in (least, weighted)
    )
    return after / before if before > 0 else None
