"""quell figure: a scan before and after, as a figure for a paper."""

from pathlib import Path
from typing import Annotated

import typer

from ..compare import Figure, draw_files
from ..options import Options
from ..series import InputError
from ..voice import printable, speaking
from .options import (
    FILE,
    INPUTS,
    OUTPUTS,
    Bval,
    Bvec,
    Coils,
    Force,
    FourthAxis,
    IsQuiet,
    Law,
    Mask,
    Threads,
    option,
)

WHAT, LOOK = "What is shown", "How it looks"


def figure(
    noisy: Annotated[Path, typer.Argument(help="the noisy scan, NIfTI", metavar="NOISY")],
    denoised: Annotated[
        list[Path],
        typer.Argument(help="one or more results of it, NIfTI", metavar="DENOISED..."),
    ],
    out: Annotated[
        Path, option(OUTPUTS, "the figure: .svg, .pdf or .png", "--out", "-o", metavar="FILE")
    ],
    force: Force = False,
    sigma: Annotated[
        Path | None,
        option(INPUTS, "noise map, the unit of what was removed; default: learned", **FILE),
    ] = None,
    mask: Mask = None,
    bval: Bval = None,
    bvec: Bvec = None,
    fourth_axis: FourthAxis = "directions",
    panels: Annotated[
        str,
        option(
            WHAT,
            "with commas: images (before and after), residuals (what was removed), averaged (the "
            "same over all directions), noise (its map), fa, md; charts of what was removed: "
            "spectrum, volumes, shells",
            metavar="NAMES",
        ),
    ] = "images,residuals",
    plane: Annotated[str, option(WHAT, "axial, coronal or sagittal", metavar="NAME")] = "axial",
    index: Annotated[
        int | None,
        option(
            WHAT,
            "counted from 0, as the file stores them; default: the middle of the mask",
            "--slice",
            metavar="N",
        ),
    ] = None,
    volume: Annotated[
        int | None,
        option(WHAT, "counted from 0; default: the middle of the highest shell", metavar="N"),
    ] = None,
    window: Annotated[
        str,
        option(WHAT, "drawn black and white, scan's units; default: computed", metavar="LOW,HIGH"),
    ] = "",
    crop: Annotated[
        bool, option(WHAT, "only the mask and a little around it", "--crop/--no-crop")
    ] = True,
    width: Annotated[
        float, option(LOOK, "in mm; a column of a journal has about 85, a page 180", metavar="MM")
    ] = 180.0,
    dpi: Annotated[int, option(LOOK, "of a .png", metavar="N")] = 300,
    labels: Annotated[
        str,
        option(
            LOOK,
            "names of NOISY and the results, with commas; default: file names",
            metavar="NAMES",
        ),
    ] = "",
    titles: Annotated[
        bool, option(LOOK, "names above the pictures and beside the rows", "--titles/--no-titles")
    ] = True,
    letters: Annotated[
        bool, option(LOOK, "a, b, c ... above the pictures", "--letters/--no-letters")
    ] = False,
    noise_law: Law = "auto",
    coils: Coils = None,
    threads: Threads = None,
    quiet: IsQuiet = False,
) -> None:
    """Draw a scan before and after, and what was removed, as a figure for a paper.

    Results stand side by side in one slice, one grey window and one scale; what was removed is
    shown from -3 to 3 sigma. The left of a picture is the left of the person. In .svg and .pdf
    text stays text and pictures are the voxels themselves.
    """
    asked = Figure(
        scan=noisy,
        results=denoised,
        out=out,
        panels=_words(panels),
        plane=plane,
        index=index,
        volume=volume,
        sigma=sigma,
        mask=mask,
        bval=bval,
        bvec=bvec,
        window=_window(window),
        labels=[label.strip() for label in labels.split(",")] if labels else (),
        is_titled=titles,
        is_cropped=crop,
        is_lettered=letters,
        width=width,
        dpi=dpi,
        force=force,
    )
    options = Options(threads=threads, noise_law=noise_law, coils=coils, fourth_axis=fourth_axis)
    with speaking(quiet) as voice:
        draw_files(asked, options, voice)
    if not quiet:
        print(printable(f"figure: {out}"))


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _window(text: str) -> tuple[float, float] | None:
    if not text:
        return None
    try:
        low, high = (float(word) for word in text.split(","))
    except ValueError:
        raise InputError(f"--window {text} is not understood; write it as 0,800", 2) from None
    return low, high
