"""quell apply: a model of many scans, used on a new one."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..files import Files
from ..options import Options
from ..outputs import apply_file
from ..voice import speaking
from .options import (
    METHOD,
    ApplyMask,
    Blend,
    Bval,
    Bvec,
    Calibrate,
    Coils,
    Device,
    Force,
    FourthAxis,
    FslGradients,
    IsQuiet,
    IsStrict,
    Law,
    Mask,
    NoiseIn,
    NoiseOut,
    NoProbe,
    NoReport,
    Out,
    Phase,
    PhaseOut,
    RemoveFloor,
    Report,
    ResidualOut,
    Scan,
    Seed,
    Settings,
    Threads,
    option,
    read_settings,
    report_of,
)
from .pipes import piped


def apply(
    model: Annotated[
        Path, typer.Argument(help="what `quell train` wrote, .safetensors", metavar="MODEL")
    ],
    scan: Scan,
    out: Out,
    mask: Mask = None,
    bval: Bval = None,
    bvec: Bvec = None,
    phase: Phase = None,
    fourth_axis: FourthAxis = "directions",
    noise_out: NoiseOut = None,
    residual_out: ResidualOut = None,
    phase_out: PhaseOut = None,
    report: Report = None,
    no_report: NoReport = False,
    no_probe: NoProbe = False,
    force: Force = False,
    fsl_gradients: FslGradients = False,
    apply_mask: ApplyMask = False,
    setting: Settings = None,
    blend: Blend = 0.0,
    calibrate: Calibrate = False,
    allow_mismatch: Annotated[
        bool,
        option(METHOD, "use it on a scan unlike those it was learned from", "--allow-mismatch"),
    ] = False,
    noise_in: NoiseIn = None,
    noise_law: Law = "auto",
    coils: Coils = None,
    remove_noise_floor: RemoveFloor = False,
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
        blend=blend,
        calibrate=calibrate,
        probe=not no_probe and report_of(out, report, no_report) is not None,
        fourth_axis=fourth_axis,
        apply_mask=apply_mask,
        strict=strict,
    )
    files = Files(
        scan=scan,
        out=out,
        mask=mask,
        bval=bval,
        bvec=bvec,
        phase=phase,
        noise_in=noise_in,
        noise_out=noise_out,
        residual_out=residual_out,
        phase_out=phase_out,
        model_in=model,
        report=report_of(out, report, no_report),
        fsl_gradients=fsl_gradients,
    )
    command = shlex.join(["quell", *sys.argv[1:]])
    with speaking(quiet) as voice, piped(files) as real:
        apply_file(real, options, force, command, voice, allow_mismatch)
