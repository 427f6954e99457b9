"""The noise model: what the noise of one scan is like, and noise drawn like it."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import fft

from ..run import onto
from .edge import noise_edge

ADDED = ("measured", "white")  # what noise that is added on purpose may be like
LAGS = (6, 6, 2)  # voxels; correlation is measured up to here
IMAGES_FOR_COVARIANCE = 12  # each holds thousands of voxels; a bound on the time, not tuned
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
    n_voxels            that the eigenvalues were computed from; 0 where that is not known
    is_upper_bound      whether anatomy or contrast may count as noise in sigma
    is_given            whether sigma is a map of the user's
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
    n_voxels: int = 0
    is_upper_bound: bool = False
    is_given: bool = False

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

    @property
    def edge(self) -> float:
        """The largest of the eigenvalues that noise alone would have; 1 where that is not known."""
        n_images = min(self.n_noise_components, IMAGES_FOR_COVARIANCE)
        return noise_edge(len(self.eigenvalues), self.n_voxels, self.covariance, n_images)

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
    white = torch.randn((*shape[:-2], *grid), generator=rng, device=rng.device)
    white = onto(white, root.device)
    z = torch.fft.irfft2(torch.fft.rfft2(white) * root, s=grid)
    return z[..., : shape[-2], : shape[-1]]


def draw_like(x: torch.Tensor, root: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Fresh noise of the shape of x, (B, C, H, W) or (B, C, H, W, D), correlated in plane."""
    shape = (*x.shape[:2], *x.shape[4:], *x.shape[2:4])
    z = draw(onto(root, x.device), shape, rng)
    return z if x.ndim == 4 else z.movedim(2, -1)


def covary(x: torch.Tensor, root: torch.Tensor) -> torch.Tensor:
    """Σ x, with Σ the covariance of noise drawn with `root`; x (..., H, W), nothing around it."""
    grid = (root.shape[0], 2 * (root.shape[1] - 1))
    spectrum = torch.fft.rfft2(x, s=grid) * root.to(x.device) ** 2
    return torch.fft.irfft2(spectrum, s=grid)[..., : x.shape[-2], : x.shape[-1]]


def shuffled(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """The pixels of every image in one random order, the same for all: white, same values."""
    order = onto(torch.randperm(x[0, 0].numel(), generator=rng), x.device)
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
