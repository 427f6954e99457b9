"""Contrasts: other images of the same anatomy, shown to a network beside the one it denoises.

Idea    E[clean | noisy, C] is still what the loss finds while C is independent of the noise. What
        was computed from the noisy scan itself is not: the network would learn the noise from it.
Here    Two signs of that are looked for: a sidecar that names the scan or a denoising, and air
        around the head that both images share. Neither is proof of the contrary.
"""

from pathlib import Path

import numpy as np
from scipy import ndimage

from .background import air_of
from .series import InputError, Series, load, mask_of
from .series.reading import GRID_TOLERANCE

SHARED = 0.1  # correlation of the air of two images; independent noise has 1 / √voxels
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
    named = [str(s) for s in sources] if isinstance(sources, list) else []
    if scan.path and any(source.endswith(scan.path.name) for source in named):
        raise InputError(
            f"contrast {name} was made from {scan.path.name}, says its sidecar, so it shares its "
            "noise; give an image that was acquired by itself"
        )
    shared = shared_noise(np.abs(scan.data), contrast, mask_of(scan))
    if shared > SHARED:
        raise InputError(
            f"contrast {name} shares its noise with the scan (correlation {shared:.2f} in the "
            "air); give an image that was acquired by itself, not one computed from the scan"
        )


def shared_noise(data: np.ndarray, contrast: np.ndarray, mask: np.ndarray) -> float:
    """Largest correlation of any two of their volumes in the air; 0 where there is none.

    data, contrast  (X, Y, Z, V) and (X, Y, Z, K), real
    """
    air = air_of(np.concatenate([data, contrast], axis=3), mask)
    if air is None:
        return 0.0
    mine, others = (_ranks(_fine(volumes, air)) for volumes in (data, contrast))
    return float(np.abs(mine @ others.T).max() / mine.shape[1])


def _fine(volumes: np.ndarray, air: np.ndarray) -> np.ndarray:
    """(V, voxels) the air without what is smooth in plane."""
    weight = ndimage.gaussian_filter(air.astype(np.float32), (SMOOTH, SMOOTH, 0))
    parts = []
    for v in range(volumes.shape[3]):
        smooth = ndimage.gaussian_filter(volumes[..., v] * air, (SMOOTH, SMOOTH, 0))
        parts.append((volumes[..., v] - smooth / np.maximum(weight, 1e-6))[air])
    return np.stack(parts)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Each row's ranks with mean 0 and variance 1: one bright artefact decides nothing."""
    ranks = values.argsort(axis=1).argsort(axis=1).astype(np.float64)
    ranks -= ranks.mean(axis=1, keepdims=True)
    return np.asarray(ranks / ranks.std(axis=1, keepdims=True))
