"""Without a truth and without a repeat: what was removed, and does it look like noise?

Idea    A perfect denoiser removes n and nothing else: the residual y - x̂ then has mean 0, the
        noise map's standard deviation, the noise's own autocorrelation, and no relation to the
        anatomy. Every departure has a meaning, which `verdict.py` puts into words.
Trap    These are necessary, not sufficient: a method that does nothing has a clean residual too.
        The opposite error, noise left behind, shows as a residual smaller than the noise.
Memory  Everything is accumulated volume by volume; the series itself is never copied.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from ..noise import Cluster, find_clusters
from .directions import above_b0, shell_numbers, shells
from .information import mutual_information
from .outliers import Outlier, SliceResiduals, outliers, slice_residual
from .reference import finite, masked
from .structure import detail_power, lagged_products, pairs_of, structure_of

CLUSTERS_LISTED = 50  # in JSON; a method that blurs leaves thousands


@dataclass(frozen=True, eq=False)
class ResidualStatistics:
    """Numbers of the residual y - x̂ inside the mask; NaN where a number cannot be had."""

    n_voxels: int  # of the mask, with a noise level above 0
    signal_before: np.ndarray  # (V,) mean of the noisy volume, data units
    signal_after: np.ndarray  # (V,) mean of the denoised volume, data units
    mean_over_sigma: np.ndarray  # (V,) mean of residual/σ; 0
    ratio: float  # sd of residual/σ over all volumes; 1, or a little less
    ratio_per_volume: np.ndarray  # (V,) the same for each volume
    autocorrelation: np.ndarray  # (3,) of residual/σ at one voxel along x, y, z
    autocorrelation_expected: np.ndarray  # (3,) the noise model's
    structure: float  # how unevenly the residual's power lies in space, beyond chance; 0
    structure_p: float  # of so much or more, had the power been shuffled among the voxels
    detail_change: float  # power of differences of neighbours, after / before; 1 or less
    correlation: float  # of residual/σ with the denoised image, signed, mean over volumes; 0
    correlation_per_volume: np.ndarray  # (V,)
    information: float  # bits that a voxel of the image tells of its residual/σ, beyond chance; 0
    correlation_of_best: float  # what the best possible estimate with this residual has
    magnitude_correlation: float  # of |residual|/σ with the denoised image, mean over volumes; 0
    magnitude_correlation_per_volume: np.ndarray  # (V,)
    shell_bvals: np.ndarray  # (S,) s/mm², mean of each shell, b=0 first; NaN without b-values
    shell_sizes: np.ndarray  # (S,) volumes in each shell
    shell_of_volume: np.ndarray  # (V,) number of its shell
    mean_change: np.ndarray  # (S,) mean after / mean before - 1
    contrast_before: np.ndarray  # (S,) rms over voxels of the sd over directions, σ² taken off
    contrast_after: np.ndarray  # (S,) the same of the denoised volumes, nothing taken off
    above_b0_before: float  # share of (voxel, direction) pairs with a DWI signal above mean b=0
    above_b0_after: float
    n_negative: int  # denoised values below 0
    n_nonfinite: int  # denoised values that are NaN or infinite, counted as 0 elsewhere
    clusters: tuple[Cluster, ...] = ()  # where one volume's residual is more than noise
    outliers: tuple[Outlier, ...] = ()  # slices whose residual is unlike that of their like

    @property
    def contrast_change(self) -> np.ndarray:
        """(S,) contrast after / before; below 1, directions were drawn towards their mean."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.contrast_after / self.contrast_before

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for JSON, NaN as None; of many clusters the strongest."""
        names = [f.name for f in fields(self) if f.name not in ("clusters", "outliers")]
        values = {name: _plain(np.asarray(getattr(self, name)).tolist()) for name in names}
        values["n_clusters"] = len(self.clusters)
        values["clusters"] = [asdict(cluster) for cluster in self.clusters[:CLUSTERS_LISTED]]
        values["outliers"] = [asdict(outlier) for outlier in self.outliers]
        return values


def residual_statistics(
    noisy: np.ndarray,
    denoised: np.ndarray,
    sigma: np.ndarray,
    mask: np.ndarray,
    bvals: np.ndarray | None,
    covariance: np.ndarray | None,
    floor: Callable[[np.ndarray], np.ndarray] | None = None,
) -> ResidualStatistics:
    """Measure what a denoiser removed.

    noisy       (X, Y, Z, V)                data units, real
    denoised    (X, Y, Z, V)                data units, real
    sigma       (X, Y, Z)                   noise map, data units
    mask        (X, Y, Z)                   where to measure; voxels without noise are left out
    bvals       (V,) or None                s/mm²
    covariance  (2Lx+1, 2Ly+1, 2Lz+1)       noise autocorrelation, centre 1; None for white noise
    floor                                   puts the noise floor back on a volume (X, Y, Z) whose
                                            floor was removed: that is no structure

    Residuals are divided by σ before they are correlated with anything: a coil's sensitivity
    shapes both σ and the image, and would pass for anatomy in the residual.
    """
    if noisy.shape != denoised.shape or noisy.shape[:3] != mask.shape or sigma.shape != mask.shape:
        raise ValueError(
            f"shapes differ: noisy {noisy.shape}, denoised {denoised.shape}, "
            f"sigma {sigma.shape}, mask {mask.shape}."
        )
    where = mask & np.isfinite(sigma) & (sigma > 0)
    if np.count_nonzero(where) < 2:
        raise ValueError("fewer than two voxels of the mask have a noise level above 0.")
    groups = shells(bvals, noisy.shape[3])
    n_negative, n_nonfinite = _counts(denoised, where)
    numbers, slices = _volume_numbers(noisy, denoised, sigma, where, covariance)
    return ResidualStatistics(
        n_voxels=int(np.count_nonzero(where)),
        **numbers,
        autocorrelation_expected=_neighbours(covariance),
        **shell_numbers(noisy, denoised, sigma, where, bvals, groups),
        shell_of_volume=_numbered(groups, noisy.shape[3]),
        **above_b0(noisy, denoised, where, bvals),
        n_negative=n_negative,
        n_nonfinite=n_nonfinite,
        clusters=_clusters(noisy, denoised, sigma, where, covariance, floor),
        outliers=tuple(outliers(slices, bvals)),
    )


def _numbered(groups: list[np.ndarray], n_volumes: int) -> np.ndarray:
    """(V,) number of the group that a volume is in."""
    numbers = np.zeros(n_volumes, dtype=int)
    for number, group in enumerate(groups):
        numbers[group] = number
    return numbers


def _clusters(
    noisy: np.ndarray,
    denoised: np.ndarray,
    sigma: np.ndarray,
    where: np.ndarray,
    covariance: np.ndarray | None,
    floor: Callable[[np.ndarray], np.ndarray] | None,
) -> tuple[Cluster, ...]:
    """Where the residual of one volume is more than noise."""
    noise = np.where(where, sigma, 1)

    def residual(v: int) -> np.ndarray:
        expected = denoised[..., v] if floor is None else floor(denoised[..., v])
        return np.nan_to_num((noisy[..., v] - expected) / noise, posinf=0, neginf=0)

    return find_clusters(residual, noisy.shape[3], where, covariance)


def _volume_numbers(
    noisy: np.ndarray,
    denoised: np.ndarray,
    sigma: np.ndarray,
    where: np.ndarray,
    covariance: np.ndarray | None,
) -> tuple[dict[str, Any], SliceResiduals]:
    """Everything that one pass over the volumes gives, and the residual of every slice."""
    n_volumes = noisy.shape[3]
    noise = sigma[where].astype(np.float64)
    table = np.empty((n_volumes, 8))  # in the order in which it is taken apart below
    lagged, pairs = np.zeros(3), pairs_of(where)
    power_map, z_map = np.zeros(noise.shape), np.zeros(where.shape, dtype=np.float32)
    detail, by_slice = np.zeros(2), []  # before and after
    for v in range(n_volumes):
        y, x0_hat = masked(noisy, where, v), finite(masked(denoised, where, v))
        z = (y - x0_hat) / noise
        centred = z - z.mean()
        table[v] = (y.mean(), x0_hat.mean(), z.mean(), np.mean(centred**2),
                    _correlation(z, x0_hat), _correlation(np.abs(centred), x0_hat),
                    _correlation_of_best(centred, x0_hat, noise),
                    mutual_information(z, x0_hat))  # fmt: skip
        lagged += lagged_products(centred, where, pairs)
        detail += [detail_power(x / noise, where, pairs) for x in (y, x0_hat)]
        z_map[where] = z
        by_slice.append(slice_residual(z_map, where))
        if table[v, 3] > 0:
            power_map += centred**2 / table[v, 3]
    before, after, mean, variance, correlation, magnitude, best, bits = table.T
    structure, p = structure_of(power_map, where, _neighbours(covariance, lag=2), n_volumes)
    power = variance.sum()
    numbers = {
        "signal_before": before,
        "signal_after": after,
        "mean_over_sigma": mean,
        "ratio": float(np.sqrt(variance.mean())),
        "ratio_per_volume": np.sqrt(variance),
        "autocorrelation": lagged / power if power > 0 else np.full(3, np.nan),
        "structure": structure,
        "structure_p": p,
        "information": float(bits.mean()),
        "correlation": float(correlation.mean()),
        "correlation_per_volume": correlation,
        "correlation_of_best": float(best.mean()),
        "magnitude_correlation": float(magnitude.mean()),
        "detail_change": float(detail[1] / detail[0]) if detail[0] > 0 else np.nan,
        "magnitude_correlation_per_volume": magnitude,
    }
    size, shift = (np.array(rows) for rows in zip(*by_slice, strict=True))
    return numbers, SliceResiduals(size, shift)


def _neighbours(covariance: np.ndarray | None, lag: int = 1) -> np.ndarray:
    """(3,) the noise model's autocorrelation at a lag along x, y, z; 0 beyond its reach."""
    expected = np.zeros(3)
    if covariance is None:
        return expected
    centre = [size // 2 for size in covariance.shape]
    for axis in range(3):
        if covariance.shape[axis] // 2 >= lag:
            index = [c + lag * (i == axis) for i, c in enumerate(centre)]
            expected[axis] = covariance[tuple(index)] / covariance[tuple(centre)]
    return expected


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r of two vectors; 0 if one of them is constant."""
    a, b = a - a.mean(), b - b.mean()
    power = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / power) if power > 0 else 0.0


def _correlation_of_best(z: np.ndarray, x0_hat: np.ndarray, noise: np.ndarray) -> float:
    """r of residual and result where the result is the posterior mean, which keeps some noise.

    With σ = 1: E[(y - x̂)²] = 1 - MSE (the error is orthogonal to x̂) and E[(y - x̂) x̂] = MSE
    (Stein), so the covariance is 1 - Var z, times σ for an image in data units.
    """
    size, spread = float(np.sqrt(np.mean(z**2))), float(x0_hat.std())
    if size == 0 or spread == 0:
        return 0.0
    return max(0.0, 1 - size**2) * float(noise.mean()) / (size * spread)


def _counts(denoised: np.ndarray, where: np.ndarray) -> tuple[int, int]:
    """Negative and non-finite values in the mask."""
    n_negative = n_nonfinite = 0
    for v in range(denoised.shape[3]):
        values = denoised[..., v][where]
        n_negative += int(np.count_nonzero(values < 0))
        n_nonfinite += int(np.count_nonzero(~np.isfinite(values)))
    return n_negative, n_nonfinite


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
