"""quell reconstruct: raw k-space into images that can be denoised."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..kspace import COMBINATIONS
from ..reconstructed import reconstruct_files
from ..series import InputError, Series, stem
from ..voice import speaking
from .options import INPUTS, METHOD, OUTPUTS, IsQuiet, option

CHOICES = tuple(name for name in COMBINATIONS if name != "none")  # it needs no asking for


def reconstruct(
    raw: Annotated[
        list[Path],
        typer.Argument(
            help="raw scans, .h5 (fastMRI, M4Raw), .mat or .npy; several are repetitions",
            metavar="RAW...",
        ),
    ],
    out: Annotated[
        Path, typer.Argument(help="where to write, .nii, .nii.gz or .mif", metavar="OUT")
    ],
    axes: Annotated[
        str | None,
        option(
            INPUTS,
            "axes of the array in order, of x (readout), y (phase), z, coil, repetition, such as "
            "x,coil,y; default: fastMRI's",
            metavar="NAMES",
        ),
    ] = None,
    key: Annotated[
        str | None, option(INPUTS, "name of the array in the file; default: found", metavar="NAME")
    ] = None,
    combine: Annotated[
        str,
        option(METHOD, "adaptive (complex), rss or magnitude (of adaptive)", metavar="NAME"),
    ] = "adaptive",
    force: Annotated[bool, option(OUTPUTS, "replace an output that exists", "--force")] = False,
    quiet: IsQuiet = False,
) -> None:
    """Make images from fully sampled Cartesian k-space, to be denoised.

    Coils are whitened with the noise at the edge of k-space, so the noise of the images has
    sigma 1. Nothing is filtered or interpolated. OUT.json says what was done.
    """
    if combine not in CHOICES:
        raise InputError(f"--combine {combine} is unknown; give {', '.join(CHOICES)}", 2)
    command = shlex.join(["quell", *sys.argv[1:]])
    with speaking(quiet) as voice:
        series = reconstruct_files(raw, out, axes, key, combine, force, command, voice)
        voice.say(f"next: {next_command(out, series)}")


def next_command(out: Path, series: Series) -> str:
    """What denoises the images that were made, with the noise law they have."""
    clean = stem(out).with_name(stem(out).name + "_denoised.nii.gz")
    made = series.sidecar["Reconstruction"]
    kind = ["--method", "c2s"] if series.n_volumes == 1 else ["--fourth-axis", "repetitions"]
    words = ["quell", "denoise", str(out), str(clean), *kind, "--noise-law", made["NoiseLaw"]]
    if made["NoiseLaw"] == "nc-chi":
        words += ["--coils", str(made["Coils"])]
    return shlex.join(words)
