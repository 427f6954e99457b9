"""Between the units of the scanner and those in which the noise is 1."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .stabiliser import Identity, Stabiliser

VALUES_AT_ONCE = 1 << 18  # converted together: what they pass through stays in the caches


@dataclass(frozen=True, eq=False)
class Scale:
    """Between scanner units and the units the methods work in; make it with `Scale.of`.

    sigma       (X, Y, Z) float32  noise of one Gaussian part (of each coil), scanner units, > 0
    stabiliser                     of the scan's law
    """

    sigma: np.ndarray
    stabiliser: Stabiliser

    @classmethod
    def of(cls, sigma: np.ndarray, law: str, n_coils: float = 1.0) -> "Scale":
        """The scale of a scan.

        sigma    (X, Y, Z)  noise map, scanner units
        law                 "gaussian", "rician" or "nc-chi"
        n_coils             N of nc-chi, 1 for the others

        Raises ValueError if sigma is no 3-D map, or anywhere not a positive finite number.
        """
        sigma = np.array(sigma, np.float32)
        if sigma.ndim != 3:
            raise ValueError(f"sigma has shape {sigma.shape}: give a map (X, Y, Z).")
        n_bad = int(sigma.size - np.count_nonzero((sigma > 0) & np.isfinite(sigma)))
        if n_bad:
            raise ValueError(
                f"sigma is 0, negative or not finite in {n_bad} of {sigma.size} voxels: "
                "fill them, for instance with the median of the others."
            )
        return cls(sigma, Stabiliser.of(law, n_coils))

    def apply(self, data: np.ndarray) -> np.ndarray:
        """To working units, as a new float32 array (complex64 for complex data).

        data  (X, Y, Z) or (X, Y, Z, V)  scanner units; complex only with the Gaussian law
        """
        return self._convert(data, lambda x, sigma: self.stabiliser.apply(x / sigma))

    def undo(self, denoised: np.ndarray) -> np.ndarray:
        """Back to scanner units without the noise floor; the arguments of `apply`."""
        return self._convert(denoised, lambda x, sigma: self.stabiliser.undo(x) * sigma)

    def undo_keeping_floor(self, denoised: np.ndarray) -> np.ndarray:
        """Back to scanner units as the mean magnitude, for those who remove the floor later."""
        return self._convert(denoised, lambda x, sigma: self.stabiliser.undo_to_mean(x) * sigma)

    def without_floor(self, denoised: np.ndarray) -> np.ndarray:
        """Denoised magnitudes in scanner units, their noise floor taken off."""
        return self._convert(
            denoised, lambda x, sigma: self.stabiliser.without_floor(x / sigma) * sigma
        )

    def with_floor(self, signal: np.ndarray) -> np.ndarray:
        """The mean magnitude of a signal without noise floor, scanner units."""
        return self._convert(signal, lambda x, sigma: self.stabiliser.mean_of(x / sigma) * sigma)

    def _convert(
        self, data: np.ndarray, convert: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ) -> np.ndarray:
        if data.ndim not in (3, 4) or data.shape[:3] != self.sigma.shape:
            raise ValueError(f"data {data.shape} is not on the grid of sigma {self.sigma.shape}.")
        is_complex = np.iscomplexobj(data)
        if is_complex and not isinstance(self.stabiliser, Identity):
            raise ValueError("complex data have Gaussian noise: a magnitude's law does not fit.")
        out = np.empty_like(data, dtype=np.complex64 if is_complex else np.float32)
        sigma = self.sigma.reshape(*self.sigma.shape, *[1] * (data.ndim - 3))
        n_rows = max(1, VALUES_AT_ONCE // max(1, data[:1].size))
        for start in range(0, len(data), n_rows):  # what lies together in memory
            rows = slice(start, start + n_rows)
            out[rows] = convert(data[rows], sigma[rows])
        return out
