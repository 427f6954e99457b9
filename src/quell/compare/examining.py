"""Examining: everything that `quell evaluate` asks of one result, and what it keeps to be shown."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..evaluate import Bundle, Judgement, Prediction, headline, tensor_maps, verdict
from ..evaluate.crossvalidation import MODELS, refuse_folds
from ..series import InputError, write_nifti
from .callosum import Callosum
from .contestants import NOISY
from .details import by_prediction, by_residual, by_truth
from .judging import Judge
from .maps import TrueMaps
from .running import DONE, Outcome
from .table import Row
from .tracts import Tracts, of_bundle

if TYPE_CHECKING:
    from ..report import Section


@dataclass(frozen=True)
class Evaluation:
    """What is asked of an evaluation.

    results       denoised files of the scan
    regions       map of labels, 1 where streamlines start and 2 what they are to reach
    models        "dti", "csd" or both: diffusion models whose predictions are judged, too
    dki           kurtosis maps, too
    folds         of their cross-validation
    as_published  the papers' own scores, too
    tables        whether a folder is asked for
    """

    results: Sequence[Path]
    models: Sequence[str] = ()
    dki: bool = False
    folds: int = 3
    as_published: bool = False
    regions: Path | None = None
    tables: bool = True

    def refuse(self) -> None:
        """Raise InputError for what can't be meant."""
        if not self.results:
            raise InputError("nothing is to be judged; give denoised files behind the scan", 2)
        for model in self.models:
            if model not in MODELS:
                raise InputError(f"--r2 {model} is no model; give {' or '.join(MODELS)}", 2)
        refuse_folds(self.folds)


@dataclass(frozen=True, eq=False)
class Examiner:
    """Who examines the results of one scan, one after the other, all alike.

    tracts       None where no regions are given
    anisotropy   result: FA in the slice that the page shows
    predictions  model, result: what was predicted
    bundles      result: its streamlines
    """

    judge: Judge
    what: Evaluation
    seed: int
    maps: TrueMaps | None
    callosum: Callosum | None
    tracts: Tracts | None = None
    anisotropy: dict[str, np.ndarray] = field(default_factory=dict)
    predictions: dict[str, dict[str, Prediction]] = field(default_factory=dict)
    bundles: dict[str, Bundle] = field(default_factory=dict)

    @staticmethod
    def of(judge: Judge, what: Evaluation, seed: int) -> "Examiner":
        """The examiner of a scan. Raises InputError for what can't be asked of it."""
        tracts = None if what.regions is None else Tracts.of(judge, what.regions, seed)
        return Examiner(judge, what, seed, TrueMaps.of(judge, what.dki), Callosum.of(judge), tracts)

    def row(self, name: str, path: Path | None, denoised: np.ndarray) -> Row:
        """The scores of one result (X, Y, Z, V), scanner units; of the scan itself without path."""
        judge, as_published = self.judge, self.what.as_published
        measured = judge.measure(denoised)
        scores = judge.scores(denoised, measured)
        scores |= by_truth(judge, denoised, as_published)
        if self.maps is not None:
            scores |= self.maps.scores(denoised, measured)
        remarks = []
        if path is not None:
            scores |= by_residual(measured.statistics)
            remarks = remarks_of(verdict(measured.statistics))
        if self.callosum is not None:
            found, said = self.callosum.scores(denoised, as_published)
            scores |= found
            remarks += [said] if said else []
        if self.what.tables and judge.has_tensors:
            self.anisotropy[name] = self._fa(denoised)
        near = None if self.callosum is None else self.callosum.where
        for model in self.what.models:
            given = (judge, denoised, model, self.what.folds, self.seed, as_published, near)
            found, prediction = by_prediction(*given)
            scores |= found
            self.predictions.setdefault(model, {})[name] = prediction
        if self.tracts is not None:
            self.bundles[name] = self.tracts.bundle(denoised)
            scores |= of_bundle(self.bundles[name])
        outcome = Outcome("", DONE, scores=scores, remarks=remarks)
        return Row(name, "the scan as it is" if path is None else str(path), outcome, path)

    def _fa(self, denoised: np.ndarray) -> np.ndarray:
        from ..report import axial_slice

        judge = self.judge
        shown = axial_slice(judge.scan.where, judge.scan.affine)
        return tensor_maps(denoised[..., judge.low], *judge.gradients, shown).fa

    def write_maps(self, folder: Path) -> None:
        """R² of every voxel, a file for each model and result."""
        for model, predictions in self.predictions.items():
            for name, prediction in predictions.items():
                path = folder / f"r2_{model}_{name.replace('/', '_')}.nii.gz"
                write_nifti(path, prediction.r2, self.judge.scan)

    def sections(self, names: Sequence[str]) -> "list[Section]":
        """What the page shows beyond the table and a slice, results in this order."""
        from ..report import anisotropy_section, bundle_section, prediction_section

        scan, found = self.judge.scan, []
        if self.anisotropy:
            maps = {name: self.anisotropy[name] for name in names}
            if self.judge.is_truth and self.judge.reference is not None:
                maps = {"the truth": self._fa(self.judge.reference.data), **maps}
            found.append(anisotropy_section(maps, scan.where, scan.affine))
        for model, of_model in self.predictions.items():
            found.append(prediction_section(model, {name: of_model[name] for name in names}, NOISY))
        if self.bundles:
            anatomy = scan.data[..., int(np.argmax(scan.is_b0))]
            given = ({name: self.bundles[name] for name in names}, NOISY, anatomy, scan.where)
            found.append(bundle_section(*given, scan.affine))
        return found


def remarks_of(judgements: list[Judgement]) -> list[str]:
    """The verdict in one sentence, and what is off; that nothing was removed counts, too."""
    found = headline(judgements)
    said = [found.sentence, *(reason.sentence for reason in found.reasons[1:])]
    return [sentence.rstrip(".") for sentence in said]
