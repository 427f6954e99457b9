"""Contrasts: other images of the same anatomy, shown to a network beside the one it denoises.

Idea    E[clean | noisy, C] is still what the loss finds while C is independent of the noise. What
        was computed from the noisy scan itself is not: the network would learn the noise from it.
Here    Signs of that are looked for: the same voxels, a sidecar that names the scan, and air
        around the head that both share. With noise of their own, the volumes of the scan explain
        nothing of the contrast's air; of a sum, a mean or a smoothed copy of them they explain
        much, however many they are. No sign is no proof: a zeroed background tells nothing.
"""

import re
from pathlib import Path

import numpy as np
from scipy import ndimage

from .background import air_of
from .series import InputError, Series, load, mask_of
from .series.reading import GRID_TOLERANCE

SHARED = 0.3  # correlation of two airs; ghosts in common and chance stay below, copies do not
N_SUMMED = 24  # volumes whose sum is looked for in a contrast; more would add up their ghosts
CHANCE = (16.0, 3.0)  # r² by chance, over 1 / voxels: of the largest of many, and of each of a sum
SMOOTH = 3.0  # voxels; ghosts and shading are wider and may well be common


def load_contrasts(paths: list[Path], scan: Series) -> np.ndarray:
    """(X, Y, Z, K) of images on the grid of a scan, magnitudes of complex ones.

    Raises InputError for another grid, and for what was made from the scan itself.
    """
    found = []
    for path in paths:
        one = load(path)
        off = float(np.abs(one.affine - scan.affine).max())
        if one.data.shape[:3] != scan.data.shape[:3] or not off <= GRID_TOLERANCE:
            raise InputError(
                f"contrast {path} is not on the grid of {scan.path}; resample it onto that grid"
            )
        data = np.abs(one.data) if np.iscomplexobj(one.data) else one.data
        refuse_made_from(scan, data, one.sidecar, str(path))
        found.append(data)
    return np.concatenate(found, axis=3)


def refuse_made_from(
    scan: Series, contrast: np.ndarray, sidecar: dict[str, object], name: str
) -> None:
    """Raise InputError for a contrast that shares its noise with the scan.

    contrast  (X, Y, Z, K)
    sidecar   of the contrast
    """
    sources = sidecar.get("Sources")
    named = [re.split(r"[/\\:]", str(s))[-1] for s in sources] if isinstance(sources, list) else []
    if scan.path and scan.path.name in named:
        raise InputError(
            f"contrast {name} was made from {scan.path.name}, says its sidecar, so it shares its "
            "noise; give an image that was acquired by itself"
        )
    if _is_copy(scan.data, contrast):
        raise InputError(
            f"contrast {name} is a volume of the scan itself; give an image that was acquired by "
            "itself"
        )
    shared = shared_noise(scan.data, contrast, mask_of(scan))
    if shared > SHARED:
        raise InputError(
            f"contrast {name} shares its noise with the scan (correlation {shared:.2f} in the "
            "air); give an image that was acquired by itself, not one computed from the scan"
        )


def _is_copy(data: np.ndarray, contrast: np.ndarray) -> bool:
    """Whether a volume of one is a volume of the other."""
    return any(
        np.array_equal(np.abs(data[..., v]), np.abs(contrast[..., k]))
        for v in range(data.shape[3])
        for k in range(contrast.shape[3])
    )


def shared_noise(data: np.ndarray, contrast: np.ndarray, mask: np.ndarray) -> float:
    """Correlation of the air of a contrast with that of a volume, or of a sum of volumes.

    data, contrast  (X, Y, Z, V) and (X, Y, Z, K)

    The largest there is; about 0 for noise of its own, and where there is no air to tell.
    """
    magnitude = np.abs(data) if np.iscomplexobj(data) else data
    parts = air_of(magnitude, mask), air_of(contrast, mask)
    if parts[0] is None or parts[1] is None or not (air := parts[0] & parts[1]).any():
        return 0.0
    others = np.stack([_ranks(_fine(contrast[..., k], air)) for k in range(contrast.shape[3])])
    V, n = magnitude.shape[3], others.shape[1]
    r2 = np.zeros((V, len(others)))
    for v in range(V):
        r2[v] = (others @ _ranks(_fine(magnitude[..., v], air)) / n) ** 2
    few = np.unique(np.linspace(0, V - 1, min(V, N_SUMMED)).astype(int))
    one = r2.max() - CHANCE[0] / n
    # the noise of volumes is independent, so what each explains of a sum of them adds up
    summed = r2[few].sum(axis=0).max() - CHANCE[1] * len(few) / n
    return float(np.sqrt(max(one, summed, 0.0)))


def _fine(volume: np.ndarray, air: np.ndarray) -> np.ndarray:
    """(voxels,) the air without what is smooth in plane."""
    window = (SMOOTH, SMOOTH, 0)
    weight = ndimage.gaussian_filter(air.astype(np.float32), window)
    smooth = ndimage.gaussian_filter(np.where(air, volume, 0), window)
    return np.asarray((volume - smooth / np.maximum(weight, 1e-6))[air])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks with mean 0 and variance 1: one bright artefact decides nothing."""
    ranks = values.argsort().argsort().astype(np.float32)
    return np.asarray((ranks - ranks.mean()) / ranks.std())
