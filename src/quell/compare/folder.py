"""The folder of a comparison: what is done stays there, what is missing is run.

OUT/comparison.csv, .json, .md, .html     the table and the page
OUT/NAME/denoised.nii.gz                  what a contestant wrote, with its log
OUT/NAME/outcome.json                     what became of it: done, failed or out of time
OUT/probed.nii.gz, OUT/NAME/probe/        the same for the scan with structures in it, by --probe
"""

import hashlib
import json
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluate import Recorruption
from ..options import Options
from ..run import Voice, set_threads
from ..series import InputError, Series, copy_gradients, load, sources_of, write_nifti
from .asked import Comparison
from .contestants import (
    NOISY,
    Contestant,
    external,
    gradients_of,
    inputs_of,
    quells_own,
    refuse_twins,
)
from .judging import Judge, judge_of
from .probing import ProbeOfAll
from .results import read_result
from .running import DONE, FAILED, Outcome, run
from .showing import write_page, write_tables
from .table import COLUMNS, Row, cell, columns_of, ranked, remark_of

ADDED_NOISE = 0.5  # by --recorrupt, in units of the scan's: that of Pang et al. 2021
OUTCOME, RESULT = "outcome.json", "denoised.nii.gz"
REMARKABLE = ("white-noise-assumed", "noise-from-differences", "no-noise-bulk", "few-volumes")


def compare_file(asked: Comparison, options: Options, command: str, voice: Voice) -> list[Row]:
    """Run, judge and show every contestant on one scan; the rows, best first.

    options  noise, seed, device and threads of all methods; each has its own preset
    command  what reproduces it, for the page
    voice    told how far it is

    A contestant that fails or runs out of time does not stop the others. Raises InputError for a
    scan, a reference or a contestant that can't be used, and when none came to a result.
    """
    asked.refuse()
    scan = load(asked.scan, asked.bval, asked.bvec, asked.mask)
    if np.iscomplexobj(scan.data):
        raise InputError("complex scans can't be compared yet; give the magnitude")
    contestants = quells_own(asked.methods, asked.preset, scan, options)
    contestants += [external(text) for text in asked.externals]
    refuse_twins(contestants)
    if not contestants:
        raise InputError("nothing is to be compared; give --methods or --external", 2)
    n_threads = set_threads(options.threads)
    judge = judge_of(scan, asked, options)
    asked.out.mkdir(exist_ok=True)
    judge = replace(judge, scan=with_gradient_files(judge.scan, asked.out))
    scan = judge.scan
    write_tables(asked, judge, [], options)  # from here on the folder is known as a comparison's
    _refuse_full_disk(asked.out, scan, len(contestants) * (1 + asked.probe))
    if asked.recorrupt:
        asked, judge = recorrupted(asked, judge, options.seed)
    probing = ProbeOfAll.of(asked, judge, options) if asked.probe else None
    rows = [_row_of_noisy(judge, probing)]
    with _finished_are_kept(asked.out):
        for i, one in enumerate(contestants, start=1):
            voice.say(f"{one.name} ({i} of {len(contestants)})")
            row = _one(one, asked, judge, n_threads, voice)
            if probing is not None and row.outcome.status == DONE:
                voice.say(f"  {one.name}, with structures")
                row = _with_probe(row, one, probing, judge, n_threads)
            rows.append(row)
            voice.say(f"  {_said_of(row)}")
            write_tables(asked, judge, rows, options)  # after each: a stopped run shows what it has
    best = ranked(rows)
    write_page(asked, judge, best, command)
    if all(row.outcome.status != DONE for row in best if row.name != NOISY):
        raise InputError(f"none of the methods came to a result; their logs are in {asked.out}")
    return best


def with_gradient_files(scan: Series, out: Path) -> Series:
    """The scan with bval and bvec in files, for programs that ask for them."""
    if scan.mif is None or scan.bvals is None or scan.bval_path is not None:
        return scan
    bval, bvec = copy_gradients(scan, out / "gradients.nii")
    return replace(scan, bval_path=bval, bvec_path=bvec)


def recorrupted(asked: Comparison, judge: Judge, seed: int) -> tuple[Comparison, Judge]:
    """The same comparison of the scan with more noise, which is written into its folder."""
    scan, noise = judge.scan, judge.noise
    if noise.is_upper_bound:
        raise InputError(
            f"the noise is known from {noise.source}, too little to judge by --recorrupt; "
            "leave it out, give a repeat, or a noise map"
        )
    rng = np.random.default_rng(seed)
    more = Recorruption.of(scan.data, scan.where, noise, rng, ADDED_NOISE)
    if not more.where.any():
        raise InputError(
            "nowhere is the signal well enough above the noise to judge by --recorrupt; leave it "
            "out, or give a repeat"
        )
    path = asked.out / "recorrupted.nii.gz"
    write_nifti(path, more.given, scan)
    noise = replace(noise, sigma=noise.sigma * np.float32(np.hypot(1, more.a)))
    if asked.noise_in is not None:
        write_nifti(asked.out / "noise.nii.gz", noise.sigma, scan)
        asked = replace(asked, noise_in=asked.out / "noise.nii.gz")
    judge = Judge(replace(scan, data=more.given, path=path), noise, more=more)
    return replace(asked, scan=path, named=asked.title), judge


def _one(one: Contestant, asked: Comparison, judge: Judge, n_threads: int, voice: Voice) -> Row:
    """Run one contestant, unless it is done already, and judge it."""
    folder = asked.out / one.folder
    folder.mkdir(exist_ok=True)
    key = key_of(one, asked, judge.scan)
    outcome = Outcome.read(folder / OUTCOME)
    is_there = (folder / RESULT).is_file() and outcome is not None and outcome.status == DONE
    if not is_there or outcome is None or outcome.key != key or asked.again:
        outcome = _run_one(one, asked, judge.scan, folder, n_threads, key)
        outcome.write(folder / OUTCOME)
    if outcome.status == DONE and outcome.judged != judge.key:
        try:
            denoised = read_result(folder / RESULT, judge.scan)
            remarks = remarks_of(folder)
            outcome = replace(
                outcome, scores=judge.scores(denoised), judged=judge.key, remarks=remarks
            )
        except InputError as error:
            outcome = replace(outcome, status=FAILED, why=str(error))
        outcome.write(folder / OUTCOME)
    return Row(one.name, one.about, outcome, folder / RESULT)


def _with_probe(
    row: Row, one: Contestant, probing: ProbeOfAll, judge: Judge, n_threads: int
) -> Row:
    """The row with what the contestant keeps of known structures, run unless that is done."""
    assert row.result is not None
    asked, folder = probing.asked, row.result.parent / "probe"
    folder.mkdir(exist_ok=True)
    key = f"{row.outcome.key}/{judge.key}/{key_of(one, asked, judge.scan)}"
    outcome = Outcome.read(folder / OUTCOME)
    if outcome is None or outcome.key != key or outcome.status != DONE or asked.again:
        outcome = _run_one(one, asked, judge.scan, folder, n_threads, key)
        try:
            if outcome.status == DONE:
                results = (read_result(f / RESULT, judge.scan) for f in (folder.parent, folder))
                outcome = replace(outcome, scores=probing.scores(*results))
        except InputError as error:
            outcome = replace(outcome, status=FAILED, why=str(error))
        outcome.write(folder / OUTCOME)
    own, why = row.outcome, f"not probed: {outcome.why}"
    if outcome.status != DONE:
        return replace(row, outcome=replace(own, remarks=[*own.remarks, why]))
    return replace(row, outcome=replace(own, scores=own.scores | outcome.scores))


def _run_one(
    one: Contestant, asked: Comparison, scan: Series, folder: Path, n_threads: int, key: str
) -> Outcome:
    """Run it into a name of its own; what an earlier run left there, and said of it, goes first."""
    for old in (folder / OUTCOME, *folder.glob("denoised*")):
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)
    places = {"in": str(asked.scan.absolute()), "out": str((folder / RESULT).absolute())}
    places |= {"threads": str(n_threads)}
    places |= {name: str(path.absolute()) for name, path in gradients_of(scan).items()}
    if asked.mask is not None:
        places["mask"] = str(asked.mask.absolute())
    try:
        command = one.command(places)
    except InputError as error:
        return Outcome(key, FAILED, str(error))
    if one.is_own:  # quell's own command: what the person said of the scan
        given = (asked.mask, "--mask"), (scan.bval_path, "--bval"), (scan.bvec_path, "--bvec"), (
            asked.noise_in, "--noise-in",
        )  # fmt: skip
        command += [word for path, option in given if path for word in (option, str(path))]
    return run(command, folder, asked.minutes * 60, n_threads, key)


def key_of(one: Contestant, asked: Comparison, scan: Series) -> str:
    """Changes with the scan's files, the contestant and quell's version."""
    words = hashlib.sha256(f"{version('quell')}/{one.identity}/{one.words[:1]}".encode())
    wanted = inputs_of([one])
    beside = [asked.noise_in, scan.bval_path, scan.bvec_path] if one.is_own else []
    beside += [path for name, path in gradients_of(scan).items() if name in wanted]
    for path in (*sources_of(asked.scan), asked.mask, *beside):
        words.update(b"/")
        if path is not None:
            with open(path, "rb") as file:
                words.update(hashlib.file_digest(file, "sha256").digest())
    return words.hexdigest()[:16]


def remarks_of(folder: Path) -> list[str]:
    """What quell's own record of a run says about the method's assumptions."""
    try:
        record: Any = json.loads((folder / "denoised.json").read_text("utf-8"))["Denoising"]
        found = [f for f in record["Checks"] if f["code"] in REMARKABLE]
        passed = record.get("VolumesPassedUnchanged", [])
    except (OSError, ValueError, KeyError, TypeError):  # not quell's
        return []
    said = [
        "takes the noise to be white; it correlates here"
        if f["code"] == "white-noise-assumed"
        else f["sentence"]
        for f in found
    ]
    return said + ([f"passes volumes {passed} unchanged"] if passed else [])


def _row_of_noisy(judge: Judge, probing: ProbeOfAll | None) -> Row:
    scores = judge.scores(judge.scan.data)
    if probing is not None:
        scores |= probing.scores(judge.scan.data, probing.probe.data)
    outcome = Outcome("", DONE, scores=scores)
    return Row(NOISY, "the scan as it is", outcome)


def _said_of(row: Row) -> str:
    if row.outcome.status != DONE:
        return remark_of(row)
    return ", ".join(f"{COLUMNS[c][0]} {cell(row, c)}" for c in columns_of([row]))


def _refuse_full_disk(folder: Path, scan: Series, n: int) -> None:
    """Raise InputError where the results can't all be kept."""
    there = len(list(folder.glob(f"*/{RESULT}")))
    needed, free = max(0, n - there) * scan.data.nbytes, shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder} has {free / 1e9:.1f} GB free and {n} results may need "
            f"{needed / 1e9:.1f} GB; free space, choose another place or name fewer methods"
        )


@contextmanager
def _finished_are_kept(out: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; finished methods are kept in {shlex.quote(str(out))}: run the same command "
            "again to go on"
        ) from None
