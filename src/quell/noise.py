"""The noise of a scan, learned from the scan itself.

Idea    Rotate the volume axis to its principal components. White noise across volumes stays
        white, signal gathers in the leading components, so the trailing ones are images of pure
        noise: they show the scan's own noise map and its own spatial correlation.
Here    Magnitude data is stabilised first (`scaling`), with the noise map found so far, and the
        map is refined a few times.
Differs Real scanners correlate their noise in space (partial Fourier, filters); most denoisers
        assume white noise, this model measures it. Few volumes fall back, and `source` says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from scipy import fft, ndimage

from .background import (
    above_distant,
    air_of,
    coils_of_background,
    correlation_of_squares,
    images_of_air,
    quiet_detail,
    sigma_of_air,
    sigma_of_detail,
)
from .checks import Finding
from .scaling import LAWS, N_COILS_RANGE, Scale
from .series import LARGEST, InputError, Series

ADDED = ("measured", "white")  # what noise that is added on purpose may be like
FEW_VOLUMES = 8  # below it the trailing components still hold signal
LAGS = (6, 6, 2)  # voxels; correlation is measured up to here
SMOOTHING_MM = 5.0  # standard deviation of the window of the noise map; coil maps vary slower
BULK_EDGE = 1.15  # an eigenvalue this far above the mean of those below it is signal
COMPONENTS_FOR_COVARIANCE = 12  # each holds thousands of voxels; a bound on the time, not tuned
CORRELATED = 0.1  # of neighbours; above it, noise is not white
AIR_MAYBE_TOO_QUIET, AIR_TOO_QUIET = 1.35, 2.5  # head over air: a note; a warning
NO_NOISE = (
    "no noise can be learned: volumes are alike to the last digit, or their values are too large "
    "or too small to reckon with; convert the scan again"
)
REFINEMENTS = 3  # of the noise map: the stabiliser needs a map, the map a stabiliser
TAPER_FROM = 0.5  # of the largest lag; beyond, measured correlations fade to zero


@dataclass(frozen=True)
class NoiseModel:
    """What the noise of one scan is like.

    sigma               (X, Y, Z)  noise map: standard deviation, the series' units
    covariance          (2Lx+1, 2Ly+1, 2Lz+1)  spatial correlation at those lags, 1 in the centre
    law                 "gaussian" | "rician" | "nc-chi"
    n_coils             N of nc-chi; 1 for Rician
    source              how it was learned, in words
    n_noise_components  how many images of pure noise it was learned from
    eigenvalues         (V,)  of the scan's covariance over volumes, largest first, sigma² = 1
    levels              (V,)  noise of each volume over sigma; None: the same in all
    found_over_given    noise found in the scan over that of a given map; 1 where none was given
    head_over_air       least noise in the head over that of the air; 1 where air was not used
    """

    sigma: np.ndarray
    covariance: np.ndarray
    law: str
    n_coils: float
    source: str
    n_noise_components: int
    eigenvalues: np.ndarray
    levels: np.ndarray | None = None
    found_over_given: float = 1.0
    head_over_air: float = 1.0

    def in_units_of_sigma(self) -> "NoiseModel":
        """The model of the series that `Scale` made: Gaussian, sigma = 1, same correlation."""
        ones = np.ones_like(self.sigma)
        return replace(self, sigma=ones, law="gaussian", n_coils=1.0, levels=None)

    def as_white(self) -> "NoiseModel":
        """The same noise map without correlation, as most denoisers assume."""
        white = np.zeros_like(self.covariance)
        white[tuple(n // 2 for n in white.shape)] = 1.0
        return replace(self, covariance=white, source=self.source + "; taken to be white")

    def to_add(self, kind: str) -> "NoiseModel":
        """The noise that a method adds on purpose; kind: one of ADDED."""
        return {"measured": self, "white": self.as_white()}[kind]

    def lag_one(self) -> tuple[float, float, float]:
        """Correlation of neighbours along x, y and z."""
        i, j, k = (n // 2 for n in self.covariance.shape)
        c = self.covariance
        return float(c[i + 1, j, k]), float(c[i, j + 1, k]), float(c[i, j, k + 1])

    def in_plane_filter(self, shape: tuple[int, int]) -> torch.Tensor:
        """Square root of the in-plane power spectrum, for `draw`; (H, W/2 + 1).

        shape  (H, W) of the field to draw; it is made larger so that its edges don't wrap
        """
        plane = self.covariance[:, :, self.covariance.shape[2] // 2]
        grid = [fft.next_fast_len(n + lag, real=True) for n, lag in zip(shape, LAGS, strict=False)]
        grid[1] += grid[1] % 2  # `draw` takes the size of a half spectrum for even
        root = np.sqrt(power_spectrum(plane, grid))[:, : grid[1] // 2 + 1]
        return torch.from_numpy(root.astype(np.float32))

    def draw_volume(self, rng: np.random.Generator) -> np.ndarray:
        """(X, Y, Z) of fresh noise with the scan's own correlation and noise map, Gaussian."""
        grid = [fft.next_fast_len(n + lag) for n, lag in zip(self.sigma.shape, LAGS, strict=True)]
        root = np.sqrt(power_spectrum(self.covariance, grid))[..., : grid[2] // 2 + 1]
        white = rng.standard_normal(grid, dtype=np.float32)
        threads = torch.get_num_threads()
        spectrum = fft.rfftn(white, workers=threads) * root.astype(np.float32)
        z = fft.irfftn(spectrum, grid, workers=threads)
        return np.asarray(z[tuple(slice(n) for n in self.sigma.shape)] * self.sigma)


def draw(root: torch.Tensor, shape: tuple[int, ...], rng: torch.Generator) -> torch.Tensor:
    """Fresh noise of variance 1 with the correlation of `NoiseModel.in_plane_filter`.

    root   the filter, for fields of at least (H, W)
    shape  (..., H, W)
    """
    grid = (root.shape[0], 2 * (root.shape[1] - 1))
    white = torch.randn((*shape[:-2], *grid), generator=rng).to(root.device)
    z = torch.fft.irfft2(torch.fft.rfft2(white) * root, s=grid)
    return z[..., : shape[-2], : shape[-1]]


def draw_like(x: torch.Tensor, root: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Fresh noise of the shape of x, (B, C, H, W) or (B, C, H, W, D), correlated in plane."""
    shape = (*x.shape[:2], *x.shape[4:], *x.shape[2:4])
    z = draw(root.to(x.device), shape, rng)
    return z if x.ndim == 4 else z.movedim(2, -1)


def covary(x: torch.Tensor, root: torch.Tensor) -> torch.Tensor:
    """Σ x, with Σ the covariance of noise drawn with `root`; x (..., H, W), nothing around it."""
    grid = (root.shape[0], 2 * (root.shape[1] - 1))
    spectrum = torch.fft.rfft2(x, s=grid) * root.to(x.device) ** 2
    return torch.fft.irfft2(spectrum, s=grid)[..., : x.shape[-2], : x.shape[-1]]


def shuffled(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """The pixels of every image in one random order, the same for all: white, same values."""
    order = torch.randperm(x[0, 0].numel(), generator=rng).to(x.device)
    return x.flatten(2)[..., order].reshape(x.shape)


def power_spectrum(covariance: np.ndarray, grid: list[int]) -> np.ndarray:
    """Power spectrum of a stationary field on a periodic grid, mean 1.

    covariance  odd sizes, lag 0 in the centre
    grid        its size along each axis

    Measured correlations at the largest lags are tapered; what the taper and the noise of the
    measurement leave negative is set to zero.
    """
    tapered, places = covariance.astype(np.float64), []
    for axis, (n_lags, size) in enumerate(zip(covariance.shape, grid, strict=True)):
        lags = np.arange(n_lags) - n_lags // 2
        fade = np.clip((np.abs(lags) / (n_lags // 2 + 1) - TAPER_FROM) / (1 - TAPER_FROM), 0, 1)
        window = 0.5 + 0.5 * np.cos(np.pi * fade)
        tapered *= window.reshape([-1 if a == axis else 1 for a in range(covariance.ndim)])
        places.append(lags % size)
    field = np.zeros(grid)
    np.add.at(field, np.ix_(*places), tapered)
    power = np.maximum(fft.fftn(field).real, 0.0)
    return np.asarray(power / power.mean())


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
    law, n_coils, found = _law(series, mask, law, n_coils)
    if _shows_no_differences(series):
        return _of_background(series, mask, law, n_coils, sigma, raw)
    if sigma is not None:
        return _with_given_map(series, mask, law, n_coils, sigma)
    sigma = np.ones(series.data.shape[:3], dtype=np.float32)
    scale = Scale.of(sigma, "gaussian", 1.0)
    for _ in range(REFINEMENTS):
        sigma = sigma * _noise_left(_noise_images(series, mask, scale), mask, series)
        scale = Scale.of(_known(sigma), law, n_coils)
    images = _noise_images(series, mask, scale)
    sigma = sigma * _noise_left(images, mask, series)
    scale = Scale.of(_known(sigma), law, n_coils)
    sigma = _known(_continue_outside(series, mask, scale, images))
    covariance = _autocorrelation(images.values, mask)
    source = images.source + found
    return NoiseModel(sigma, covariance, law, n_coils, source, len(images.values), images.spectrum)


def _known(sigma: np.ndarray) -> np.ndarray:
    """The noise map as it was learned; InputError where there is none, or values overflow."""
    if not np.all((sigma > 0) & np.isfinite(sigma)):
        raise InputError(NO_NOISE)
    return sigma


def _with_given_map(
    series: Series, mask: np.ndarray, law: str, n_coils: float, sigma: np.ndarray
) -> NoiseModel:
    """The model with the user's map: only the correlation is learned."""
    sigma = _usable(sigma, series, mask)
    images = _noise_images(series, mask, Scale.of(sigma, law, n_coils))
    covariance = _autocorrelation(images.values, mask)
    if not np.all(np.isfinite(covariance)):
        raise InputError(NO_NOISE)
    found = 1.0 if "counts as noise" in images.source else float(np.sqrt(np.mean(images.values**2)))
    return NoiseModel(
        sigma, covariance, law, n_coils, "map given", len(images.values), images.spectrum,
        found_over_given=found,
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
    return _fill(sigma.astype(np.float32), is_usable)


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
        covariance = above_distant(_autocorrelation(images.astype(np.float32), air))
        if law != "gaussian":
            covariance = correlation_of_squares(covariance, len(images) * _pairs_at_lags(air))
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
        sigma, covariance, law, n_coils, source, 0, spectrum, relative, found, head
    )  # fmt: skip


# ---- the law -------------------------------------------------------------------------------


def refuse_law(law: str, n_coils: float | None) -> None:
    """Raise InputError (status 2) for a law, or a number of coils, that noise can't have."""
    low, high = N_COILS_RANGE
    if law not in ("auto", *LAWS):
        known = ", ".join(("auto", *LAWS))
        raise InputError(f"noise law {law!r} is not known; choose from {known}", 2)
    if n_coils is None:
        return
    if not low <= n_coils <= high:  # NaN fails too
        raise InputError(f"{n_coils:g} coils can't be; give a number from {low:g} to {high:g}", 2)
    if law in ("gaussian", "rician") and n_coils != 1:
        raise InputError(f"{law} noise has no number of coils; leave it out or say nc-chi", 2)


def _law(
    series: Series, mask: np.ndarray, law: str, n_coils: float | None
) -> tuple[str, float, str]:
    """Distribution and N, and in words what the background added."""
    refuse_law(law, n_coils)
    if law in ("rician", "nc-chi") and series.parts is not None:
        raise InputError(
            f"complex data have Gaussian noise and no {law} one; leave --noise-law out", 2
        )
    if law == "auto":
        is_signed = np.iscomplexobj(series.data) or bool(
            (series.data.min(axis=(0, 1, 2)) < 0).any()
        )
        law = "gaussian" if is_signed else "rician" if n_coils in (None, 1) else "nc-chi"
    if law == "gaussian":
        return law, 1.0, ""
    if law == "rician" or n_coils is not None:
        return law, 1.0 if law == "rician" else float(n_coils or 1), ""
    coils = coils_of_background(series.data, mask)
    if coils is None:
        raise InputError(
            "the number of coils can't be read from the background of this scan; "
            "give --coils, or --noise-law rician"
        )
    return law, coils, f"; N = {coils:.1f} from the background"


# ---- images of pure noise --------------------------------------------------------------------


@dataclass(frozen=True)
class NoiseImages:
    """Images of pure noise: the volumes, centred, times `projector`.

    values     (n, voxels in mask)
    mean       (V,)  of each volume in the mask
    projector  (V, n)  unit columns: trailing eigenvectors, or differences of two volumes
    spectrum   (V,)  eigenvalues, largest first, in units of the noise variance
    source     in words
    """

    values: np.ndarray
    mean: np.ndarray
    projector: np.ndarray
    spectrum: np.ndarray
    source: str

    def power(self, mask: np.ndarray) -> np.ndarray:
        """(X, Y, Z) mean square of the images, 0 outside the mask."""
        power = np.zeros(mask.shape, dtype=np.float32)
        power[mask] = np.mean(self.values**2, axis=0)
        return power


def _noise_images(series: Series, mask: np.ndarray, scale: Scale) -> NoiseImages:
    """Images of noise in the scale's units."""
    Y = voxels_in_mask(series.data, mask, scale)
    mean, values, vectors = principal_components(Y)
    if series.n_volumes >= FEW_VOLUMES:
        n = n_noise_components(values, _effective_voxels(mask))
        projector = vectors[:, -n:]
        source = f"{n} noise-only components of {len(values)}"
    else:
        pairs, source = _pairs(series)
        projector = np.zeros((series.n_volumes, len(pairs)))
        for column, (i, j) in enumerate(pairs):
            projector[[i, j], column] = np.sqrt(0.5), -np.sqrt(0.5)
    projector = projector.astype(np.float32)
    Y -= mean  # Y is ours
    noise = (Y @ projector).T
    del Y
    spectrum = values / float(np.mean(noise**2, dtype=np.float64))
    return NoiseImages(noise, mean, projector, spectrum, source)


def _pairs(series: Series) -> tuple[list[tuple[int, int]], str]:
    """Pairs of volumes whose difference is mostly noise, for scans of few volumes."""
    if series.fourth_axis == "repetitions":
        return list(pairwise(range(series.n_volumes))), "differences of repetitions"
    b0s = np.flatnonzero(series.is_b0)
    if len(b0s) >= 2:
        return list(pairwise(b0s)), f"differences of {len(b0s)} b0 volumes"
    if series.bvals is None or series.bvecs is None:
        return list(pairwise(range(series.n_volumes))), (
            "differences of consecutive volumes: their contrast counts as noise"
        )
    dwis = np.flatnonzero(~series.is_b0)
    if len(dwis) < 2:
        return [(0, 1)], "the difference of two volumes: their contrast counts as noise"
    closeness = np.abs(series.bvecs[dwis] @ series.bvecs[dwis].T)
    shells = np.round(series.bvals[dwis], -2)
    closeness -= 2.0 * (shells[:, None] != shells[None]) + 4.0 * np.eye(len(dwis))
    nearest = dwis[closeness.argmax(axis=1)]
    pairs = {(min(i, j), max(i, j)) for i, j in zip(dwis, nearest, strict=True)}
    return sorted(pairs), "differences of neighbouring directions: their contrast counts as noise"


def voxels_in_mask(data: np.ndarray, mask: np.ndarray, scale: Scale) -> np.ndarray:
    """(voxels, V) of the mask in the scale's units."""
    Y, sigma = data[mask].astype(np.float32, copy=False), scale.sigma[mask]
    for rows in _chunks(len(Y)):  # a part at a time: no second copy
        inside = replace(scale, sigma=sigma[rows][:, None, None])
        Y[rows] = inside.apply(Y[rows][:, None, None, :])[:, 0, 0, :]
    return Y


def principal_components(Y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (V,), eigenvalues (V,) largest first and eigenvectors (V, V) of the voxels of a scan.

    Y  (voxels, V)
    """
    mean, C = mean_and_covariance(Y)
    values, vectors = np.linalg.eigh(C)
    vectors = vectors[:, ::-1]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(vectors))])
    return mean, values[::-1].copy(), vectors * signs  # eigh leaves the signs open


def mean_and_covariance(Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (V,) and covariance (V, V) of the rows of Y (voxels, V)."""
    mean = Y.mean(axis=0, dtype=np.float64).astype(np.float32)
    C = np.zeros((Y.shape[1], Y.shape[1]))
    for rows in _chunks(len(Y)):
        centred = (Y[rows] - mean).astype(np.float64)
        C += centred.T @ centred
    return mean, C / len(Y)


def _chunks(n: int, size: int = 65536) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, start + size)


def n_noise_components(values: np.ndarray, n_voxels: float) -> int:
    """How many trailing eigenvalues are pure noise.

    values    (V,)  eigenvalues, largest first
    n_voxels  independent voxels they were computed from

    The smallest third is noise; each next one is, too, while it lies within the
    Marchenko-Pastur edge (1 + √γ)², γ = V / n_voxels, of the mean of those below it.
    """
    rising = values[::-1]
    edge = max(BULK_EDGE, (1 + np.sqrt(len(values) / n_voxels)) ** 2)
    n = max(2, len(values) // 3)
    while n < len(values) - 1 and rising[n] <= edge * rising[:n].mean():
        n += 1
    return n


def _effective_voxels(mask: np.ndarray) -> float:
    return float(mask.sum()) / 4.0  # neighbours share noise; the 4 is a guess on the safe side


# ---- noise map and correlation ---------------------------------------------------------------


def _local_rms(power: np.ndarray, known: np.ndarray, voxel_mm: tuple[float, ...]) -> np.ndarray:
    """(X, Y, Z) root of the local mean of `power` over the known voxels; the nearest elsewhere."""
    width = [float(np.clip(SMOOTHING_MM / mm, 0.7, 4.0)) for mm in voxel_mm]
    weight = ndimage.gaussian_filter(known.astype(np.float32), width)
    smooth = ndimage.gaussian_filter(power * known, width) / np.maximum(weight, 1e-6)
    return _fill(np.sqrt(np.maximum(smooth, 0)), (weight > 0.1) & (smooth > 0))


def _continue_outside(
    series: Series, mask: np.ndarray, scale: Scale, images: NoiseImages
) -> np.ndarray:
    """The noise map, outside the mask from what the same projector finds there.

    Many scanners dim or zero the air around the head: the map in the head says nothing about it.
    """
    air = np.zeros(mask.shape, dtype=np.float32)
    for z in range(mask.shape[2]):  # slice by slice: no copy of the scan
        here = ~mask[:, :, z] & np.any(series.data[:, :, z] != 0, axis=-1)
        if here.any():
            one = replace(scale, sigma=scale.sigma[:, :, [z]])
            Y = voxels_in_mask(series.data[:, :, [z]], here[:, :, None], one)
            air[here, z] = np.mean(((Y - images.mean) @ images.projector) ** 2, axis=1)
    if not air.any():  # all of it is mask or zero
        return scale.sigma
    outside = scale.sigma * _local_rms(air, air > 0, series.voxel_mm)
    return np.where(mask, scale.sigma, outside)


def _noise_left(images: NoiseImages, mask: np.ndarray, series: Series) -> np.ndarray:
    """(X, Y, Z) noise in images of it, smooth: 1 where their scale is right."""
    return _local_rms(images.power(mask), mask, series.voxel_mm)


def _fill(volume: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Unknown voxels take the value of the nearest known one."""
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.ascontiguousarray(volume[tuple(nearest)], dtype=np.float32)


def _autocorrelation(images: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(2Lx+1, 2Ly+1, 2Lz+1) correlation of images of noise at small lags, pairs in the mask."""
    grid = [fft.next_fast_len(n + lag, real=True) for n, lag in zip(mask.shape, LAGS, strict=True)]
    field = np.zeros(mask.shape, dtype=np.float32)
    power = np.zeros((grid[0], grid[1], grid[2] // 2 + 1))
    for image in images[-COMPONENTS_FOR_COVARIANCE:]:
        field[mask] = image
        power += np.abs(fft.rfftn(field, grid, workers=torch.get_num_threads())) ** 2
    products = fft.irfftn(power, grid)[_at_lags()]
    correlation = products / np.maximum(_pairs_at_lags(mask), 1.0)
    return np.asarray(correlation / correlation[LAGS])


def _pairs_at_lags(mask: np.ndarray) -> np.ndarray:
    """(2Lx+1, 2Ly+1, 2Lz+1) how many pairs of voxels in the mask lie so far apart."""
    grid = [fft.next_fast_len(n + lag, real=True) for n, lag in zip(mask.shape, LAGS, strict=True)]
    pairs = fft.irfftn(np.abs(fft.rfftn(mask.astype(np.float64), grid)) ** 2, grid)
    return np.asarray(np.round(pairs[_at_lags()]))


def _at_lags() -> tuple[np.ndarray, ...]:
    """Where the lags lie in a periodic field."""
    return np.ix_(*(np.arange(-lag, lag + 1) for lag in LAGS))


# ---- in words --------------------------------------------------------------------------------


def remarks(noise: NoiseModel, takes_white: str = "") -> list[Finding]:
    """What the noise model says about the scan.

    takes_white  name of the method in use, where that takes noise to be white
    """
    found = []
    if "counts as noise" in noise.source:
        found.append(
            Finding(
                "noise-from-differences",
                "warning",
                f"too few volumes for noise-only components: the noise is learned from "
                f"{noise.source}",
                "take the noise map for an upper bound, or give one with --noise-in",
            )
        )
    if noise.head_over_air > AIR_MAYBE_TOO_QUIET:
        found.append(
            Finding(
                "air-is-not-the-head",
                "warning" if noise.head_over_air > AIR_TOO_QUIET else "note",
                f"even the smoothest places of the head vary {noise.head_over_air:.1f} times as "
                "much as the air around it: fine detail, or noise that the air does not show, as "
                "after parallel imaging or an adaptive combination of coils",
                "look at the residual; if noise is left, give a noise map with --noise-in",
            )
        )
    off = noise.found_over_given
    if abs(off - 1) > 0.1:
        found.append(
            Finding(
                "noise-map-off",
                "warning",
                f"the scan's own noise is {off:.2f} times that of the noise map given",
                "correct --noise-in or leave it out, or let --calibrate repair the result",
            )
        )
    tail = noise.eigenvalues[-noise.n_noise_components :]
    is_bulk = len(noise.eigenvalues) >= FEW_VOLUMES  # else noise is differences, not components
    if is_bulk and tail[0] > 2 * tail[-1]:
        found.append(
            Finding(
                "no-noise-bulk",
                "warning",
                "the smallest components of the series are not equally strong, so some may not be "
                "noise: the scan may be smoothed, interpolated or already denoised",
                "denoise the scan as it left the scanner",
            )
        )
    if max(abs(c) for c in noise.lag_one()) > CORRELATED:
        x, y, z = noise.lag_one()
        seen = f"the noise of neighbouring voxels correlates by {x:.2f} / {y:.2f} / {z:.2f} (x/y/z)"
        found.append(
            Finding(
                "white-noise-assumed",
                "warning",
                f"{seen}, and {takes_white} takes it to be white: it leaves part of it, or takes "
                "signal with it",
                "use a method that knows the correlation, such as joint",
            )
            if takes_white
            else Finding(
                "correlated-noise",
                "note",
                seen,
                "nothing to do: the default method uses it; methods that assume white noise lose",
            )
        )
    return found
