"""The scans of the quality benchmark, and what a result on each of them scores.

Here    A phantom with known truth under eight kinds of noise, and a real scan that was acquired
        twice. Every scan has `noisy`, what all methods are given, and `scores` for one result.
Trap    Magnitude data has a noise floor, and no method takes it off unless it is asked to. So a
        result as it is written is compared with the mean magnitude of the truth, and once more
        with the truth itself after its floor was taken off.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from scipy import ndimage

from quell.evaluate import (
    TensorMaps,
    bias,
    fa_error,
    md_error,
    mse_over_variance,
    psnr,
    sigma_of_repeats,
    tensor_maps,
)
from quell.scaling import Scale, Stabiliser, sigma_of_spread
from quell.series import Series, brain_mask, load
from quell.simulate import Phantom, corrupt, g_factor, phantom
from quell.simulate.anatomy import DEEP, GREY, WHITE

SEED = 2026  # of the phantom's noise: the same draws in all conditions, so their rows compare
CORRELATION = (0.17, 0.34, 0.0)  # lag 1 along x, y, z; about that of the Trio scan
G_PEAK = 1.5  # of the noise map in the extra condition
RING = (2, 5)  # voxels from the lesion, between which white matter is its surrounding
ERODED = 2  # voxels off the brain mask: at the rim, motion would pass for error
AROUND = (5, 5, 3)  # voxels over which the noise of two repeats is taken together
TRIO = Path("siemens-trio-dti20x2-dev") / "dwi.nii.gz"

Scores = dict[str, float]


@dataclass(frozen=True)
class PhantomScan:
    """Phantom B under one kind of noise."""

    law: str  # "gaussian" or "rician"
    is_correlated: bool
    snr: float  # b=0 of white matter over sigma
    has_g_factor: bool = False  # sigma varies over the image

    @property
    def name(self) -> str:
        shape = "-gfactor" if self.has_g_factor else ""
        return f"{self.law}-{'correlated' if self.is_correlated else 'white'}-{self.snr:g}{shape}"

    @property
    def words(self) -> str:
        shape = f", noise map with a peak of {G_PEAK}" if self.has_g_factor else ""
        return f"{'correlated' if self.is_correlated else 'white'}, SNR {self.snr:g}{shape}"

    @cached_property
    def sigma(self) -> np.ndarray:
        """(X, Y, Z) of one Gaussian part."""
        shape = truth().tissue.shape
        sigma = np.full(shape, truth().white_matter_b0 / self.snr, dtype=np.float32)
        return sigma * g_factor(shape, G_PEAK) if self.has_g_factor else sigma

    @cached_property
    def noisy(self) -> Series:
        rng = np.random.default_rng(SEED)
        correlation = CORRELATION if self.is_correlated else None
        clean = truth().clean
        data = corrupt(clean.data, self.sigma, rng, self.law, correlation=correlation)
        return replace(clean, data=data, mask=None)

    @property
    def facts(self) -> Scores:
        return {"sigma": float(np.median(self.sigma[brain()])), "voxels": int(brain().sum())}

    def scores(self, written: np.ndarray, without_floor: np.ndarray | None) -> Scores:
        """What one result scores.

        written        (X, Y, Z, V)          scanner units
        without_floor  (X, Y, Z, V) or None  its floor taken off by the method's own noise model;
                                             None: it is taken off here, with the true noise map
        """
        clean = truth().clean.data
        found = scores_against(written, put_floor(clean, self.sigma, self.law))
        found["residual"] = residual_correlation(self.noisy.data, written, clean)
        if self.law == "gaussian":
            return found
        if without_floor is None:
            without_floor = take_floor_off(written, self.sigma, self.law)
        off = scores_against(without_floor, clean)
        return found | {f"{name}_off": value for name, value in off.items()}


@dataclass(frozen=True)
class TrioScan:
    """A real scan of 1 + 20 volumes acquired twice: the first is denoised, the second judges."""

    data: Path  # the folder of data sets

    name = "trio"
    words = "Siemens Trio, 21 volumes"

    @property
    def is_there(self) -> bool:
        return (self.data / TRIO).is_file()

    @cached_property
    def repeats(self) -> tuple[Series, Series]:
        both = load(self.data / TRIO)
        assert both.bvals is not None
        assert both.bvecs is not None
        n = both.n_volumes // 2
        first, second = (
            replace(both, data=both.data[..., i], bvals=both.bvals[i], bvecs=both.bvecs[i])
            for i in (slice(n), slice(n, None))
        )
        return first, second

    @property
    def noisy(self) -> Series:
        return self.repeats[0]

    @cached_property
    def mask(self) -> np.ndarray:
        """(X, Y, Z) the brain mask quell computes for repeat 1, eroded; the same for all."""
        mask = brain_mask(self.noisy.data, self.noisy.bvals)
        return np.asarray(ndimage.binary_erosion(mask, iterations=ERODED))

    @cached_property
    def sigma(self) -> float:
        first, second = (repeat.data[..., ~repeat.is_b0] for repeat in self.repeats)
        return sigma_of_repeats(first, second, self.mask)

    @cached_property
    def sigma_map(self) -> np.ndarray:
        """(X, Y, Z) noise of one Gaussian part around each voxel of the mask, from both repeats.

        The mean over the whole brain, `sigma`, holds what a few moving voxels differ by.
        """
        first, second = (repeat.data[..., ~repeat.is_b0] for repeat in self.repeats)
        difference = first - second
        difference -= difference[self.mask].mean(axis=0)
        share = ndimage.uniform_filter(self.mask.astype(np.float32), AROUND)
        power = np.where(self.mask, (difference**2).mean(axis=-1) / 2, 0)
        spread = np.sqrt(ndimage.uniform_filter(power, AROUND) / np.maximum(share, 1e-3))
        means = ndimage.uniform_filter((first + second) / 2, (3, 3, 1, 1))
        return sigma_of_spread(spread, means, Stabiliser.of("rician"))

    @property
    def facts(self) -> Scores:
        return {"sigma": self.sigma, "voxels": int(self.mask.sum())}

    def scores(self, written: np.ndarray, without_floor: np.ndarray | None) -> Scores:
        """What one result scores over b>0; as for the phantom, but nothing for a None."""
        second, found = self.repeats[1], {}
        dwi = ~second.is_b0
        for ending, result in (("", written), ("_off", without_floor)):
            if result is None:
                continue
            score = mse_over_variance(
                result[..., dwi], second.data[..., dwi], self.sigma, self.mask
            )
            found[f"mse{ending}"] = score.mse_over_variance
            found[f"mse{ending}_error"] = score.standard_error
            found[f"gain{ending}"] = score.gain_db
            relative = score.standard_error / abs(score.mse_over_variance)
            found[f"gain{ending}_error"] = 10 / np.log(10) * relative
        return found


# ---- the noise floor ---------------------------------------------------------------------------


def put_floor(signal: np.ndarray, sigma: np.ndarray, law: str, n_coils: float = 1.0) -> np.ndarray:
    """The mean magnitude E[m | signal]: a signal with its noise floor.

    signal  (X, Y, Z, V)  scanner units
    sigma   (X, Y, Z)     noise map, scanner units
    """
    stabiliser, out = Stabiliser.of(law, n_coils), np.empty_like(signal)
    for v in range(signal.shape[3]):
        out[..., v] = stabiliser.mean_of(signal[..., v] / sigma) * sigma
    return out


def take_floor_off(
    magnitude: np.ndarray, sigma: np.ndarray, law: str, n_coils: float = 1.0
) -> np.ndarray:
    """The signal whose mean magnitude is the given one; 0 below that of pure noise.

    magnitude  (X, Y, Z, V)  scanner units
    sigma      (X, Y, Z)     noise map, scanner units
    """
    return Scale.of(sigma, law, n_coils).without_floor(magnitude)


# ---- against the phantom's truth ---------------------------------------------------------------


def scores_against(result: np.ndarray, goal: np.ndarray) -> Scores:
    """What a result scores against a goal, the truth or its mean magnitude; tensors: the truth's.

    result, goal  (X, Y, Z, V)  scanner units
    """
    series, peak = truth().clean, truth().white_matter_b0
    mask, tissue = brain(), brain_tissue()
    b0, dwi = series.is_b0, ~series.is_b0
    off, maps = bias(result, goal, mask), tensors(result)
    return {
        "psnr_dwi": psnr(result[..., dwi], goal[..., dwi], mask, peak),
        "psnr_b0": psnr(result[..., b0], goal[..., b0], mask, peak),
        "fa_error": fa_error(maps, true_tensors(), tissue),
        "md_error": md_error(maps, true_tensors(), tissue),
        "bias": float(off[np.argmax(np.abs(off))]),
        "lesion_b0": lesion_contrast(result, b0) / lesion_contrast(goal, b0),
        "lesion_dwi": lesion_contrast(result, dwi) / lesion_contrast(goal, dwi),
    }


def residual_correlation(noisy: np.ndarray, result: np.ndarray, clean: np.ndarray) -> float:
    """Mean over the volumes of |r| between what was removed and the true image, in the mask."""
    r, mask = [], brain()
    for v in range(noisy.shape[3]):
        residual = (noisy[..., v] - result[..., v])[mask].astype(np.float64)
        if residual.any():
            r.append(abs(np.corrcoef(residual, clean[..., v][mask])[0, 1]))
    return float(np.mean(r)) if r else float("nan")  # nan: nothing was taken away


@lru_cache
def truth() -> Phantom:
    return phantom("B")


def brain() -> np.ndarray:
    """(X, Y, Z) the phantom's own brain mask, fluid included."""
    mask = truth().clean.mask
    assert mask is not None
    return mask


def brain_tissue() -> np.ndarray:
    """(X, Y, Z) white and grey matter: a tensor of fluid says nothing."""
    return np.isin(truth().tissue, (WHITE, GREY, DEEP))


def tensors(data: np.ndarray) -> TensorMaps:
    clean = truth().clean
    assert clean.bvals is not None
    assert clean.bvecs is not None
    return tensor_maps(data, clean.bvals, clean.bvecs, brain_tissue())


@lru_cache
def true_tensors() -> TensorMaps:
    return tensors(truth().clean.data)


def lesion_contrast(data: np.ndarray, volumes: np.ndarray) -> float:
    """Mean of the lesion less that of the white matter around it, scanner units.

    data     (X, Y, Z, V)
    volumes  (V,) bool
    """
    lesion = truth().lesion
    near, far = (ndimage.binary_dilation(lesion, iterations=n) for n in RING)
    ring = far & ~near & (truth().tissue == WHITE)
    mean = data[..., volumes].mean(axis=3, dtype=np.float64)
    return float(mean[lesion].mean() - mean[ring].mean())
