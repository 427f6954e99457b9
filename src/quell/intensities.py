"""Intensities: from a series' own range to the [-1, 1] that diffusion schedules are made for.

Idea    A schedule's noise levels mean something only relative to the range of the images.
Here    One scale for the whole series, from a high percentile in the mask, so that one hot voxel
        changes nothing and the volumes keep their proportions.
Differs The released programs of DDM² and Di-Fusion divide every volume by its own maximum and
        never multiply back: "volume-maximum", here with its inverse.
"""

from dataclasses import dataclass

import numpy as np

from .series import InputError, Series

PER = ("series", "volume-maximum")  # what one scale belongs to
BRIGHT = 99.9  # percentile that becomes 1


@dataclass(frozen=True)
class Intensities:
    """The map y -> 2 y / top - 1.

    top  (V,)  what becomes 1, for every volume
    """

    top: np.ndarray

    @staticmethod
    def of(series: Series, mask: np.ndarray, volumes: np.ndarray, per: str) -> "Intensities":
        """The scale of a series.

        mask     (X, Y, Z) bool
        volumes  (G,) int  those it is learned from
        per      "series": their percentile 99.9 in the mask; "volume-maximum": each one's own
        """
        top = np.ones(series.n_volumes, dtype=np.float32)
        if per == "volume-maximum":
            top[:] = series.data.max(axis=(0, 1, 2))
        else:
            top[:] = np.percentile(series.data[mask][:, np.unique(volumes)], BRIGHT)
        if not (top[np.unique(volumes)] > 0).all():
            raise InputError("a volume holds no signal; leave it out of the scan")
        return Intensities(top)

    def apply(self, data: np.ndarray) -> np.ndarray:
        """(X, Y, Z, V) in [-1, 1], a few bright voxels above."""
        top = np.where(self.top > 0, self.top, 1)  # an empty volume that nobody denoises
        return np.asarray(data * (2 / top) - 1, dtype=np.float32)

    def undo(self, data: np.ndarray, volumes: np.ndarray) -> np.ndarray:
        """(X, Y, Z, G) of those volumes back in the series' own units."""
        return np.asarray((data + 1) * (self.top[volumes] / 2), dtype=np.float32)

    def noise_of(self, series: Series, sigma: np.ndarray, volumes: np.ndarray) -> np.ndarray:
        """(G,) noise of those volumes, the median in the mask, [-1, 1] units.

        sigma  (X, Y, Z)  noise map, the series' units
        """
        level = np.median(sigma[series.where])
        return np.asarray(level * 2 / self.top[volumes], dtype=np.float32)

    def put_back(self, data: np.ndarray, restored: np.ndarray, volumes: np.ndarray) -> np.ndarray:
        """A series (X, Y, Z, V) with some volumes replaced, in its own units.

        restored  (X, Y, Z, G) of those volumes, [-1, 1]
        """
        out = data.astype(np.float32)
        out[..., volumes] = self.undo(restored, volumes)
        return out
