"""The noise of a scan, learned from the scan itself.

Idea    Rotate the volume axis to its principal components. White noise across volumes stays
        white, signal gathers in the leading components, so the trailing ones are images of pure
        noise: they show the scan's own noise map and its own spatial correlation.
Here    Magnitude data is stabilised first (`scaling`), with the noise map found so far, and the
        map is refined a few times. Where some volumes have more noise than others, all of it is
        done once more with the volumes over their levels.
Differs Real scanners correlate their noise in space (partial Fourier, filters); most denoisers
        assume white noise, this model measures it. Few volumes fall back, and `source` says so.
"""

from dataclasses import dataclass

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
from .components import FEW_VOLUMES, NoiseImages, noise_images, principal_components
from .correlation import autocorrelation, pairs_at_lags
from .edge import independent_voxels
from .law import law_of
from .levels import Levels, noise_levels, over_levels, refined
from .maps import continue_outside, fill, noise_left
from .model import IMAGES_FOR_COVARIANCE, LAGS, NoiseModel

NO_NOISE = (
    "no noise can be learned: volumes are alike to the last digit, or their values are too large "
    "or too small to reckon with; convert the scan again"
)
REFINEMENTS = 3  # of the noise map: the stabiliser needs a map, the map a stabiliser


def learn(
    series: Series,
    mask: np.ndarray,
    law: str = "auto",
    n_coils: float | None = None,
    sigma: np.ndarray | None = None,
    raw: np.ndarray | None = None,
    alike: bool = False,
) -> NoiseModel:
    """Learn the noise model of a series.

    series   scanner units
    mask     (X, Y, Z) bool, where to estimate
    law      "auto": Rician for magnitude data, Gaussian for signed data
    n_coils  N; more than 1 makes "auto" nc-chi; None: 1, for nc-chi read from the background
    sigma    (X, Y, Z) a given noise map, scanner units; it is obeyed. Which volumes have more noise
             than others is learned all the same
    raw      (X, Y, Z, V) complex, what a demodulated series was made from: in air there is no
             phase to take out, and the noise turned by its own would correlate less
    alike    all of eight volumes or more are taken to have the same noise

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
        return _with_given_map(series, mask, law, n_coils, sigma, alike)
    learned = _of_equal_volumes(series, mask, law, n_coils)
    values = None
    if not alike and (levels := _levels_of(series, mask, learned)):
        learned, values = _of_unequal_volumes(series, mask, law, n_coils, learned, levels)
    images = learned.images
    return NoiseModel(
        learned.scale.sigma, learned.covariance, law, n_coils, images.source + found,
        len(images.values), images.spectrum, values, n_voxels=int(mask.sum()),
    )  # fmt: skip


@dataclass(frozen=True)
class _Learned:
    """Images of the noise, its correlation, and the scale with the map they led to."""

    images: NoiseImages
    covariance: np.ndarray
    scale: Scale

    def n_independent(self, mask: np.ndarray) -> float:
        """Voxels of independent noise in the mask."""
        n_images = min(len(self.images.values), IMAGES_FOR_COVARIANCE)
        return independent_voxels(int(mask.sum()), self.covariance, n_images)


def _of_equal_volumes(
    series: Series, mask: np.ndarray, law: str, n_coils: float, near: _Learned | None = None
) -> _Learned:
    """The noise of a series whose volumes all have the same.

    near  what was learned from nearly the same series, to go on from
    """
    scale = near.scale if near else Scale.of(np.ones(mask.shape, np.float32), "gaussian", 1.0)
    n = near.n_independent(mask) if near else None  # before a correlation is known: white
    sigma = scale.sigma
    for _ in range(1 if near else REFINEMENTS):
        images = noise_images(series, mask, scale, n)
        sigma = sigma * noise_left(images, mask, series)
        scale = Scale.of(_known(sigma), law, n_coils)
        if n is None:
            n = _Learned(images, autocorrelation(images.values, mask), scale).n_independent(mask)
    images = noise_images(series, mask, scale, n)
    sigma = sigma * noise_left(images, mask, series)
    scale = Scale.of(_known(sigma), law, n_coils)
    sigma = _known(continue_outside(series, mask, scale, images))
    covariance = autocorrelation(images.values, mask)
    return _Learned(images, covariance, Scale.of(sigma, law, n_coils))


def _levels_of(series: Series, mask: np.ndarray, learned: _Learned) -> Levels | None:
    """How much noise each volume has; None where they are alike, or too few to tell."""
    if series.n_volumes < FEW_VOLUMES:
        return None
    return noise_levels(series, mask, learned.scale, learned.n_independent(mask))


def _of_unequal_volumes(
    series: Series, mask: np.ndarray, law: str, n_coils: float, learned: _Learned, levels: Levels
) -> tuple[_Learned, np.ndarray]:
    """The noise of a series over its levels, and these (V,).

    learned  as if volumes were alike

    One makes the other better: a magnitude is stabilised with the noise of its own volume.
    """
    for _ in range(REFINEMENTS):
        even = over_levels(series, levels.values)
        learned = _of_equal_volumes(even, mask, law, n_coils, learned)
        levels = refined(levels, even, mask, learned.scale, learned.n_independent(mask))
    even = over_levels(series, levels.values)
    return _of_equal_volumes(even, mask, law, n_coils, learned), levels.values


def _known(sigma: np.ndarray) -> np.ndarray:
    """The noise map as it was learned; InputError where there is none, or values overflow."""
    if not np.all((sigma > 0) & np.isfinite(sigma)):
        raise InputError(NO_NOISE)
    return sigma


def _with_given_map(
    series: Series, mask: np.ndarray, law: str, n_coils: float, sigma: np.ndarray, alike: bool
) -> NoiseModel:
    """The model with the user's map: the correlation is learned, and which volumes have more."""
    sigma = _usable(sigma, series, mask)
    scale = Scale.of(sigma, law, n_coils)
    learned = _with_map(series, mask, scale)
    if (levels := None if alike else _levels_of(series, mask, learned)) is not None:
        for _ in range(REFINEMENTS):
            even = over_levels(series, levels.values)
            learned = _with_map(even, mask, scale)
            levels = refined(levels, even, mask, scale, learned.n_independent(mask))
    images = learned.images
    found = 1.0 if "counts as noise" in images.source else float(np.sqrt(np.mean(images.values**2)))
    return NoiseModel(
        sigma, learned.covariance, law, n_coils, "map given", len(images.values), images.spectrum,
        None if levels is None else levels.values, found, n_voxels=int(mask.sum()),
    )  # fmt: skip


def _with_map(series: Series, mask: np.ndarray, scale: Scale) -> _Learned:
    """Images of the noise and its correlation, with a map that is left as it is."""
    n = None  # no correlation is known: white at first
    for _ in range(2):
        images = noise_images(series, mask, scale, n)
        learned = _Learned(images, autocorrelation(images.values, mask), scale)
        if not np.all(np.isfinite(learned.covariance)):
            raise InputError(NO_NOISE)
        n = learned.n_independent(mask)
    return learned


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
