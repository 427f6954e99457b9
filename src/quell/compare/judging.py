"""Judging: what every result scores, by a truth, by a second acquisition, and by its residual.

Here    A truth is known for phantoms: the gain is the mean squared error of the noisy scan over
        that of the result. A repeat is a second acquisition of the same volumes, whose noise is
        independent: it gives the same number without a truth. Where there is neither, the scan
        may be given with more noise, and be judged by the rest (`evaluate.recorruption`). All over
        b>0 where there is any.
Trap    Magnitude data have a noise floor, and results keep it unless it is asked to go. So a
        truth is compared after it was given the floor that the scan's noise makes of it; FA is
        compared with the truth's own.
Trap    Noise makes FA too high, in a second acquisition as well: whoever denoises least would be
        nearest to its FA. So a repeat judges the tensors by the signal they predict for it.
Trap    A reference that holds the noise of the scan itself would praise whoever takes least away:
        it is refused.
"""

from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy import ndimage

from ..evaluate import (
    Recorruption,
    RepeatScore,
    ResidualStatistics,
    TensorMaps,
    fa_error,
    mse_over_variance,
    residual_statistics,
    rmse,
    shells,
    sigma_of_repeats,
    tensor_maps,
    tensor_prediction,
)
from ..fingerprints import checksum
from ..noise import NoiseModel
from ..options import Options
from ..pipeline import known
from ..run import Run
from ..scaling import Stabiliser
from ..series import InputError, Series, load, load_map
from .asked import Comparison

ERODED = 2  # voxels off the mask for a repeat: at the rim, motion would pass for error
LEAST_VOXELS = 500  # of an eroded mask; smaller ones are taken as they are
TENSOR_B_MAX = 1500.0  # s/mm²; above, the signal of tissue is no single exponential
BRIGHT = 3.0  # signal over noise from which the noise of magnitudes is as large as any
FEW_VOXELS = 50  # know a standard deviation to 10 %, and there are many volumes
LEAST_DIFFERENCE = 0.8  # of the noise: a reference that is nearer holds a fifth of it or more

Scores = dict[str, float | None]


@dataclass(frozen=True)
class Measured:
    """What several scores of one result are taken from.

    statistics  of what was removed
    tensors     None where there is no truth to compare them with
    """

    statistics: ResidualStatistics
    tensors: TensorMaps | None = None


@dataclass(frozen=True)
class Judge:
    """What the results on one scan are compared with.

    scan       with its mask
    noise      its noise model
    reference  the truth, or the second acquisition; None where there is neither
    is_truth   which of them
    more       what was made of the scan where its noise was added to; `scan` is that one then
    """

    scan: Series
    noise: NoiseModel
    reference: Series | None = None
    is_truth: bool = False
    more: Recorruption | None = None

    @staticmethod
    def of(scan: Series, noise: NoiseModel, truth: Path | None, repeat: Path | None) -> "Judge":
        """The judge with a reference from a file.

        Raises InputError for a reference that does not belong to the scan, or holds its noise.
        """
        path = truth or repeat
        if path is None:
            return Judge(scan, noise)
        reference = load(path)
        what = "truth" if truth else "repeat"
        if np.iscomplexobj(reference.data):
            raise InputError(f"the {what} {path} is complex and the scan is not; give magnitudes")
        if reference.data.shape != scan.data.shape or not np.allclose(
            reference.affine, scan.affine, atol=1e-3
        ):
            raise InputError(
                f"the {what} {path} is {reference.data.shape} and the scan {scan.data.shape}, or "
                "they lie elsewhere; give one of the same volumes on the same grid"
            )
        judge = Judge(scan, noise, reference, bool(truth))
        judge.refuse_dependence(str(path))
        return judge

    def refuse_dependence(self, name: str) -> None:
        """Raise InputError where the reference holds noise of the scan itself.

        An independent reference R = truth + m of y = truth + n: E[(y - R)²] = σ² + E[m²]. One
        that is part the scan itself, R = (1 - a) truth + a y, leaves only (1 - a)² σ² there.
        """
        assert self.reference is not None
        if self.noise.is_upper_bound:
            return  # the noise model is an upper bound: it can't tell
        sigma, ratios = self.noise.sigma, []
        for v in self.volumes:
            level = self.level_of(v)
            y, R = self.scan.data[..., v], self.reference.data[..., v]
            bright = self.where & (BRIGHT * level * sigma < R)  # in the dark the noise is smaller
            if bright.sum() >= FEW_VOXELS:
                ratios.append(float(np.std((y - R)[bright] / sigma[bright]) / level))
        if ratios and (least := float(np.median(ratios))) < LEAST_DIFFERENCE:
            raise InputError(
                f"{name} holds the noise of the scan itself (they differ by {least:.2f} of it), or "
                "the noise map is too high; give a truth or a repeat that the scan is no part of"
            )

    @property
    def has_referee(self) -> bool:
        """Whether anything says which result is best."""
        return self.reference is not None or self.more is not None

    @property
    def words(self) -> str:
        """By what the results are judged."""
        if self.more is not None:
            return f"the scan itself, after {self.more.a:g} of its own noise was added to it"
        if self.reference is None:
            return (
                "nothing but the residual: give --truth, --repeat or --recorrupt to say which is "
                "best"
            )
        return "the truth" if self.is_truth else "a second acquisition"

    @cached_property
    def key(self) -> str:
        """Changes with the reference, the mask and the noise model."""
        known = (self.scan.bvals, self.scan.bvecs, self.noise.levels, self.noise.covariance)
        beside = [] if self.reference is None else [*self.reference.data]
        beside += [] if self.more is None else [*self.more.target]
        beside += [one for one in known if one is not None]
        crc = checksum([self.scan.where, self.noise.sigma, *beside])
        law = f"{self.noise.law}, N = {self.noise.n_coils}"
        return f"{version('quell')}/{self.words}/{law}/{crc:08x}"

    @property
    def volumes(self) -> np.ndarray:
        """(G,) volumes that count: b>0 where there are any."""
        dwi = np.flatnonzero(~self.scan.is_b0)
        return dwi if len(dwi) else np.arange(self.scan.n_volumes)

    @cached_property
    def where(self) -> np.ndarray:
        """(X, Y, Z) bool, where to compare."""
        mask = self.scan.where
        if self.reference is None or self.is_truth:
            return mask
        inner = ndimage.binary_erosion(mask, np.ones((3, 3, 1)), iterations=ERODED)
        return np.asarray(inner if inner.sum() >= LEAST_VOXELS else mask)

    def level_of(self, v: int) -> float:
        """Noise of a volume over the noise map."""
        return 1.0 if self.noise.levels is None else float(self.noise.levels[v])

    def scores(self, denoised: np.ndarray, measured: Measured | None = None) -> Scores:
        """What a comparison says of one result (X, Y, Z, V), scanner units.

        measured  of this result, where it is at hand
        """
        measured = measured or self.measure(denoised)
        s = measured.statistics
        found = {"ratio": s.ratio, "structure": s.structure, "correlation": s.correlation}
        if self.more is not None:
            found |= _gain(self.more.score(denoised, self.volumes))
        if self.reference is not None:
            found |= (
                self._by_truth(denoised, measured) if self.is_truth else self._by_repeat(denoised)
            )
        return {name: plain(value) for name, value in found.items()}

    def measure(self, denoised: np.ndarray) -> Measured:
        """What several scores of one result (X, Y, Z, V), scanner units, are taken from."""
        mask, sigma = self.scan.where, self.noise.sigma
        before, after = self.scan.data, denoised
        if self.noise.levels is not None:
            before, after = before / self.noise.levels, after / self.noise.levels
        s = residual_statistics(before, after, sigma, mask, self.scan.bvals, self.noise.covariance)
        if not self.is_truth or self.true_tensors is None:
            return Measured(s)
        return Measured(s, tensor_maps(denoised[..., self.low], *self.gradients, self.where))

    def _by_truth(self, denoised: np.ndarray, measured: Measured) -> dict[str, float]:
        goal, kept = self.goal, self.volumes
        before, after = (
            rmse(data[..., kept], goal, self.where) for data in (self.scan.data, denoised)
        )
        gain = float(20 * np.log10(before / after)) if before and after else float("nan")
        found = {"gain": gain, "rmse": after}
        if measured.tensors is not None and self.true_tensors is not None:
            found["fa_error"] = fa_error(measured.tensors, self.true_tensors, self.where)
        return found

    def _by_repeat(self, denoised: np.ndarray) -> dict[str, float]:
        assert self.reference is not None
        kept = self.volumes
        first, second = self.scan.data[..., kept], self.reference.data[..., kept]
        sigma = sigma_of_repeats(first, second, self.where)
        found = _gain(mse_over_variance(denoised[..., kept], second, sigma, self.where))
        if self.has_tensors:
            low = self.low
            said = tensor_prediction(denoised[..., low], *self.gradients, self.where)
            is_dwi = ~self.scan.is_b0[low]
            other = self.reference.data[..., low[is_dwi]]
            by_tensor = mse_over_variance(said[..., is_dwi], other, sigma, self.where)
            found["tensor_gain"] = by_tensor.gain_db
        return found

    @cached_property
    def goal(self) -> np.ndarray:
        """(X, Y, Z, G) the truth of the volumes that count, with the scan's noise floor."""
        assert self.reference is not None
        clean = self.reference.data[..., self.volumes]
        if self.noise.law == "gaussian":
            return clean
        stabiliser, goal = Stabiliser.of(self.noise.law, self.noise.n_coils), np.empty_like(clean)
        for v, of_scan in enumerate(self.volumes):
            sigma = self.noise.sigma * self.level_of(int(of_scan))
            goal[..., v] = stabiliser.mean_of(clean[..., v] / sigma) * sigma
        return goal

    @cached_property
    def low(self) -> np.ndarray:
        """Volumes whose signal is a single exponential."""
        assert self.scan.bvals is not None
        return np.flatnonzero(self.scan.bvals <= TENSOR_B_MAX)

    @property
    def gradients(self) -> tuple[np.ndarray, np.ndarray]:
        """b-values and directions of these."""
        assert self.scan.bvals is not None
        assert self.scan.bvecs is not None
        return self.scan.bvals[self.low], self.scan.bvecs[self.low]

    @cached_property
    def has_tensors(self) -> bool:
        """Whether there are directions enough for a tensor."""
        if self.scan.bvals is None or self.scan.bvecs is None:
            return False
        n_b0 = int(self.scan.is_b0[self.low].sum())
        return n_b0 > 0 and len(self.low) - n_b0 >= 6

    @cached_property
    def true_tensors(self) -> TensorMaps | None:
        """Of the reference; None where there is none, or no tensor."""
        if not self.has_tensors or self.reference is None:
            return None
        return tensor_maps(self.reference.data[..., self.low], *self.gradients, self.where)

    @property
    def shown(self) -> int:
        """The volume that pictures show: in the middle of the highest shell."""
        group = shells(self.scan.bvals, self.scan.n_volumes)[-1]
        return int(group[len(group) // 2])


def _gain(score: RepeatScore) -> dict[str, float]:
    relative = score.standard_error / abs(score.mse_over_variance)
    return {
        "gain": score.gain_db,
        "gain_error": 10 / np.log(10) * relative,
        "mse": score.mse_over_variance,
        "mse_error": score.standard_error,
    }


def judge_of(scan: Series, asked: Comparison, options: Options) -> Judge:
    """Who judges results on a scan: its noise is learned, and the reference read.

    Raises InputError for a scan or a reference that can't be used.
    """
    noise_map = None if asked.noise_in is None else load_map(asked.noise_in, scan)
    scan, _, _, noise, _ = known(scan, options, Run(), noise_map=noise_map)
    return Judge.of(scan, noise, asked.truth, asked.repeat)


def plain(value: float) -> float | None:
    """A score as it is kept: five digits, None for what is not a number."""
    return float(f"{value:.5g}") if np.isfinite(value) else None
