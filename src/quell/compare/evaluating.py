"""Evaluating: results that are there already, whoever made them, judged as a comparison's are."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..options import Options
from ..run import Voice, set_threads
from ..series import InputError, load, stem
from .asked import Comparison
from .contestants import NOISY
from .examining import Evaluation, Examiner
from .judging import judge_of
from .results import read_result
from .showing import write_page, write_tables
from .table import Row, ranked

KIND = "evaluation"  # the name of its tables


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
    examiner = Examiner.of(judge, what, options.seed)
    rows = []
    for name, path in [(NOISY, None), *named.items()]:
        voice.say(name)
        try:
            denoised = judge.scan.data if path is None else read_result(path, judge.scan)
        except InputError as error:
            raise InputError(f"{path} can't be judged: {error}") from None
        rows.append(examiner.row(name, path, denoised))
    best = ranked(rows)
    if what.tables:
        asked.out.mkdir(exist_ok=True)
        write_tables(asked, judge, best, options)
        examiner.write_maps(asked.out)
        write_page(asked, judge, best, command, examiner.sections([row.name for row in best]))
    return best


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
