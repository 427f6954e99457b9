"""Pictures: a slice before, after, and what was taken away, as PNG files in memory."""

from dataclasses import dataclass
from io import BytesIO

import nibabel as nib
import numpy as np
from PIL import Image

from ..glimpse import Glimpse

RESIDUAL_WINDOW = 3.0  # ± σ, as in the report
BLUE_TO_ORANGE = np.array(  # the viewer's colours of a difference; black is none
    [[120, 200, 255], [20, 100, 200], [0, 0, 0], [200, 90, 20], [255, 200, 120]], dtype=float
)


@dataclass(frozen=True)
class Pictures:
    """What the page shows of a slice.

    number    rises with every new picture
    when      of what it is the result, in words; empty while there is none
    noisy, denoised, residual  PNG; the last two empty while there is no result
    """

    number: int
    when: str
    noisy: bytes
    denoised: bytes = b""
    residual: bytes = b""


class Painter:
    """Draws a slice as the report does: right, anterior and superior lie to the right and up.

    pictures  the last ones, replaced whole
    """

    def __init__(self, glimpse: Glimpse) -> None:
        affine, self.noisy, self.glimpse = glimpse.scan.affine, glimpse.noisy, glimpse
        self.axes = _axes_of(affine)
        across, up = np.argsort(self.axes[:2, 0])  # of the grid, as they lie in the picture
        zooms = nib.affines.voxel_sizes(affine)
        width, height = (self.noisy.shape[i] * zooms[i] for i in (across, up))
        self.aspect = float(width / height)
        values = self.noisy[glimpse.scan.where[:, :, 0] & np.isfinite(self.noisy)]
        low, high = np.percentile(values, [0.5, 99.5]) if values.size else (0.0, 1.0)
        self.low = min(0.0, float(low))
        self.high = max(float(high), self.low + 1e-6)
        self.pictures = Pictures(1, "", self._grey(self.noisy))

    def draw(self, estimate: np.ndarray, when: str) -> None:
        """Draw an estimate (X, Y), in units of the noise; `when` it is from, in words."""
        last, residual = self.pictures, self._coloured(self.noisy - estimate)
        self.pictures = Pictures(last.number + 1, when, last.noisy, self._grey(estimate), residual)

    def _grey(self, image: np.ndarray) -> bytes:
        share = np.clip((np.nan_to_num(image) - self.low) / (self.high - self.low), 0, 1)
        return self._png(share * 255)

    def _coloured(self, residual: np.ndarray) -> bytes:
        share = np.clip(np.nan_to_num(residual) / RESIDUAL_WINDOW, -1, 1) * 2 + 2  # 0 to 4
        bands = [np.interp(share, np.arange(5), BLUE_TO_ORANGE[:, c]) for c in range(3)]
        return self._png(np.stack(bands, axis=-1))

    def _png(self, image: np.ndarray) -> bytes:
        """(X, Y) or (X, Y, 3), from 0 to 255."""
        turned = nib.orientations.apply_orientation(image[:, :, None], self.axes)
        flat = turned.squeeze(axis=int(self.axes[2, 0]))
        pixels = np.round(flat.swapaxes(0, 1)[::-1]).astype(np.uint8)  # rows go down
        file = BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(file, format="PNG", compress_level=1)
        return file.getvalue()


def _axes_of(affine: np.ndarray) -> np.ndarray:
    """NiBabel's orientation (3, 2) of a grid; as stored where the affine lacks an axis."""
    orientation = nib.orientations.io_orientation(affine)
    if np.isnan(orientation).any():
        return np.array([[0, 1], [1, 1], [2, 1]], dtype=float)
    return np.asarray(orientation)
