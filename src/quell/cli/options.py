"""Options that several commands share, and the groups they stand in."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..files import report_beside
from ..series import InputError


def option(group: str, says: str, *names: str, **more: Any) -> Any:
    """An option in a group of the help."""
    return typer.Option(*names, help=says, rich_help_panel=group, **more)


DASH = Path("-")  # a pipe between commands of MRtrix
INPUTS, OUTPUTS, METHOD, NOISE, RUN = "Inputs", "Outputs", "Method", "Noise", "Run"
FILE = {"metavar": "FILE"}

Scan = Annotated[Path, typer.Argument(help="the noisy scan, NIfTI or .mif", metavar="SCAN")]
Bval = Annotated[Path | None, option(INPUTS, "FSL b-values; default: beside the scan", **FILE)]
Bvec = Annotated[Path | None, option(INPUTS, "FSL directions; default: beside the scan", **FILE)]
Mask = Annotated[
    Path | None, option(INPUTS, "where to learn and measure; default: computed", **FILE)
]
Truth = Annotated[
    Path | None, option(INPUTS, "the scan without noise, of a phantom, to judge by", **FILE)
]
Repeat = Annotated[
    Path | None, option(INPUTS, "a second acquisition of the same volumes, to judge by", **FILE)
]
Phase = Annotated[Path | None, option(INPUTS, "phase of SCAN, radians or scanner units", **FILE)]
FourthAxis = Annotated[
    str,
    option(
        INPUTS, "what the volumes are: directions, repetitions, contrasts or echoes", metavar="WHAT"
    ),
]
NoiseIn = Annotated[Path | None, option(NOISE, "noise map to obey, 3-D; default: learned", **FILE)]
Out = Annotated[Path, typer.Argument(help="where to write, .nii, .nii.gz or .mif", metavar="OUT")]
NoiseOut = Annotated[
    Path | None,
    option(OUTPUTS, "write the noise map here; 4-D where volumes differ in noise", **FILE),
]
ResidualOut = Annotated[Path | None, option(OUTPUTS, "write what was removed here", **FILE)]
PhaseOut = Annotated[Path | None, option(OUTPUTS, "write the denoised phase here, radians", **FILE)]
Report = Annotated[Path | None, option(OUTPUTS, "report page; default: OUT_report.html", **FILE)]
NoReport = Annotated[bool, option(OUTPUTS, "write no report page", "--no-report")]
NoProbe = Annotated[
    bool, option(OUTPUTS, "leave out of the report what the method would erase", "--no-probe")
]
Force = Annotated[bool, option(OUTPUTS, "replace outputs that exist", "--force")]
FslGradients = Annotated[
    bool, option(OUTPUTS, "bval and bvec beside a .mif, too", "--fsl-gradients")
]
ApplyMask = Annotated[bool, option(OUTPUTS, "zero outside the mask", "--apply-mask")]
Blend = Annotated[
    float, option(METHOD, "share of the noisy scan to leave in, 0 to 1", metavar="KAPPA")
]
Calibrate = Annotated[
    bool,
    option(
        METHOD,
        "correct for a wrong noise level, from repeated volumes where there are any",
        "--calibrate",
    ),
]
RemoveFloor = Annotated[
    bool, option(NOISE, "take the bias off magnitude data, too", "--remove-noise-floor")
]
Law = Annotated[str, option(NOISE, "auto, gaussian, rician or nc-chi", metavar="LAW")]
Coils = Annotated[
    float | None, option(NOISE, "N of nc-chi; default: from the background", metavar="N")
]
Preset = Annotated[str, option(METHOD, "fast, default, ...: see `quell methods`", metavar="NAME")]
Settings = Annotated[
    list[str] | None,
    option(METHOD, "one setting, such as steps=300; repeatable", "--set", metavar="NAME=VALUE"),
]
Seed = Annotated[int, option(RUN, "every random number follows from it", metavar="N")]
Device = Annotated[str, option(RUN, "auto, cpu, cuda, cuda:N or mps", metavar="NAME")]
Threads = Annotated[
    int | None,
    option(RUN, "CPU threads; default: all", "--threads", "--nthreads", min=1, metavar="N"),
]
Port = Annotated[
    int | None,
    option(RUN, "of the page, on this machine; default: a free one", min=1, max=65535, metavar="N"),
]
Live = Annotated[
    bool, option(RUN, "show the run in the browser while it runs: loss, slice, verdict", "--live")
]
NoBrowser = Annotated[bool, option(RUN, "only print the page's address", "--no-browser")]
IsStrict = Annotated[bool, option(RUN, "warnings of the checks are errors", "--strict")]
IsQuiet = Annotated[bool, option(RUN, "print errors only", "--quiet", "-q")]


def report_of(out: Path, report: Path | None, no_report: bool) -> Path | None:
    """Where the report goes; None for none. Raises InputError (status 2) where both are asked."""
    if report and no_report:
        raise InputError("--report and --no-report exclude each other; give one of them", 2)
    if no_report or (report is None and out == DASH):
        return None
    return report or report_beside(out)


def read_settings(pairs: list[str]) -> dict[str, Any]:
    """ "steps=300" -> {"steps": 300}; numbers and comma-separated numbers are read as such."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"--set {pair} has no '='; write it as --set steps=300", 2)
        values = [_number_or_text(word) for word in text.split(",")]
        settings[name.strip()] = values[0] if len(values) == 1 else tuple(values)
    return settings


def read_maps(pairs: list[str]) -> tuple[tuple[str, Path], ...]:
    """ "rank=rank.nii.gz" as a name and a path."""
    found = []
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not equals or not path:
            raise InputError(f"--map-out {pair} names no file; write it as rank=rank.nii.gz", 2)
        found.append((name.strip(), Path(path)))
    return tuple(found)


def _number_or_text(word: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            pass
    return word.strip()
