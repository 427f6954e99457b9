"""Patch2Self: every volume is predicted from all the others, never from itself.

Paper   Fadnavis, Batson, Garyfallidis, "Patch2Self", NeurIPS 2020, arXiv:2011.01355.
Idea    Noise is independent between volumes, signal is not. A regression of volume j on the
        other volumes can therefore only reproduce the signal of volume j.
Here    Ordinary least squares over all voxels, on one voxel of every other volume, the paper's
        choice, or on the 27 around it (radius 1). b=0 and diffusion-weighted volumes are regressed
        apart. A volume alone in its group passes.
Differs All V regressions come out of one matrix inverse (see `leave_one_out_weights`); the
        numbers are those of V separate regressions. Nothing is shifted or clipped afterwards.
        Beyond the edge of the image its outermost voxels are repeated.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np
import torch

from ..noise import NoiseModel
from ..run import Run, State
from ..series import InputError, Series
from ..settings import check_settings

VOXELS_AT_ONCE = 1 << 22  # values of a block of regressors, 32 MiB: a patch of V volumes has 27 V
VOXELS_PER_REGRESSOR = 2  # below it a regression reproduces half the noise


@dataclass(frozen=True)
class Patch2Self:
    """Patch2Self; its fields are its settings."""

    radius: int = 0  # of the patch of every other volume, voxels; 1: 27 times the regressors
    ridge: float = 1e-10  # of the mean variance, on the diagonal; only keeps it invertible

    name: ClassVar[str] = "patch2self"
    paper: ClassVar[str] = "Fadnavis et al. 2020, arXiv:2011.01355"
    best_volumes: ClassVar[int] = 10  # from here on; checks and sentences ask here
    needs: ClassVar[str] = f"{best_volumes} volumes or more in a group (b=0 and the rest are apart)"
    units: ClassVar[str] = "scanner"
    assumes_white: ClassVar[bool] = False
    summary: ClassVar[str] = "linear regression of each volume on the others"
    presets: ClassVar[dict[str, dict[str, float]]] = {"default": {}}

    def __post_init__(self) -> None:
        check_settings(self, {"radius": (0, 1)}, may_be_zero=("ridge",))

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """The weights of all regressions of one scan."""
        (scan,) = scans  # weights belong to one scan: volumes of another scan mean something else
        V, n_patch = scan.n_volumes, (2 * self.radius + 1) ** 3
        groups = [np.flatnonzero(scan.is_b0), np.flatnonzero(~scan.is_b0)]
        refuse_few_voxels(scan, n_patch * (max(map(len, groups)) - 1))
        W, c = np.zeros((n_patch, V, V)), np.zeros(V)
        mean, C = mean_and_scatter(scan.data, self.radius)
        for group in groups:
            if len(group):
                at = (np.arange(n_patch)[:, None] * V + group).ravel()
                weights, c[group] = leave_one_out_weights(
                    mean[at], C[np.ix_(at, at)], self.ridge, n_patch
                )
                W[:, group[:, None], group] = weights.reshape(n_patch, len(group), len(group))
        return {
            "weights": torch.from_numpy(W.reshape(n_patch * V, V)),
            "intercept": torch.from_numpy(c),
        }

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """Every volume predicted from the others, (X, Y, Z, V)."""
        W, c = (state[name].numpy() for name in ("weights", "intercept"))
        out = np.empty(scan.data.shape, dtype=np.float32)
        for box, A in regressors(scan.data, self.radius):
            out[box] = (A @ W + c).reshape(out[box].shape)
        return out


def refuse_few_voxels(scan: Series, n_regressors: int) -> None:
    """Raise InputError where so many regressors would fit the noise of so few voxels."""
    n_voxels = sum(int(np.count_nonzero(plane.any(axis=-1))) for plane in scan.data)
    if n_voxels < VOXELS_PER_REGRESSOR * n_regressors:
        raise InputError(
            f"{n_voxels} voxels that are not 0 are too few for a regression on {n_regressors} "
            "values; give radius=0, or another method"
        )


def regressors(data: np.ndarray, radius: int) -> Iterator[tuple[tuple[int, slice], np.ndarray]]:
    """Blocks of voxels: where, and their patches of all volumes, (voxels, patch · V) float64.

    data  (X, Y, Z, V)

    The columns run over the places in a patch, and in each over the volumes.
    """
    X, Y, Z, V = data.shape
    lags = range(-radius, radius + 1)
    rows = max(1, VOXELS_AT_ONCE // (len(lags) ** 3 * V * Z))
    for x, y in product(range(X), range(0, Y, rows)):
        ys = np.arange(y, min(y + rows, Y))
        if radius == 0:
            yield np.s_[x, y : y + rows], data[x, y : y + rows].reshape(-1, V).astype(np.float64)
            continue
        A = np.empty((len(ys), Z, len(lags) ** 3, V))
        for i, (dx, dy, dz) in enumerate(product(lags, repeat=3)):
            at_x, at_y = min(max(x + dx, 0), X - 1), np.clip(ys + dy, 0, Y - 1)
            A[:, :, i] = data[at_x, at_y][:, np.clip(np.arange(Z) + dz, 0, Z - 1)]
        yield np.s_[x, y : y + rows], A.reshape(len(ys) * Z, -1)


def mean_and_scatter(data: np.ndarray, radius: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Mean (K,) and scatter matrix (K, K) of all K = patch · V regressors over all voxels.

    data  (X, Y, Z, V)

    In one pass, about the mean of each volume: their own means are so close that what is then
    taken off costs no digits.
    """
    n_patch, n_voxels = (2 * radius + 1) ** 3, int(np.prod(data.shape[:3]))
    centre = np.tile(data.mean(axis=(0, 1, 2), dtype=np.float64), n_patch)
    total, C = np.zeros(len(centre)), np.zeros((len(centre), len(centre)))
    for _, A in regressors(data, radius):
        A -= centre
        total += A.sum(axis=0)
        C += A.T @ A
    return centre + total / n_voxels, C - np.outer(total, total) / n_voxels


def leave_one_out_weights(
    mean: np.ndarray, C: np.ndarray, ridge: float, n_patch: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression of every volume on the patches of all the others, in one inverse.

    mean     (K,)    of each of the K = n_patch · G regressors
    C        (K, K)  scatter matrix of the centred regressors
    ridge    times the mean of C's diagonal is the λ below
    n_patch  places in a patch; the middle one is the voxel itself

    Returns W (K, G), 0 for the volume's own patch, and c (G,), such that  Ŷ = A W + c.

    With P = (C + λI)⁻¹ the block-inverse formula gives the regression of the columns J, the patch
    of volume j, on the rest as  −P_iJ P_JJ⁻¹  (i not in J); of a single column, −P_ij / P_jj.
    """
    G, middle = len(C) // n_patch, n_patch // 2
    if G == 1:  # a lone volume has no others: passed through
        return np.eye(n_patch, 1, -middle), np.zeros(1)
    lam = max(ridge * np.trace(C) / len(C), np.finfo(float).tiny)  # 0 where all is constant
    P = np.linalg.inv(C + lam * np.eye(len(C)))
    W = np.empty((len(C), G))
    for j in range(G):
        J = np.arange(n_patch) * G + j
        W[:, j] = -P[:, J] @ np.linalg.solve(P[np.ix_(J, J)], np.eye(n_patch)[middle])
        W[J, j] = 0.0  # J-invariance, visible: volume j has no say in its own estimate
    return W, mean[middle * G : (middle + 1) * G] - mean @ W
