"""Slices to browse: one volume before, after and removed, every slice of it, as three pictures.

Idea    The axial slices of a volume lie side by side in one picture. A small script draws all
        three planes from it, so none of them has to be stored twice, and nothing is lost to
        compression: grain is what is looked at.
Size    A scan with more voxels than MOST_VOXELS is thinned, its finest axis first, and the page
        says so. Three pictures of 8-bit noise take at most 3 · MOST_VOXELS bytes.
"""

from dataclasses import dataclass

import nibabel as nib
import numpy as np

from . import figures
from .facts import ReportFacts
from .pictures import RESIDUAL_WINDOW, png_of

MOST_VOXELS = 1_300_000  # of the box that is shown: 5.2 MB of text for white noise


@dataclass(frozen=True)
class Browse:
    """What the script needs to draw from."""

    pictures: dict[str, str]  # "before", "after", "removed": data addresses
    grid: tuple[int, int, int]  # slices to the right, anterior, superior
    mm: tuple[float, float, float]  # between them
    columns: int  # axial slices in a row of the picture
    start: tuple[int, int, int]  # the slices that the page's other pictures show
    first: tuple[int, int, int]  # where the box begins, in voxels of the turned scan
    step: tuple[int, int, int]  # voxels from slice to slice


def browse(facts: ReportFacts, v: int, view: figures.View, window: tuple[float, float]) -> Browse:
    """The slices of a volume.

    v       which volume
    view    the box that is shown, and where to begin
    window  data units shown as black and white
    """
    to_ras = figures.orientation_of(view.affine)
    zooms = nib.affines.voxel_sizes(view.affine)
    turned_axes = to_ras[:, 0].astype(int)
    mm = np.empty(3)
    mm[turned_axes] = zooms
    marker = np.zeros(facts.mask.shape, dtype=bool)
    marker[view.centre] = True
    marker = nib.orientations.apply_orientation(marker[view.box], to_ras)
    centre = np.argwhere(marker)[0]
    step = thinning(marker.shape, mm)
    begin = centre % step  # so that the slices of the other pictures are among those kept
    cut = tuple(slice(int(b), None, int(s)) for b, s in zip(begin, step, strict=True))
    shown = {
        "before": (facts.noisy[..., v], window),
        "after": (facts.denoised[..., v], window),
        "removed": (facts.removed(v), (-RESIDUAL_WINDOW, RESIDUAL_WINDOW)),
    }
    pictures, grid, columns = {}, marker[cut].shape, 1
    for name, (volume, (low, high)) in shown.items():
        turned = nib.orientations.apply_orientation(volume[view.box], to_ras)[cut]
        grey = np.clip((np.nan_to_num(turned) - low) / (high - low), 0, 1)
        sheet, columns = side_by_side(np.round(255 * grey).astype(np.uint8))
        pictures[name] = png_of(sheet)
    first = np.empty(3, dtype=int)
    for axis, (at, sign) in enumerate(to_ras.astype(int)):
        box, size = view.box[axis], facts.mask.shape[axis]
        first[at] = (box.start if sign > 0 else size - box.stop) + begin[at]
    across, deep, tall = (float(s) for s in mm * step)
    return Browse(pictures, _three(grid), (across, deep, tall), columns,
                  _three(centre // step), _three(first), _three(step))  # fmt: skip


def thinning(shape: tuple[int, ...], mm: np.ndarray) -> np.ndarray:
    """Voxels from slice to slice along each axis (3,) so that the box fits.

    shape  (3,)  voxels of the box
    mm     (3,)  size of a voxel
    """
    step = np.ones(3, dtype=int)
    while np.prod(np.ceil(np.array(shape) / step)) > MOST_VOXELS:
        step[np.argmin(mm * step)] += 1
    return step


def side_by_side(volume: np.ndarray) -> tuple[np.ndarray, int]:
    """Axial slices of a turned volume (X, Y, Z) in rows, anterior up, and how many in a row."""
    X, Y, Z = volume.shape
    columns = max(1, round((Z * Y / X) ** 0.5))  # about square: browsers bound width and height
    rows = -(-Z // columns)
    sheet = np.zeros((rows * Y, columns * X), dtype=np.uint8)
    for z in range(Z):
        row, column = divmod(z, columns)
        sheet[row * Y : (row + 1) * Y, column * X : (column + 1) * X] = volume[:, ::-1, z].T
    return sheet, columns


def _three(values: np.ndarray | tuple[int, ...]) -> tuple[int, int, int]:
    x, y, z = (int(value) for value in values)
    return x, y, z
