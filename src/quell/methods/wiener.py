"""wiener: the global Wiener filter of a series, the cheap reference for methods that learn.

Paper   N. Wiener, "Extrapolation, interpolation, and smoothing of stationary time series", MIT
        Press 1949; here over the volumes of a scan instead of time.
Idea    The volumes of a scan are rotated to their principal components. In units of the noise a
        component of variance λ holds signal of variance λ - 1, and the linear estimate of least
        error keeps the share (λ - 1) / λ of it.
Here    sigma = 1 after `scaling`. The same weights in all voxels of the mask, others outside it,
        where other things are seen; seconds for a scan. It is what quell's joint method gives
        before it has learned anything, so what that gains on top of it is what its network found
        in space. Neighbouring voxels play no role, so their noise may correlate.
Differs nothing
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from ..noise import NoiseModel, principal_components
from ..run import Run, State
from ..series import Series, outside_mask
from ..settings import check_settings


@dataclass(frozen=True)
class Wiener:
    """The global Wiener filter; its fields are its settings."""

    least_signal: float = 0.03  # components with less signal variance are set to their mean

    name: ClassVar[str] = "wiener"
    paper: ClassVar[str] = "Wiener 1949, over principal components of the volumes"
    best_volumes: ClassVar[int] = 12  # from here on; checks and sentences ask here
    needs: ClassVar[str] = f"{best_volumes} volumes or more of one anatomy; takes little off fewer"
    units: ClassVar[str] = "sigma"
    assumes_white: ClassVar[bool] = False
    summary: ClassVar[str] = "principal components, each shrunk by its noise; seconds, no training"
    takes_one_image: ClassVar[bool] = True
    is_posterior_mean: ClassVar[bool] = True  # so its derivative tells how sure it is
    presets: ClassVar[dict[str, dict[str, Any]]] = {"default": {}}

    def __post_init__(self) -> None:
        check_settings(self, {}, may_be_zero=("least_signal",))

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """Mean (V,) of the volumes of one scan, and the filter (V, V) of what is around it.

        Both also of what lies outside the mask, where that holds anything: it shows something else.
        """
        (scan,) = scans  # components of another scan mean something else
        state = self._filter_of(scan.data[scan.where])
        if (outside := outside_mask(scan)).any():
            other = self._filter_of(scan.data[outside])
            state |= {f"{name} outside": value for name, value in other.items()}
        return state

    def _filter_of(self, Y: np.ndarray) -> State:
        """Mean (V,) and filter (V, V) of voxels, (voxels, V)."""
        mean, values, U = principal_components(Y)
        ev = np.maximum(values - 1, 0)
        is_kept = ev > self.least_signal
        is_kept[0] = True  # one component stays, whatever it holds
        w = is_kept * ev / (ev + 1)
        return {"mean": torch.from_numpy(mean), "filter": torch.from_numpy((U * w) @ U.T)}

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """Every voxel filtered over its volumes, (X, Y, Z, V)."""
        out = scan.data.astype(np.float32)
        regions = [(scan.where, "")]
        if "filter outside" in state:
            regions.append((outside_mask(scan), " outside"))
        for region, name in regions:
            mean, filter_ = (state[part + name].numpy() for part in ("mean", "filter"))
            for x in range(len(out)):  # one plane at a time: no second copy of the scan
                here = region[x]
                out[x][here] = (scan.data[x][here] - mean) @ filter_ + mean
        return out
