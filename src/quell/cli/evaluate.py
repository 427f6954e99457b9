"""quell evaluate: denoised files of one scan, judged side by side, whoever made them."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..compare import Comparison, Evaluation, as_text, evaluate_files
from ..options import Options
from ..voice import printable, speaking
from .options import (
    FILE,
    METHOD,
    OUTPUTS,
    Bval,
    Bvec,
    Coils,
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


def evaluate(
    scan: Scan,
    denoised: Annotated[
        list[Path], typer.Argument(help="one or more results, NIfTI", metavar="DENOISED...")
    ],
    out: Annotated[
        Path | None, option(OUTPUTS, "folder for table and page; default: none", metavar="FOLDER")
    ] = None,
    truth: Truth = None,
    repeat: Repeat = None,
    mask: Mask = None,
    bval: Bval = None,
    bvec: Bvec = None,
    fourth_axis: FourthAxis = "directions",
    dki: Annotated[
        bool, option(METHOD, "kurtosis maps, too: two shells and --truth", "--dki")
    ] = False,
    r2: Annotated[
        str,
        option(
            METHOD,
            "dti, csd or dti,csd: how well the model fitted to some directions predicts the others",
            metavar="MODELS",
        ),
    ] = "",
    folds: Annotated[int, option(METHOD, "of --r2", metavar="N")] = 3,
    regions: Annotated[
        Path | None,
        option(
            METHOD,
            "map of labels: streamlines start in 1 and are to reach 2",
            **FILE,
        ),
    ] = None,
    as_published: Annotated[
        bool,
        option(METHOD, "the papers' own scores, too, traps and all", "--as-published"),
    ] = False,
    noise_in: NoiseIn = None,
    noise_law: Law = "auto",
    coils: Coils = None,
    seed: Seed = 0,
    threads: Threads = None,
    quiet: IsQuiet = False,
) -> None:
    """Judge denoised files of one scan side by side: is the noise gone, is the anatomy still there.

    SCAN is the noisy one that all results were made from. Best is judged by --truth or --repeat;
    without them nothing says which is best, and rows stand by how evenly the removed noise lies.
    """
    options = Options(
        seed=seed, threads=threads, noise_law=noise_law, coils=coils, fourth_axis=fourth_axis
    )
    asked = Comparison(
        scan=scan,
        out=out or Path(),
        truth=truth,
        repeat=repeat,
        mask=mask,
        bval=bval,
        bvec=bvec,
        noise_in=noise_in,
    )
    models = tuple(dict.fromkeys(word.strip() for word in r2.split(",") if word.strip()))
    what = Evaluation(
        denoised,
        models,
        dki=dki,
        folds=folds,
        as_published=as_published,
        regions=regions,
        tables=out is not None,
    )
    with speaking(quiet) as voice:
        rows = evaluate_files(what, asked, options, shlex.join(["quell", *sys.argv[1:]]), voice)
    if not quiet:
        for line in as_text(rows, turned=True).splitlines():
            print(printable(line))
        if out is not None:
            print(printable(f"page: {out / 'evaluation.html'}"))
