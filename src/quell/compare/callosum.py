"""The corpus callosum as a judge: SNR and CNR there, against a referee and against air."""

from dataclasses import dataclass

import numpy as np

from ..evaluate import (
    air_around,
    change_of,
    corpus_callosum,
    ddm2_snr,
    flattened,
    sigma_of_repeats,
    snr_of_air,
    snr_of_errors,
)
from ..evaluate.snr import FEW_VOXELS
from .judging import Judge, Scores, plain


@dataclass(frozen=True, eq=False)
class Callosum:
    """Where the noisy scan has its corpus callosum and its air; None of it without directions."""

    judge: Judge
    where: np.ndarray  # (X, Y, Z) bool
    air: np.ndarray  # (X, Y, Z) bool

    @staticmethod
    def of(judge: Judge) -> "Callosum | None":
        """Found in the noisy scan; None where there is none, or no directions to find it by."""
        if not judge.has_tensors:
            return None
        scan = judge.scan
        data = scan.data[..., judge.low]
        where = corpus_callosum(data, *judge.gradients, scan.where, scan.affine)
        if np.count_nonzero(where) < FEW_VOXELS:
            return None
        return Callosum(judge, where, air_around(scan.where))

    def scores(self, denoised: np.ndarray, as_published: bool) -> tuple[Scores, str]:
        """SNR and CNR of a result (X, Y, Z, V), scanner units, and what to know about them."""
        found = self._by_referee(denoised)
        volumes = self.judge.volumes
        why = flattened(self.judge.scan.data, denoised, self.air)
        if not why:
            before, after = (
                snr_of_air(data, self.where, self.air, volumes)
                for data in (self.judge.scan.data, denoised)
            )
            found |= _compared("air", before, after)
        if as_published and self.air.any():
            before, after = (
                ddm2_snr(data, self.where, self.air, volumes)
                for data in (self.judge.scan.data, denoised)
            )
            found |= _compared("published", before, after)
        said = f"no SNR against air, because {why}" if why else ""
        return {name: plain(value) for name, value in found.items()}, said

    def _by_referee(self, denoised: np.ndarray) -> dict[str, float]:
        judge, variance = self.judge, 0.0
        if judge.reference is None:
            return {}
        kept = judge.volumes
        if judge.is_truth:
            goal = judge.goal
        else:
            goal = judge.reference.data[..., kept]
            variance = sigma_of_repeats(judge.scan.data[..., kept], goal, self.where) ** 2
        given = (denoised[..., kept], goal, self.where, judge.scan.where, variance)
        snr, cnr = snr_of_errors(*given)
        return {"snr": snr, "cnr": cnr}


def _compared(
    name: str, before: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray]
) -> dict[str, float]:
    """Means over the volumes, and how they changed from the scan's."""
    found = {}
    for score, old, new in zip(("snr", "cnr"), before, after, strict=True):
        change = change_of(old, new)
        found[f"{name}_{score}"] = float(new.mean())
        found[f"{name}_{score}_change"] = change.mean
        found[f"{name}_{score}_sd"] = change.sd
        found[f"{name}_{score}_best"] = change.best
        found[f"{name}_{score}_worst"] = change.worst
        found[f"{name}_{score}_p"] = change.p
    return found
