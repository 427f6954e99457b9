"""The noise of a scan, learned from the scan itself.

Idea    Rotate the volume axis to its principal components. White noise across volumes stays
        white, signal gathers in the leading components, so the trailing ones are images of pure
        noise: they show the scan's own noise map and its own spatial correlation.
Here    Magnitude data is stabilised first (`scaling`), with the noise map found so far, and the
        map is refined a few times. Where some volumes have more noise than others, all of it is
        done once more with the volumes over their levels.
        Below a number of volumes the trailing components may hold signal. Then the noise is learned
        from small places as well (`few_volumes`), and the lower of the two counts.
Differs Real scanners correlate their noise in space (partial Fourier, filters); most denoisers
        assume white noise, this model measures it.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..background import (
    CERTAIN,
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
from .components import (
    FEW_VOLUMES,
    NoiseImages,
    has_noise_images,
    noise_images,
    principal_components,
    voxels_in_mask,
)
from .correlation import autocorrelation, pairs_at_lags
from .edge import independent_voxels
from .few_volumes import of_few_volumes
from .law import law_of
from .levels import Levels, noise_levels, over_levels, refined
from .maps import continue_outside, fill, noise_left
from .model import IMAGES_FOR_COVARIANCE, LAGS, NoiseModel

ALIKE = (
    "no noise can be learned: in the mask the volumes are equal, or differ by less than can be "
    "computed with; give the scan as acquired, and a mask of places where it is not zero"
)
TOO_LARGE = (
    "no noise can be learned: some values are too large to compute with, as padding or a wrong "
    "scale factor leaves them; convert the scan again"
)
REFINEMENTS = 3  # of the noise map: the stabiliser needs a map, the map a stabiliser
QUIET_BELOW = 20  # volumes; from there on the trailing components of any scan are noise; phantom A
LESS, LESS_ALIKE = 0.92, 0.05  # of sigma, and of a correlation: less than this is less
NEAR = 2.0  # standard errors that make next neighbours in the air correlate: few are asked
ANATOMY_OVER_AIR = 2.0  # sigma of a head that shows anatomy everywhere over that of its noise


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
    if not has_noise_images(series):
        quiet = _of_quiet_places(series, mask, law, n_coils, found)
        return quiet or _bound(series, mask, law, n_coils, found)
    model = _of_components(series, mask, law, n_coils, found, alike)
    if series.n_volumes >= QUIET_BELOW:
        return model
    even = series if model.levels is None else over_levels(series, model.levels)
    quiet = _of_quiet_places(even, mask, law, n_coils, found)
    return replace(_lower(model, quiet), levels=model.levels)


def _of_components(
    series: Series, mask: np.ndarray, law: str, n_coils: float, found: str, alike: bool = False
) -> NoiseModel:
    """The noise of components, or differences of volumes, that show nothing else."""
    learned = _of_equal_volumes(series, mask, law, n_coils)
    values = None
    if not alike and (levels := _levels_of(series, mask, learned)) is not None:
        learned, values = _of_unequal_volumes(series, mask, law, n_coils, learned, levels)
    images = learned.images
    return NoiseModel(
        learned.scale.sigma, learned.covariance, law, n_coils, images.source + found,
        len(images.values), images.spectrum, values, n_voxels=int(mask.sum()),
        is_upper_bound=images.hold_contrast,
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


def _lower(of_components: NoiseModel, quiet: NoiseModel | None) -> NoiseModel:
    """That of two models that holds less signal: contrast makes noise stronger and smoother."""
    if quiet is None:
        return of_components
    is_lower = np.median(quiet.sigma / of_components.sigma) < LESS
    pairs = zip(quiet.lag_one()[:2], of_components.lag_one()[:2], strict=True)
    return quiet if is_lower or any(a < b - LESS_ALIKE for a, b in pairs) else of_components


def _of_quiet_places(
    series: Series, mask: np.ndarray, law: str, n_coils: float, found: str
) -> NoiseModel | None:
    """The noise of small places that show little else; None where there are too few of them."""
    first = of_few_volumes(series, mask, law, n_coils)
    if first is None:
        return None
    sigma, quiet = first
    covariance, is_bound = quiet.covariance, quiet.shows_anatomy
    source = f"{quiet.n_blocks} small places that show little but noise"
    head = 1.0
    if quiet.shows_anatomy:
        source = (
            f"the finest detail of {quiet.n_blocks} small places: that of anatomy counts as noise"
        )
        if (air := _air(series, mask, law, n_coils)) is not None:
            level, known = air
            sigma, quiet = of_few_volumes(series, mask, law, n_coils, known) or first
            covariance = quiet.covariance
            head = float(np.median(sigma[mask])) / level
            if head < ANATOMY_OVER_AIR:
                sigma = np.minimum(sigma, np.float32(level))
                source, is_bound = "the air around the head", False
    scale = Scale.of(_known(sigma), law, n_coils)
    outside = continue_outside(series, mask, scale, noise_images(series, mask, scale))
    sigma = np.where(mask, sigma, np.minimum(sigma, outside))  # contrast counts there
    spectrum = principal_components(voxels_in_mask(series.data, mask, scale))[1]
    return NoiseModel(
        _known(sigma), covariance, law, n_coils, source + found, 0, spectrum,
        head_over_air=head, n_voxels=int(mask.sum()), is_upper_bound=is_bound,
    )  # fmt: skip


def _air(
    series: Series, mask: np.ndarray, law: str, n_coils: float
) -> tuple[float, np.ndarray] | None:
    """Strength and covariance of the noise in the air; None where it was zeroed or is too small."""
    air = air_of(series.data, mask)
    if air is None:
        return None
    level = float(np.median(sigma_of_air(series.data[air], law, n_coils)))
    return (level, _covariance_of_air(series.data, air, law, NEAR)) if level > 0 else None


def _covariance_of_air(
    data: np.ndarray, air: np.ndarray, law: str, near: float = CERTAIN
) -> np.ndarray:
    images = images_of_air(data, air, law)
    covariance = above_distant(autocorrelation(images.astype(np.float32), air))
    if law == "gaussian":
        return covariance
    return correlation_of_squares(covariance, len(images) * pairs_at_lags(air), near)


def _white() -> np.ndarray:
    covariance = np.zeros([2 * lag + 1 for lag in LAGS])
    covariance[LAGS] = 1.0
    return covariance


def _bound(series: Series, mask: np.ndarray, law: str, n_coils: float, found: str) -> NoiseModel:
    """A bound where even small places are too few: the least of differences, detail and air.

    Contrast counts in it, so its correlation is that of the air, or none.
    """
    bound = _of_components(series, mask, law, n_coils, found)
    covariance, levels = _white(), []
    source = f"{bound.source}; no more than the finest detail shows"
    if (air := _air(series, mask, law, n_coils)) is not None:
        levels, covariance = [air[0]], air[1]
        source += ", or the air"
    levels.append(float(np.median(sigma_of_detail(series.data, mask, covariance))))
    least = min(level for level in (*levels, np.inf) if level > 0)
    typical = float(np.median(bound.sigma[mask]))
    share = min(1.0, least / typical)
    return replace(
        bound, sigma=bound.sigma * np.float32(share), covariance=covariance, source=source,
        eigenvalues=bound.eigenvalues / share**2,
    )  # fmt: skip


def _known(sigma: np.ndarray) -> np.ndarray:
    """The noise map as it was learned; InputError where there is none, or values overflow."""
    if not np.all(np.isfinite(sigma)):
        raise InputError(TOO_LARGE)
    if not np.all(sigma > 0):
        raise InputError(ALIKE)
    return sigma


def _with_given_map(
    series: Series, mask: np.ndarray, law: str, n_coils: float, sigma: np.ndarray, alike: bool
) -> NoiseModel:
    """The model with the user's map: the correlation is learned, and which volumes have more."""
    sigma = _usable(sigma, series, mask)
    scale, even = Scale.of(sigma, law, n_coils), series
    learned = _with_map(series, mask, scale)
    if (levels := None if alike else _levels_of(series, mask, learned)) is not None:
        for _ in range(REFINEMENTS):
            even = over_levels(series, levels.values)
            learned = _with_map(even, mask, scale)
            levels = refined(levels, even, mask, scale, learned.n_independent(mask))
    images, covariance = learned.images, learned.covariance
    found, n = float(np.sqrt(np.mean(images.values**2))), len(images.values)
    spectrum = images.spectrum
    quiet = None
    if series.n_volumes < QUIET_BELOW:
        quiet = of_few_volumes(even, mask, law, n_coils, given=sigma)
    if quiet is not None and (images.hold_contrast or quiet[1].level < LESS * found):
        level, covariance, n = quiet[1].level, quiet[1].covariance, 0
        found = 1.0 if quiet[1].shows_anatomy else level
        spectrum = principal_components(voxels_in_mask(even.data, mask, scale))[1] / level**2
    elif images.hold_contrast:
        found, covariance = 1.0, _white()
    return NoiseModel(
        sigma, covariance, law, n_coils, "map given", n, spectrum,
        None if levels is None else levels.values, found, n_voxels=int(mask.sum()), is_given=True,
    )  # fmt: skip


def _with_map(series: Series, mask: np.ndarray, scale: Scale) -> _Learned:
    """Images of the noise and its correlation, with a map that is left as it is."""
    n = None  # no correlation is known: white at first
    for _ in range(2):
        images = noise_images(series, mask, scale, n)
        learned = _Learned(images, autocorrelation(images.values, mask), scale)
        if not np.all(np.isfinite(learned.covariance)):
            raise InputError(TOO_LARGE if images.values.any() else ALIKE)
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
    if air is None and series.parts is not None and given is None:
        quiet = _of_quiet_places(series, mask, law, n_coils, "")
        if quiet is not None:  # demodulation took some of the slow noise of the imaginary parts
            detail = sigma_of_detail(data, mask, quiet.covariance).min()
            more = max(1.0, float(detail / np.median(quiet.sigma[mask])))
            return replace(quiet, sigma=quiet.sigma * np.float32(more))
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
    covariance = _white() if air is None else _covariance_of_air(around, air, law)
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
        int(mask.sum()), is_upper_bound=air is None and given is None, is_given=given is not None,
    )  # fmt: skip
