"""What the report shows, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..evaluate import ResidualStatistics
from ..evaluate.reference import finite


@dataclass(frozen=True, eq=False)
class ReportFacts:
    """Everything that the page shows, as plain data."""

    title: str  # the name of the input file
    noisy: np.ndarray  # (X, Y, Z, V) data units
    denoised: np.ndarray  # (X, Y, Z, V) data units
    sigma: np.ndarray  # (X, Y, Z) noise map, data units; (X, Y, Z, V) where volumes differ in it
    mask: np.ndarray  # (X, Y, Z) bool
    affine: np.ndarray  # (4, 4) mm
    bvals: np.ndarray | None  # (V,) s/mm²
    statistics: ResidualStatistics
    command: str  # reproduces the result
    settings: Mapping[str, Any]  # method, preset, seed, and every field of the method
    run: Mapping[str, Any]  # seconds per stage, peak memory, device; may be nested
    versions: Mapping[str, str] = field(default_factory=dict)  # of the software
    bvecs: np.ndarray | None = None  # (V, 3) unit vectors, zeros for b=0
    covariance: np.ndarray | None = None  # (2Lx+1, 2Ly+1, 2Lz+1) of the noise, centre 1
    losses: Sequence[float] = ()
    distances: Sequence[float] = ()  # from the input, after every step of a chain
    steps: Mapping[str, np.ndarray] = field(default_factory=dict)  # matched states, stopping steps
    uncertainty: np.ndarray | None = None  # (X, Y, Z, V) sd of the truth around the result
    probe: str = ""  # what the method would erase of a known structure, or how to ask
    spread: np.ndarray | None = None  # (X, Y, Z, V) sd of the result over samples, data units
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)  # (X, Y, Z) of the method's own
    findings: Sequence[Mapping[str, Any]] = ()  # of the checks, as `Finding.to_dict` gives them
    warnings: Sequence[str] = ()  # said during the run
    citations: Sequence[str] = ()  # the method's paper, the noise model's
    methods_paragraph: str = ""  # ready to paste
    limits: Sequence[str] = ()  # of this method, in front of the general ones
    eigenvalues: np.ndarray | None = None  # (K,) component variances, in units of σ²
    noise_edge: float | None = None  # largest eigenvalue that noise reaches, same unit
    floor_corrected: bool = False  # the method took the Rician floor off
    facts_of_scan: Mapping[str, str] = field(default_factory=dict)  # grid, voxel size, shells …

    @property
    def n_volumes(self) -> int:
        return int(self.noisy.shape[3])

    def noise_of(self, v: int) -> np.ndarray:
        """(X, Y, Z) noise map of a volume."""
        return self.sigma if self.sigma.ndim == 3 else self.sigma[..., v]

    def removed(self, v: int) -> np.ndarray:
        """(X, Y, Z) what was taken from a volume, over σ; 0 where no noise is known."""
        return over_sigma(self.noisy[..., v] - self.denoised[..., v], self.noise_of(v))


def over_sigma(residual: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Residual in units of σ, 0 where no noise is known."""
    known = sigma > 0
    return np.where(known, finite(residual) / np.where(known, sigma, 1), 0.0)
