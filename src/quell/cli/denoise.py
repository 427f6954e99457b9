"""quell denoise: one scan, from file to files."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from .. import outputs
from ..methods import DEFAULT
from ..outputs import Files
from ..pipeline import Options, refuse_options
from ..series import InputError
from ..voice import speaking
from .options import (
    FILE,
    INPUTS,
    METHOD,
    NOISE,
    OUTPUTS,
    Bval,
    Bvec,
    Coils,
    Device,
    FourthAxis,
    IsQuiet,
    IsStrict,
    Law,
    Mask,
    NoiseIn,
    Phase,
    Preset,
    Scan,
    Seed,
    Settings,
    Threads,
    option,
    read_settings,
)


def denoise(
    scan: Scan,
    out: Annotated[Path, typer.Argument(help="where to write, .nii or .nii.gz", metavar="OUT")],
    mask: Mask = None,
    bval: Bval = None,
    bvec: Bvec = None,
    phase: Phase = None,
    contrast: Annotated[
        list[Path] | None,
        option(INPUTS, "another contrast on the same grid, shown to c2s; repeatable", **FILE),
    ] = None,
    fourth_axis: FourthAxis = "directions",
    noise_out: Annotated[Path | None, option(OUTPUTS, "write the noise map here", **FILE)] = None,
    residual_out: Annotated[
        Path | None, option(OUTPUTS, "write what was removed here", **FILE)
    ] = None,
    phase_out: Annotated[
        Path | None, option(OUTPUTS, "write the denoised phase here, radians", **FILE)
    ] = None,
    spread_out: Annotated[
        Path | None, option(OUTPUTS, "write the spread over samples here", **FILE)
    ] = None,
    model_out: Annotated[
        Path | None, option(OUTPUTS, "write the model here, .safetensors", **FILE)
    ] = None,
    report: Annotated[
        Path | None, option(OUTPUTS, "report page; default: OUT_report.html", **FILE)
    ] = None,
    no_report: Annotated[bool, option(OUTPUTS, "write no report page", "--no-report")] = False,
    force: Annotated[bool, option(OUTPUTS, "replace outputs that exist", "--force")] = False,
    apply_mask: Annotated[bool, option(OUTPUTS, "zero outside the mask", "--apply-mask")] = False,
    method: Annotated[str, option(METHOD, "see `quell methods`", metavar="NAME")] = DEFAULT,
    preset: Preset = "default",
    setting: Settings = None,
    stop: Annotated[
        float | None,
        option(
            METHOD,
            "difusion: distance from the input to stop at; 1: the noise, larger: smoother",
            metavar="SIGMA",
        ),
    ] = None,
    blend: Annotated[
        float,
        option(METHOD, "share of the noisy scan to leave in, 0 to 1", metavar="KAPPA"),
    ] = 0.0,
    calibrate: Annotated[
        bool,
        option(
            METHOD,
            "correct for a wrong noise level, from repeated volumes where there are any",
            "--calibrate",
        ),
    ] = False,
    model: Annotated[
        Path | None,
        option(METHOD, "use what --model-out wrote: its method, no training", **FILE),
    ] = None,
    allow_mismatch: Annotated[
        bool, option(METHOD, "let --model be of another scan", "--allow-mismatch")
    ] = False,
    noise_in: NoiseIn = None,
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
    """Denoise one scan.

    The mean of the signal stays as it is: magnitude data keep their noise floor, unless you say
    --remove-noise-floor. An interrupted run goes on when the same command is run again.
    """
    options = Options(
        method=method,
        preset=preset,
        settings=read_settings(setting or [])
        | ({} if stop is None else {"stop": stop, "threshold": 0.0}),
        seed=seed,
        device=device,
        threads=threads,
        noise_law=noise_law,
        coils=coils,
        remove_floor=remove_noise_floor,
        blend=blend,
        calibrate=calibrate,
        fourth_axis=fourth_axis,
        apply_mask=apply_mask,
        strict=strict,
    )
    if stop is not None and method != "difusion" and model is None:
        raise InputError("--stop belongs to --method difusion; leave it out", 2)
    if model is None:  # else its method decides which settings there are
        refuse_options(options)
    if report and no_report:
        raise InputError("--report and --no-report exclude each other; give one of them", 2)
    written = Files(
        scan=scan,
        out=out,
        mask=mask,
        bval=bval,
        bvec=bvec,
        phase=phase,
        contrasts=tuple(contrast or ()),
        noise_in=noise_in,
        noise_out=noise_out,
        residual_out=residual_out,
        phase_out=phase_out,
        spread_out=spread_out,
        model_in=model,
        model_out=model_out,
        report=None if no_report else report or outputs.report_beside(out),
    )
    command = shlex.join(["quell", *sys.argv[1:]])
    with speaking(quiet) as voice:
        outputs.denoise_file(written, options, force, command, voice, allow_mismatch)
