"""quell compare: many denoisers on one scan, one table and one page."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

from ..compare import Comparison, as_text, compare_file
from ..options import Options
from ..voice import printable, speaking
from .options import (
    INPUTS,
    METHOD,
    OUTPUTS,
    RUN,
    Bval,
    Bvec,
    Coils,
    Device,
    FourthAxis,
    IsQuiet,
    Law,
    Mask,
    NoiseIn,
    Repeat,
    Scan,
    Seed,
    Threads,
    Truth,
    option,
)


def compare(
    scan: Scan,
    out: Annotated[Path, option(OUTPUTS, "folder for results, table and page", metavar="FOLDER")],
    methods: Annotated[
        str,
        option(
            METHOD,
            "all, none, or names with commas, a preset behind each: c2s:paper",
            metavar="NAMES",
        ),
    ] = "all",
    external: Annotated[
        list[str] | None,
        option(
            METHOD,
            "any other program, 'name=command {in} {out}'; also {bval} {bvec} {mask} {threads}; "
            "repeatable",
            metavar="NAME=COMMAND",
        ),
    ] = None,
    truth: Truth = None,
    repeat: Repeat = None,
    recorrupt: Annotated[
        bool,
        option(
            INPUTS,
            "add noise like the scan's own, have that denoised, judge by the rest: needs no truth",
            "--recorrupt",
        ),
    ] = False,
    probe: Annotated[
        bool,
        option(
            INPUTS,
            "have each denoise the scan with known structures in it, too, and say what it kept",
            "--probe",
        ),
    ] = False,
    mask: Mask = None,
    bval: Bval = None,
    bvec: Bvec = None,
    fourth_axis: FourthAxis = "directions",
    preset: Annotated[
        str,
        option(
            METHOD, "of methods that name none; their default where they lack it", metavar="NAME"
        ),
    ] = "fast",
    noise_in: NoiseIn = None,
    noise_law: Law = "auto",
    coils: Coils = None,
    minutes_per_method: Annotated[
        float, option(RUN, "a method that takes longer is stopped", metavar="MINUTES")
    ] = 10.0,
    again: Annotated[bool, option(RUN, "run what is done already, too", "--again")] = False,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    quiet: IsQuiet = False,
) -> None:
    """Run many denoisers on one scan and see how they stand beside each other.

    A method that is done is not run again when the same command is given again; one that fails
    does not stop the others. Best is judged by --truth, --repeat or --recorrupt; without them
    nothing says which is best, and rows stand by how evenly the removed noise lies.
    """
    options = Options(
        seed=seed,
        device=device,
        threads=threads,
        noise_law=noise_law,
        coils=coils,
        fourth_axis=fourth_axis,
    )
    asked = Comparison(
        scan=scan,
        out=out,
        methods=methods,
        externals=tuple(external or ()),
        truth=truth,
        repeat=repeat,
        recorrupt=recorrupt,
        probe=probe,
        mask=mask,
        bval=bval,
        bvec=bvec,
        noise_in=noise_in,
        minutes=minutes_per_method,
        preset=preset,
        again=again,
    )
    with speaking(quiet) as voice:
        rows = compare_file(asked, options, shlex.join(["quell", *sys.argv[1:]]), voice)
    if not quiet:
        for line in as_text(rows).splitlines():
            print(printable(line))
        print(printable(f"page: {out / 'comparison.html'}"))
