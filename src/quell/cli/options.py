"""Options that several commands share, and the groups they stand in."""

from pathlib import Path
from typing import Annotated, Any

import typer


def option(group: str, says: str, *names: str, **more: Any) -> Any:
    """An option in a group of the help."""
    return typer.Option(*names, help=says, rich_help_panel=group, **more)


INPUTS, OUTPUTS, METHOD, NOISE, RUN = "Inputs", "Outputs", "Method", "Noise", "Run"
FILE = {"metavar": "FILE"}

Scan = Annotated[Path, typer.Argument(help="the noisy scan, 4-D NIfTI", metavar="SCAN")]
Bval = Annotated[Path | None, option(INPUTS, "FSL b-values; default: beside the scan", **FILE)]
Bvec = Annotated[Path | None, option(INPUTS, "FSL directions; default: beside the scan", **FILE)]
Mask = Annotated[
    Path | None, option(INPUTS, "where to learn and measure; default: computed", **FILE)
]
Law = Annotated[str, option(NOISE, "auto, gaussian, rician or nc-chi", metavar="LAW")]
Coils = Annotated[
    float | None, option(NOISE, "N of nc-chi; default: from the background", metavar="N")
]
Preset = Annotated[str, option(METHOD, "fast, default or best", metavar="NAME")]
IsQuiet = Annotated[bool, option(RUN, "print errors only", "--quiet", "-q")]
