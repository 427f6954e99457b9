"""quell denoise: one scan, from file to files."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

from ..files import Files, refuse_paths
from ..methods import DEFAULT
from ..options import Options, refuse_options
from ..outputs import denoise_file
from ..series import InputError
from ..voice import speaking
from .live import refuse_page, shown
from .options import (
    DASH,
    FILE,
    INPUTS,
    METHOD,
    OUTPUTS,
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
    Live,
    Mask,
    NoBrowser,
    NoiseIn,
    NoiseOut,
    NoProbe,
    NoReport,
    Out,
    Phase,
    PhaseOut,
    Port,
    Preset,
    RemoveFloor,
    Report,
    ResidualOut,
    Scan,
    Seed,
    Settings,
    Threads,
    option,
    read_maps,
    read_settings,
    report_of,
)
from .pipes import piped


def denoise(
    scan: Scan,
    out: Out,
    mask: Mask = None,
    bval: Bval = None,
    bvec: Bvec = None,
    phase: Phase = None,
    contrast: Annotated[
        list[Path] | None,
        option(INPUTS, "another contrast on the same grid, shown to c2s; repeatable", **FILE),
    ] = None,
    fourth_axis: FourthAxis = "directions",
    noise_out: NoiseOut = None,
    residual_out: ResidualOut = None,
    phase_out: PhaseOut = None,
    spread_out: Annotated[
        Path | None, option(OUTPUTS, "write the spread over samples here", **FILE)
    ] = None,
    uncertainty_out: Annotated[
        Path | None,
        option(OUTPUTS, "write how far the truth lies from the result (sd) here", **FILE),
    ] = None,
    map_out: Annotated[
        list[str] | None,
        option(
            OUTPUTS,
            "write what the method finds beside its result, such as rank=FILE of mppca; repeatable",
            "--map-out",
            metavar="NAME=FILE",
        ),
    ] = None,
    model_out: Annotated[
        Path | None, option(OUTPUTS, "write the model here, .safetensors", **FILE)
    ] = None,
    report: Report = None,
    no_report: NoReport = False,
    no_probe: NoProbe = False,
    force: Force = False,
    fsl_gradients: FslGradients = False,
    apply_mask: ApplyMask = False,
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
    blend: Blend = 0.0,
    calibrate: Calibrate = False,
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
    remove_noise_floor: RemoveFloor = False,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    live: Live = False,
    port: Port = None,
    no_browser: NoBrowser = False,
    strict: IsStrict = False,
    quiet: IsQuiet = False,
) -> None:
    """Denoise one scan.

    The mean of the signal stays as it is: magnitude data keep their noise floor, unless you say
    --remove-noise-floor. An interrupted run goes on when the same command is run again.
    """
    refuse_page(live, port, no_browser)
    if live and out == DASH:
        raise InputError(
            "--live prints the page's address where - pipes the result; name a file", 2
        )
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
        uncertainty=uncertainty_out is not None,
        probe=not no_probe and report_of(out, report, no_report) is not None,
        fourth_axis=fourth_axis,
        apply_mask=apply_mask,
        strict=strict,
    )
    if stop is not None and method != "difusion" and model is None:
        raise InputError("--stop belongs to --method difusion; leave it out", 2)
    if model is None:  # else its method decides which settings there are
        refuse_options(options)
    files = Files(
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
        uncertainty_out=uncertainty_out,
        model_in=model,
        model_out=model_out,
        maps=read_maps(map_out or []),
        report=report_of(out, report, no_report),
        fsl_gradients=fsl_gradients,
    )
    command = shlex.join(["quell", *sys.argv[1:]])
    results = {"result": out} | ({"report": files.report} if files.report else {})
    with speaking(quiet) as plain, piped(files) as real:
        refuse_paths(real, force)  # before a page is opened
        with shown(plain, live, port, no_browser, scan.name, results) as voice:
            denoise_file(real, options, force, command, voice, allow_mismatch)
