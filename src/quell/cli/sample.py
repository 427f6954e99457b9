"""quell sample: images from noise alone, by what a diffusion model learned of a scan."""

from pathlib import Path
from typing import Annotated

import typer

from ..sampled import sample_file
from ..voice import speaking
from .options import METHOD, OUTPUTS, Device, IsQuiet, Seed, option


def sample(
    model: Annotated[
        Path, typer.Argument(help="what --model-out of a diffusion method wrote", metavar="MODEL")
    ],
    out: Annotated[
        Path, typer.Argument(help="where to write, .nii, .nii.gz or .mif", metavar="OUT")
    ],
    number: Annotated[
        int, option(METHOD, "how many images", "--number", "-n", min=1, metavar="N")
    ] = 4,
    steps: Annotated[
        int, option(METHOD, "of the chain, up to 1000", "--steps", min=1, max=1000, metavar="N")
    ] = 200,
    force: Annotated[bool, option(OUTPUTS, "replace an output that exists", "--force")] = False,
    seed: Seed = 0,
    device: Device = "auto",
    quiet: IsQuiet = False,
) -> None:
    """Draw images from a diffusion model, starting from noise alone.

    They show what the model believes slices look like, and what it may invent; none of them is a
    measurement. Train with --method ddm2 --set levels=0: only then has it learned the whole chain.
    """
    with speaking(quiet) as voice:
        sample_file(model, out, number, steps, seed, device, force, voice)
