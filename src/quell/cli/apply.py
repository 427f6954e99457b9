"""quell apply: a model of many scans, used on a new one."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from .. import outputs
from ..outputs import Files
from ..pipeline import Options
from ..series import InputError
from ..voice import speaking
from .options import (
    FILE,
    METHOD,
    NOISE,
    OUTPUTS,
    Bval,
    Bvec,
    Coils,
    Device,
    IsQuiet,
    IsStrict,
    Law,
    Mask,
    Scan,
    Seed,
    Settings,
    Threads,
    option,
    read_settings,
)


def apply(
    model: Annotated[
        Path, typer.Argument(help="what `quell train` wrote, .safetensors", metavar="MODEL")
    ],
    scan: Scan,
    out: Annotated[Path, typer.Argument(help="where to write, .nii or .nii.gz", metavar="OUT")],
    mask: Mask = None,
    bval: Bval = None,
    bvec: Bvec = None,
    noise_out: Annotated[Path | None, option(OUTPUTS, "write the noise map here", **FILE)] = None,
    residual_out: Annotated[
        Path | None, option(OUTPUTS, "write what was removed here", **FILE)
    ] = None,
    report: Annotated[
        Path | None, option(OUTPUTS, "report page; default: OUT_report.html", **FILE)
    ] = None,
    no_report: Annotated[bool, option(OUTPUTS, "write no report page", "--no-report")] = False,
    force: Annotated[bool, option(OUTPUTS, "replace outputs that exist", "--force")] = False,
    apply_mask: Annotated[bool, option(OUTPUTS, "zero outside the mask", "--apply-mask")] = False,
    setting: Settings = None,
    allow_mismatch: Annotated[
        bool,
        option(METHOD, "use it on a scan unlike those it was learned from", "--allow-mismatch"),
    ] = False,
    noise_in: Annotated[
        Path | None, option(NOISE, "noise map to obey, 3-D NIfTI; default: learned", **FILE)
    ] = None,
    noise_law: Law = "auto",
    coils: Coils = None,
    remove_noise_floor: Annotated[
        bool, option(NOISE, "take the bias off magnitude data, too", "--remove-noise-floor")
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    strict: IsStrict = False,
    quiet: IsQuiet = False,
) -> None:
    """Denoise a scan with a model that was learned from other scans; nothing is trained.

    The noise is learned from the scan itself. A scan unlike those of the training, by voxel size
    or by its law of noise, is refused unless you say --allow-mismatch.
    """
    options = Options(
        settings=read_settings(setting or []),
        seed=seed,
        device=device,
        threads=threads,
        noise_law=noise_law,
        coils=coils,
        remove_floor=remove_noise_floor,
        apply_mask=apply_mask,
        strict=strict,
    )
    if report and no_report:
        raise InputError("--report and --no-report exclude each other; give one of them", 2)
    written = Files(
        scan=scan,
        out=out,
        mask=mask,
        bval=bval,
        bvec=bvec,
        noise_in=noise_in,
        noise_out=noise_out,
        residual_out=residual_out,
        model_in=model,
        report=None if no_report else report or outputs.report_beside(out),
    )
    command = shlex.join(["quell", *sys.argv[1:]])
    with speaking(quiet) as voice:
        outputs.apply_file(written, options, force, command, voice, allow_mismatch)
