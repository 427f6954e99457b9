"""quell cohort: every scan of a BIDS dataset, as a BIDS App."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..cohort import Cohort, Entry, denoise_participants, write_group
from ..compare.running import DONE
from ..methods import DEFAULT
from ..options import Options
from ..series import InputError
from ..voice import printable, speaking
from .options import (
    INPUTS,
    METHOD,
    OUTPUTS,
    RUN,
    Coils,
    Device,
    FourthAxis,
    IsQuiet,
    IsStrict,
    Law,
    Preset,
    RemoveFloor,
    Seed,
    Settings,
    option,
    read_settings,
)
from .usage import Grouped

LISTS = ("--participant-label", "--participant_label", "--session-label", "--session_label",
         "--datatype")  # fmt: skip
LEVELS = ("participant", "group")
MOST_SAID = 20  # failures in the summary; the table has them all


class BidsApp(Grouped):
    """A command whose lists may be written as BIDS Apps have them: --participant-label 01 02 03."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        flags = [name for p in self.params if getattr(p, "is_flag", False) for name in p.opts]
        return super().parse_args(ctx, spread(args, flags))


def spread(args: list[str], flags: list[str]) -> list[str]:
    """ "--participant-label 01 02" as one option each, once the three places before are filled."""
    found: list[str] = []
    option, n_places, expected = "", 0, False
    for word in args:
        if word.startswith("-") and len(word) > 1:
            option = word if word in LISTS else ""
            expected = word not in flags and "=" not in word
        elif option and (expected or n_places >= 3):
            if not expected:
                found.append(option)
            expected = False
        elif not expected:
            n_places, option = n_places + 1, ""
        else:
            expected = False
        found.append(word)
    return found


def cohort(
    bids_dir: Annotated[Path, typer.Argument(help="root of a BIDS dataset", metavar="BIDS_DIR")],
    out: Annotated[Path, typer.Argument(help="folder for the derivatives", metavar="OUT")],
    level: Annotated[
        str, typer.Argument(help="participant: denoise; group: table and page", metavar="LEVEL")
    ],
    participant_label: Annotated[
        list[str] | None,
        option(
            INPUTS,
            "only these, with or without sub-; default: all",
            "--participant-label",
            "--participant_label",
            metavar="LABEL...",
        ),
    ] = None,
    session_label: Annotated[
        list[str] | None,
        option(
            INPUTS,
            "only these, with or without ses-; default: all",
            "--session-label",
            "--session_label",
            metavar="LABEL...",
        ),
    ] = None,
    datatype: Annotated[
        list[str] | None,
        option(INPUTS, "dwi or anat; default: dwi", "--datatype", metavar="KIND..."),
    ] = None,
    fourth_axis: FourthAxis = "directions",
    residual: Annotated[bool, option(OUTPUTS, "write what was removed, too", "--residual")] = False,
    no_report: Annotated[
        bool, option(OUTPUTS, "write no page of each scan", "--no-report")
    ] = False,
    work: Annotated[
        Path | None,
        option(
            OUTPUTS,
            "folder for checkpoints while it runs; default: in OUT",
            "--work",
            "-w",
            "--work-dir",
            metavar="DIR",
        ),
    ] = None,
    method: Annotated[str, option(METHOD, "see `quell methods`", metavar="NAME")] = DEFAULT,
    preset: Preset = "default",
    setting: Settings = None,
    shared_model: Annotated[
        bool,
        option(
            METHOD, "learn one model for each protocol, use it on all its scans", "--shared-model"
        ),
    ] = False,
    train_scans: Annotated[
        int, option(METHOD, "how many scans a shared model learns from", min=1, metavar="K")
    ] = 5,
    recorrupt: Annotated[
        bool,
        option(
            METHOD,
            "judge each result by its scan with more noise; takes twice as long",
            "--recorrupt",
        ),
    ] = False,
    noise_law: Law = "auto",
    coils: Coils = None,
    remove_noise_floor: RemoveFloor = False,
    dask: Annotated[
        str,
        option(RUN, "local, slurm, pbs, sge, lsf, or the address of a scheduler", metavar="WHERE"),
    ] = "local",
    dask_file: Annotated[
        Path | None,
        option(RUN, "YAML about the jobs, or about a scheduler's certificates", metavar="FILE"),
    ] = None,
    workers: Annotated[
        int | None,
        option(RUN, "scans at once; default: by cores and memory", min=1, metavar="N"),
    ] = None,
    memory: Annotated[
        float | None,
        option(RUN, "of all scans together, GiB; default: what is free", metavar="GIB"),
    ] = None,
    threads: Annotated[
        int | None,
        option(
            RUN,
            "CPU threads of each scan; default: the cores, shared out",
            "--threads",
            "--nthreads",
            "--omp-nthreads",
            min=1,
            metavar="N",
        ),
    ] = None,
    again: Annotated[bool, option(RUN, "run what is done already, too", "--again")] = False,
    seed: Seed = 0,
    device: Device = "auto",
    strict: IsStrict = False,
    quiet: IsQuiet = False,
) -> None:
    """Denoise every scan of a study.

    Finished scans are skipped; one failure does not stop the rest, and makes the exit status 1.
    """  # fmt: skip
    if level not in LEVELS:
        raise InputError(f"the level {level!r} is not known; give participant or group", 2)
    command = shlex.join(["quell", *sys.argv[1:]])
    if level == "group":
        with speaking(quiet) as voice:
            write_group(out, command, voice)
        return
    options = Options(
        method=method,
        preset=preset,
        settings=read_settings(setting or []),
        seed=seed,
        device=device,
        threads=threads,
        noise_law=noise_law,
        coils=coils,
        remove_floor=remove_noise_floor,
        fourth_axis=fourth_axis,
        strict=strict,
    )
    asked = Cohort(
        root=bids_dir,
        out=out,
        participants=labels(participant_label, "sub-"),
        sessions=labels(session_label, "ses-"),
        datatypes=tuple(dict.fromkeys(datatype or ["dwi"])),
        work=work,
        dask=dask,
        dask_file=dask_file,
        workers=workers,
        memory_gib=memory,
        shared_model=shared_model,
        train_scans=train_scans,
        recorrupt=recorrupt,
        residual=residual,
        report=not no_report,
        again=again,
    )
    with speaking(quiet) as voice:
        entries = denoise_participants(asked, options, command, voice)
    finish(entries, out)


def labels(given: list[str] | None, prefix: str) -> tuple[str, ...]:
    """Labels without their prefix, each once; commas part them, too."""
    words = [word for text in given or [] for word in text.split(",") if word]
    return tuple(dict.fromkeys(word.removeprefix(prefix) for word in words))


def finish(entries: list[Entry], out: Path) -> None:
    """Status 1 with a summary where any scan failed."""
    failed = [entry for entry in entries if entry.status != DONE]
    if not failed:
        return
    lines = [f"{len(failed)} of {len(entries)} scans failed; see {out / 'group.html'}"]
    lines += [f"  {entry.name}: {entry.why}" for entry in failed[:MOST_SAID]]
    if len(failed) > MOST_SAID:
        lines.append(f"  and {len(failed) - MOST_SAID} more")
    for line in lines:
        print(printable(line), file=sys.stderr)
    raise typer.Exit(1)
