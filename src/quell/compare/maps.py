"""Diffusion maps of the results against those of a truth: tensor, six directions, kurtosis."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..evaluate import KurtosisMaps, TensorMaps, fa_error, map_scores, tensor_maps
from ..evaluate.kurtosis import kurtosis_maps, kurtosis_scores, kurtosis_volumes
from ..evaluate.tensor import first_six
from ..series import InputError
from .judging import Judge, Measured, Scores, plain


@dataclass(frozen=True, eq=False)
class TrueMaps:
    """What the truth's maps are; each None where the gradients don't allow it."""

    judge: Judge
    six: np.ndarray | None = None  # (G,) volumes of the FA of six directions
    of_six: TensorMaps | None = None
    high: np.ndarray | None = None  # (G,) volumes that kurtosis is fitted to
    kurtosis: KurtosisMaps | None = None

    @staticmethod
    def of(judge: Judge, dki: bool) -> "TrueMaps | None":
        """Those of the truth; None where none is known, or no tensor can be fitted.

        dki  kurtosis, too; raises InputError where the scan does not allow it
        """
        bvals, bvecs = judge.scan.bvals, judge.scan.bvecs
        high = None if bvals is None or bvecs is None else kurtosis_volumes(bvals)
        if dki and (high is None or not judge.is_truth):
            raise InputError(
                f"{judge.scan.path} does not allow --dki: it needs --truth, a b=0, two shells up "
                "to b=3000 and 21 directions; leave it out"
            )
        if judge.reference is None or not judge.is_truth or not judge.has_tensors:
            return None
        assert bvals is not None
        assert bvecs is not None
        truth = judge.reference.data
        found: dict[str, Any] = {}
        six = first_six(bvals[judge.low], bvecs[judge.low])
        if six is not None:
            six = judge.low[six]
            found |= {"six": six, "of_six": _fitted(tensor_maps, truth, judge, six)}
        if dki:
            found |= {"high": high, "kurtosis": _fitted(kurtosis_maps, truth, judge, high)}
        return TrueMaps(judge, **found)

    def scores(self, denoised: np.ndarray, measured: Measured) -> Scores:
        """Errors of the maps of a result (X, Y, Z, V), scanner units."""
        found: dict[str, float] = {}
        where = self.judge.where
        if measured.tensors is not None and self.judge.true_tensors is not None:
            found |= map_scores(measured.tensors, self.judge.true_tensors, where)
        if self.six is not None and self.of_six is not None:
            estimate = _fitted(tensor_maps, denoised, self.judge, self.six)
            found["fa6_error"] = fa_error(estimate, self.of_six, where)
        if self.high is not None and self.kurtosis is not None:
            estimate = _fitted(kurtosis_maps, denoised, self.judge, self.high)
            found |= kurtosis_scores(estimate, self.kurtosis, where)
        return {name: plain(value) for name, value in found.items()}


def _fitted(fit: Any, data: np.ndarray, judge: Judge, volumes: Any) -> Any:
    """The maps of some volumes, in the judge's mask."""
    bvals, bvecs = judge.scan.bvals, judge.scan.bvecs
    assert bvals is not None
    assert bvecs is not None
    return fit(data[..., volumes], bvals[volumes], bvecs[volumes], judge.where)
