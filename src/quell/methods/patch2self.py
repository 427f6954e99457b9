"""Patch2Self: every volume is predicted from all the others, never from itself.

Paper   Fadnavis, Batson, Garyfallidis, "Patch2Self", NeurIPS 2020, arXiv:2011.01355.
Idea    Noise is independent between volumes, signal is not. A regression of volume j on the
        other volumes can therefore only reproduce the signal of volume j.
Here    Patch radius 0 (one voxel), ordinary least squares over all voxels; b=0 and
        diffusion-weighted volumes are regressed apart. A volume alone in its group passes.
Differs All V regressions come out of one matrix inverse (see `leave_one_out_weights`); the
        numbers are those of V separate regressions. Nothing is shifted or clipped afterwards.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ..noise import NoiseModel
from ..run import Run, State
from ..series import InputError, Series


@dataclass(frozen=True)
class Patch2Self:
    """Patch2Self; its fields are its settings."""

    ridge: float = 1e-10  # of the mean variance, on the diagonal; only keeps it invertible

    name: ClassVar[str] = "patch2self"
    paper: ClassVar[str] = "Fadnavis et al. 2020, arXiv:2011.01355"
    needs: ClassVar[str] = "10 volumes or more in a group (b=0 and the rest are apart)"
    units: ClassVar[str] = "scanner"
    summary: ClassVar[str] = "linear regression of each volume on the others"
    presets: ClassVar[dict[str, dict[str, float]]] = {"default": {}}

    def __post_init__(self) -> None:
        if self.ridge < 0:
            raise InputError(f"ridge={self.ridge} is too small; give 0 or more", 2)

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """The weights of all regressions of one scan."""
        (scan,) = scans  # weights belong to one scan: volumes of another scan mean something else
        V = scan.n_volumes
        W, c = np.zeros((V, V)), np.zeros(V)
        for group in (np.flatnonzero(scan.is_b0), np.flatnonzero(~scan.is_b0)):
            if len(group):
                mean, C = mean_and_scatter(scan.data, group)
                W[np.ix_(group, group)], c[group] = leave_one_out_weights(mean, C, self.ridge)
        return {"weights": torch.from_numpy(W), "intercept": torch.from_numpy(c)}

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """Every volume predicted from the others, (X, Y, Z, V)."""
        W, c = (state[name].numpy() for name in ("weights", "intercept"))
        out = np.empty(scan.data.shape, dtype=np.float32)
        for x in range(len(out)):
            out[x] = scan.data[x].astype(np.float64) @ W + c
        return out


def mean_and_scatter(data: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (G,) and scatter matrix (G, G) of some volumes over all voxels, in two passes.

    data   (X, Y, Z, V)
    group  (G,)  indices of the volumes
    """
    mean = data.mean(axis=(0, 1, 2), dtype=np.float64)[group]
    C = np.zeros((len(group), len(group)))
    for plane in data:  # one plane at a time: no float64 copy of the scan
        Y = plane[..., group].reshape(-1, len(group)).astype(np.float64) - mean
        C += Y.T @ Y
    return mean, C


def leave_one_out_weights(
    mean: np.ndarray, C: np.ndarray, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression of every volume on all the others, in one inverse.

    mean   (G,)    of each volume
    C      (G, G)  scatter matrix of the centred volumes
    ridge  times the mean of C's diagonal is the λ below

    Returns W (G, G) with a zero diagonal and c (G,), such that  Ŷ = Y W + c.

    With P = (C + λI)⁻¹ the block-inverse formula gives the regression of column j on the rest
    as  w_ij = −P_ij / P_jj  (i ≠ j).
    """
    if len(C) == 1:
        return np.ones((1, 1)), np.zeros(1)  # a lone volume has no others: passed through
    lam = max(ridge * np.trace(C) / len(C), np.finfo(float).tiny)  # 0 where all is constant
    P = np.linalg.inv(C + lam * np.eye(len(C)))
    W = -P / np.diag(P)  # divides column j by P_jj
    np.fill_diagonal(W, 0.0)  # J-invariance, visible: volume j has no say in its own estimate
    return W, mean - mean @ W
