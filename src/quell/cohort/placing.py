"""Placing: a scan's results go under their BIDS names, all of them or none.

Idea    Every file is first made whole beside the output, on its own disk; what can fail (a full
        disk, a folder that can't be written) fails there. Then all are renamed, the image last.
"""

import errno
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..files import Files
from ..pipeline import Result
from ..record import as_json
from ..series import InputError, Series, bvals_of, open_scan, replacing, stem, write_mask
from .job import Job
from .names import DESCRIPTIONS, HIDDEN, inside, sidecar_of

RESULT = "denoised"  # name of the image in the work folder
MAPS = ("noise", "residual", "phase")


def like_of(job: Job, result: Result) -> Series:
    """The scan that a result is of, without reading its voxels again."""
    image = open_scan(job.scan)
    return Series(
        data=result.noisy,
        affine=image.affine,
        header=image.header,
        bvals=bvals_of(job.scan, result.noisy.shape[3], job.bval or None),
        mask=result.mask,
        path=Path(job.scan),
        is_one_image=len(image.shape) == 3,
    )


def place(
    job: Job, files: Files, result: Result, like: Series, before: Mapping[str, int]
) -> dict[str, int]:
    """Put everything into its place; what is there now, relative to the output, and its size.

    before  what an earlier run wrote: what is not written anew goes

    Raises InputError, with nothing changed under its final name, where a disk is full or can't be
    written.
    """
    out = Path(job.out)
    texts = _sidecars(job, files)
    if "mask" in job.targets:
        write_mask(files.out.parent / "mask.nii.gz", result.mask, replace(like, is_one_image=False))
    staged = inside(out, Path(HIDDEN, "new", job.name, "."))
    shutil.rmtree(staged, ignore_errors=True)
    try:
        staged.mkdir(parents=True)
        moves = {}
        for target, source in _all(job, files).items():
            final = inside(out, Path(target))
            moves[staged / final.name] = final
            _bring(source, staged / final.name)
        for target, text in texts.items():
            final = inside(out, Path(target))
            moves[staged / final.name] = final
            with replacing(staged / final.name) as file:
                file.write(text.encode("utf-8", "backslashreplace"))
        for whole, final in reversed(moves.items()):
            os.replace(whole, final)
    except OSError as error:
        raise InputError(
            f"{out} can't be written ({error.strerror}); free space or mend its permissions, "
            "and run again"
        ) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    written = {final.relative_to(out).as_posix(): final.stat().st_size for final in moves.values()}
    for name in before.keys() - written.keys():
        inside(out, Path(name)).unlink(missing_ok=True)
    return written


def _all(job: Job, files: Files) -> dict[str, Path]:
    """Target -> where it is now; the image first."""
    found = {job.targets["out"]: files.out}
    for what in MAPS:
        if what in job.targets:
            found[job.targets[what]] = files.out.parent / f"{what}.nii.gz"
    if "mask" in job.targets:
        found[job.targets["mask"]] = files.out.parent / "mask.nii.gz"
    if "report" in job.targets and files.report:
        found[job.targets["report"]] = files.report
    for what in ("out", "residual", "phase"):  # each image of a dwi has gradients of its own
        for ending in (".bval", ".bvec"):
            source = stem(files.out).with_name(stem(files.out).name + ending)
            if what in job.targets and source.is_file():
                found[_beside(job.targets[what], ending)] = source
    return found


def _sidecars(job: Job, files: Files) -> dict[str, str]:
    """Target -> text of every json."""
    said = json.loads(stem(files.out).with_suffix(".json").read_text("utf-8"))
    of_scan = {key: said[key] for key in job.sidecar if key in said}
    own: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
        "out": (said, "denoised", {"SkullStripped": False}),
        "phase": (of_scan, "denoised", {"SkullStripped": False, "Units": "rad"}),
        "residual": (of_scan, "residual", {"SkullStripped": False}),
        "noise": ({}, "noise", {"Units": "arbitrary"}),
        "mask": ({}, "brain", {"Type": "Brain"}),
    }
    found = {
        what: sidecar_of(of, job.sources, Description=DESCRIPTIONS[desc], **more)
        for what, (of, desc, more) in own.items()
        if what in job.targets
    }
    return {_beside(job.targets[what], ".json"): as_json(text) for what, text in found.items()}


def _beside(target: str, ending: str) -> str:
    return target.removesuffix(".nii.gz") + ending


def _bring(source: Path, staged: Path) -> None:
    """One file onto the output's disk; copied where it is wanted again, or lies elsewhere."""
    if source.suffix not in (".bval", ".bvec"):
        try:
            os.replace(source, staged)
            return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
    with open(source, "rb") as old, replacing(staged) as new:
        shutil.copyfileobj(old, new, 2**22)
