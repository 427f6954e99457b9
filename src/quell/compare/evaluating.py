"""Evaluating: results that are there already, whoever made them, judged as a comparison's are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..evaluate import Judgement, headline, verdict
from ..evaluate.crossvalidation import MODELS, refuse_folds
from ..pipeline import Options
from ..run import Voice, set_threads
from ..series import InputError, load, stem
from .asked import Comparison
from .callosum import Callosum
from .contestants import NOISY
from .details import by_prediction, by_residual, by_truth
from .judging import Judge, judge_of, read_result
from .maps import TrueMaps
from .running import DONE, Outcome
from .showing import write_page, write_tables
from .table import Row, ranked

KIND = "evaluation"  # the name of its tables


@dataclass(frozen=True)
class Evaluation:
    """What is asked of an evaluation.

    results       denoised files of the scan
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
    tables: bool = True

    def refuse(self) -> None:
        """Raise InputError for what can't be meant."""
        if not self.results:
            raise InputError("nothing is to be judged; give denoised files behind the scan", 2)
        for model in self.models:
            if model not in MODELS:
                raise InputError(f"--r2 {model} is no model; give {' or '.join(MODELS)}", 2)
        refuse_folds(self.folds)


def evaluate_files(
    what: Evaluation, asked: Comparison, options: Options, command: str, voice: Voice
) -> list[Row]:
    """Judge denoised files of one scan; the rows, best first.

    asked    the scan, what judges, and the folder
    options  noise of the scan, seed and threads
    command  what reproduces it, for the page
    voice    told how far it is

    Raises InputError for a scan, a reference or a result that can't be used.
    """
    what.refuse()
    asked = replace(asked, kind=KIND)
    if what.tables:
        asked.refuse()
    else:
        asked.refuse_referees()
    named = names_of(what.results)
    scan = load(asked.scan, asked.bval, asked.bvec, asked.mask)
    if np.iscomplexobj(scan.data):
        raise InputError(f"{asked.scan} is complex; give magnitudes of the scan and the results")
    set_threads(options.threads)
    judge = judge_of(scan, asked, options)
    maps, callosum, rows = TrueMaps.of(judge, what.dki), Callosum.of(judge), []
    for name, path in [(NOISY, None), *named.items()]:
        voice.say(name)
        try:
            denoised = judge.scan.data if path is None else read_result(path, judge.scan)
        except InputError as error:
            raise InputError(f"{path} can't be judged: {error}") from None
        rows.append(_row(name, path, denoised, judge, maps, callosum, what, options.seed))
    best = ranked(rows)
    if what.tables:
        asked.out.mkdir(exist_ok=True)
        write_tables(asked, judge, best, options)
        write_page(asked, judge, best, command)
    return best


def _row(
    name: str,
    path: Path | None,
    denoised: np.ndarray,
    judge: Judge,
    maps: TrueMaps | None,
    callosum: Callosum | None,
    what: Evaluation,
    seed: int,
) -> Row:
    measured = judge.measure(denoised)
    scores = judge.scores(denoised, measured)
    scores |= by_truth(judge, denoised, what.as_published)
    if maps is not None:
        scores |= maps.scores(denoised, measured)
    remarks = []
    if path is not None:
        scores |= by_residual(measured.statistics)
        remarks = remarks_of(verdict(measured.statistics))
    if callosum is not None:
        found, said = callosum.scores(denoised, what.as_published)
        scores |= found
        remarks += [said] if said else []
    for model in what.models:
        scores |= by_prediction(judge, denoised, model, what.folds, seed, what.as_published)
    outcome = Outcome("", DONE, scores=scores, remarks=remarks)
    return Row(name, "the scan as it is" if path is None else str(path), outcome, path)


def remarks_of(judgements: list[Judgement]) -> list[str]:
    """The verdict in one sentence, and what is off; that nothing was removed counts, too."""
    said = [headline(judgements)[1]]
    for one in judgements:
        if one.level in ("warning", "error") or (one.code, one.level) == ("residual-size", "note"):
            said.append(one.sentence)
    return [sentence.rstrip(".") for sentence in said]


def names_of(paths: Iterable[Path]) -> dict[str, Path]:
    """A name for each file: its own, or with its folder's where two files bear the same one.

    Raises InputError for a file that is given twice.
    """
    paths = list(paths)
    short = [stem(path).name for path in paths]
    named: dict[str, Path] = {}
    for path, name in zip(paths, short, strict=True):
        if short.count(name) > 1 or name == NOISY:
            name = f"{path.resolve().parent.name}/{name}"
        if name in named:
            raise InputError(f"{path} and {named[name]} would bear one name; rename one", 2)
        named[name] = path
    return named
