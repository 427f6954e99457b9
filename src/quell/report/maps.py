"""The section of a page on fractional anisotropy: one slice of every result, one scale."""

from collections.abc import Mapping

import numpy as np

from .comparison import TILE_WIDTH, Picture, Section
from .figures import axis_through, planes, view_of

SHOWN = (0.0, 0.8)  # FA that is black and white


def axial_slice(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """(X, Y, Z) bool: the voxels of the mask that the page's axial slice goes through.

    mask    (X, Y, Z)
    affine  (4, 4)     mm
    """
    axis = axis_through("axial", affine)
    at = np.arange(mask.shape[axis]) == view_of(mask, affine).centre[axis]
    return mask & at.reshape([-1 if i == axis else 1 for i in range(3)])


def anisotropy_section(
    maps: Mapping[str, np.ndarray], mask: np.ndarray, affine: np.ndarray
) -> Section:
    """FA of every result.

    maps    (X, Y, Z) of each, at least in `axial_slice`
    mask    (X, Y, Z)
    affine  (4, 4)     mm
    """
    view, where = view_of(mask, affine), axial_slice(mask, affine)
    pictures = []
    for name, fa in maps.items():
        drawn = planes(fa, view, SHOWN, width=TILE_WIDTH, names=("axial",))
        said = f"mean {fa[where].mean():.3f} in this slice" if where.any() else ""
        pictures.append(Picture.plain(name, said, drawn))
    return Section(
        "Fractional anisotropy",
        f"FA {SHOWN[0]:g} black, {SHOWN[1]:g} white, up to b=1500. Noise makes it too high, most "
        "in grey matter and fluid; drawing directions together makes it too low in the fibres.",
        pictures,
    )
