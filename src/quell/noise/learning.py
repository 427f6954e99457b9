"""The noise of a scan, learned from the scan itself.

Idea    Rotate the volume axis to its principal components. White noise across volumes stays
        white, signal gathers in the leading components, so the trailing ones are images of pure
        noise: they show the scan's own noise map and its own spatial correlation.
Here    Magnitude data is stabilised first (`scaling`), with the noise map found so far, and the
        map is refined a few times.
Differs Real scanners correlate their noise in space (partial Fourier, filters); most denoisers
        assume white noise, this model measures it. Few volumes fall back, and `source` says so.
"""

import numpy as np

from ..background import (
    above_distant,
    air_of,
    correlation_of_squares,
    images_of_air,
    quiet_detail,
    sigma_of_air,
    sigma_of_detail,
)
from ..scaling import Scale
from ..series import LARGEST, InputError, Series
from .components import FEW_VOLUMES, noise_images, principal_components
from .correlation import autocorrelation, pairs_at_lags
from .law import law_of
from .maps import continue_outside, fill, noise_left
from .model import LAGS, NoiseModel

ALIKE = (
    "no noise can be learned: in the mask the volumes are equal, or differ by less than can be "
    "computed with; give the scan as acquired, and a mask of places where it is not zero"
)
TOO_LARGE = (
    "no noise can be learned: some values are too large to compute with, as padding or a wrong "
    "scale factor leaves them; convert the scan again"
)
REFINEMENTS = 3  # of the noise map: the stabiliser needs a map, the map a stabiliser


def learn(
    series: Series,
    mask: np.ndarray,
    law: str = "auto",
    n_coils: float | None = None,
    sigma: np.ndarray | None = None,
    raw: np.ndarray | None = None,
) -> NoiseModel:
    """Learn the noise model of a series.

    series   scanner units
    mask     (X, Y, Z) bool, where to estimate
    law      "auto": Rician for magnitude data, Gaussian for signed data
    n_coils  N; more than 1 makes "auto" nc-chi; None: 1, for nc-chi read from the background
    sigma    (X, Y, Z) a given noise map, scanner units; it is obeyed
    raw      (X, Y, Z, V) complex, what a demodulated series was made from: in air there is no
             phase to take out, and the noise turned by its own would correlate less

    Raises InputError when the mask is too small, or the map is not positive in it.
    """
    if mask.sum() < 4 * series.n_volumes:
        raise InputError(
            f"the mask holds {int(mask.sum())} voxels, too few to learn the noise of "
            f"{series.n_volumes} volumes; give a larger --mask"
        )
    law, n_coils, found = law_of(series, mask, law, n_coils)
    if _shows_no_differences(series):
        return _of_background(series, mask, law, n_coils, sigma, raw)
    if sigma is not None:
        return _with_given_map(series, mask, law, n_coils, sigma)
    sigma = np.ones(series.data.shape[:3], dtype=np.float32)
    scale = Scale.of(sigma, "gaussian", 1.0)
    for _ in range(REFINEMENTS):
        sigma = sigma * noise_left(noise_images(series, mask, scale), mask, series)
        scale = Scale.of(_known(sigma), law, n_coils)
    images = noise_images(series, mask, scale)
    sigma = sigma * noise_left(images, mask, series)
    scale = Scale.of(_known(sigma), law, n_coils)
    sigma = _known(continue_outside(series, mask, scale, images))
    covariance = autocorrelation(images.values, mask)
    source = images.source + found
    return NoiseModel(
        sigma, covariance, law, n_coils, source, len(images.values), images.spectrum,
        n_voxels=int(mask.sum()),
    )  # fmt: skip


def _known(sigma: np.ndarray) -> np.ndarray:
    """The noise map as it was learned; InputError where there is none, or values overflow."""
    if not np.all(np.isfinite(sigma)):
        raise InputError(TOO_LARGE)
    if not np.all(sigma > 0):
        raise InputError(ALIKE)
    return sigma


def _with_given_map(
    series: Series, mask: np.ndarray, law: str, n_coils: float, sigma: np.ndarray
) -> NoiseModel:
    """The model with the user's map: only the correlation is learned."""
    sigma = _usable(sigma, series, mask)
    images = noise_images(series, mask, Scale.of(sigma, law, n_coils))
    covariance = autocorrelation(images.values, mask)
    if not np.all(np.isfinite(covariance)):
        raise InputError(TOO_LARGE if images.values.any() else ALIKE)
    found = 1.0 if "counts as noise" in images.source else float(np.sqrt(np.mean(images.values**2)))
    return NoiseModel(
        sigma, covariance, law, n_coils, "map given", len(images.values), images.spectrum,
        found_over_given=found, n_voxels=int(mask.sum()),
    )  # fmt: skip


def _usable(sigma: np.ndarray, series: Series, mask: np.ndarray) -> np.ndarray:
    """A given noise map, its holes outside the mask filled; InputError where it can't be used."""
    if sigma.shape != series.data.shape[:3]:
        raise InputError(
            f"the noise map is {sigma.shape} and the scan {series.data.shape[:3]}; "
            "give --noise-in on the scan's grid"
        )
    is_usable = (sigma > 0) & (sigma < LARGEST)  # NaN fails too
    if not np.all(is_usable[mask]):
        raise InputError(
            "the noise map is not positive, or no number, somewhere in the mask; correct --noise-in"
        )
    return fill(sigma.astype(np.float32), is_usable)


def _shows_no_differences(series: Series) -> bool:
    """Whether no two of a few volumes show the same, so that only the background tells."""
    is_one_each = series.fourth_axis in ("contrasts", "echoes") or series.parts is not None
    return series.n_volumes < (FEW_VOLUMES if is_one_each else 2)


def _of_background(
    series: Series,
    mask: np.ndarray,
    law: str,
    n_coils: float,
    given: np.ndarray | None,
    raw: np.ndarray | None,
) -> NoiseModel:
    """The noise of a few images of different contrast, one sigma for each.

    given  (X, Y, Z)  a noise map that is obeyed, or None
    raw    (X, Y, Z, V)  complex images whose real and imaginary parts the series has, or None
    """
    data = series.data
    around = data if raw is None else np.concatenate([raw.real, raw.imag], axis=3)
    air = air_of(around, mask)
    if air is None:
        levels = sigma_of_detail(data, mask)
        source = "the finest detail of the image, taken for white: that of edges counts as noise"
    else:
        levels, source = sigma_of_air(around[air], law, n_coils), "the air around the head"
    if not (levels > 0).all():
        raise InputError(
            "the noise can't be read from the background or the detail of this image; "
            "give --noise-in"
        )
    if series.parts is not None:  # both parts of a complex image hold the same noise
        pairs = levels.reshape(2, -1)
        levels = np.tile(pairs.min(axis=0) if air is None else np.sqrt((pairs**2).mean(axis=0)), 2)
    centre = float(np.exp(np.log(levels).mean()))
    covariance = np.zeros([2 * lag + 1 for lag in LAGS])
    covariance[LAGS] = 1.0
    if air is not None:
        images = images_of_air(around, air, law)
        covariance = above_distant(autocorrelation(images.astype(np.float32), air))
        if law != "gaussian":
            covariance = correlation_of_squares(covariance, len(images) * pairs_at_lags(air))
    sigma, found, head = np.full(mask.shape, centre, dtype=np.float32), 1.0, 1.0
    if air is not None and given is None:
        head = float(np.median(quiet_detail(data, mask) / levels))
    if given is not None:
        sigma = _usable(given, series, mask)
        # edges in the detail would pass for a map that is too low
        found = 1.0 if air is None else centre / float(np.median(sigma[mask]))
        source = "map given"
    spectrum = principal_components(data[mask] / levels)[1]
    relative = levels / centre if np.ptp(levels) > 0.03 * centre and given is None else None
    return NoiseModel(
        sigma, covariance, law, n_coils, source, 0, spectrum, relative, found, head,
        int(mask.sum()),
    )  # fmt: skip
