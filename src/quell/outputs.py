"""Files in, files out: `quell denoise` on one scan, its outputs written whole or not at all."""

import os
import shutil
import time
from dataclasses import replace
from typing import Any

import numpy as np

from .contrasts import load_contrasts
from .files import Files, file_beside, refuse_full_disk, refuse_paths, remains
from .fit import Fit, refuse_model_of_one_scan
from .methods import Method
from .models import options_of, read_model, write_model
from .options import Options, refuse_options
from .pipeline import Result, denoise
from .record import as_json, sidecar
from .reported import report_facts
from .run import Voice
from .series import InputError, Series, copy_gradients, load, load_map, replacing, write_image


def denoise_file(
    files: Files,
    options: Options,
    force: bool,
    command: str,
    voice: Voice,
    allow_mismatch: bool = False,
) -> Result:
    """Denoise one scan from file to files.

    files           what to read and write
    options         what to do
    force           replace outputs that exist
    command         what reproduces this run, for the sidecar and the report
    voice           told how far it is
    allow_mismatch  use a model that was learned from another scan, or from unlike ones

    Raises InputError, with nothing written, for what can't be read, used or written. Checkpoints
    lie in a hidden folder beside the output until the run is complete.
    """
    start = time.monotonic()
    refuse_paths(files, force)
    voice.stage("reading")
    scan = load(files.scan, files.bval, files.bvec, files.mask, files.phase, files.sidecar)
    if files.phase_out and not np.iscomplexobj(scan.data):
        raise InputError("there is no phase to write; give --phase, or leave --phase-out out", 2)
    if files.contrasts:
        scan = replace(scan, contrasts=load_contrasts(list(files.contrasts), scan))
    refuse_full_disk(files, scan)
    noise_map = None if files.noise_in is None else load_map(files.noise_in, scan)
    state, approve = None, None
    if files.model_in:
        bundle = read_model(files.model_in)
        options, state = options_of(bundle, options), bundle.state
        if files.model_out and bundle.training:
            raise InputError("--model-out would write what --model reads; leave it out", 2)
        fit = Fit(bundle, allow_mismatch, voice)
        fit.refuse_scan(scan)
        approve = fit.refuse_noise
    method, _ = refuse_options(options)
    if files.spread_out and not getattr(method, "draws_samples", False):
        raise InputError(
            "there is no spread to write unless chains are sampled; use --method ddm2 "
            "--set output=chain --set rule=posterior --set samples=4, or leave --spread-out out",
            2,
        )
    _refuse_maps(files, method)
    try:
        result = denoise(
            scan,
            options,
            noise_map=noise_map,
            state=state,
            approve=approve,
            work=files.work,
            voice=voice,
        )
        _write(files, result, scan, options, command, voice)
    except KeyboardInterrupt:
        if not remains(files.work):
            raise
        kept = f"stopped; what was learned is kept in {files.work}"
        raise KeyboardInterrupt(f"{kept}: run the same command again to go on") from None
    except BaseException:
        remains(files.work)
        raise
    shutil.rmtree(files.work, ignore_errors=True)
    verdict = result.verdict
    voice.judged(verdict.level, verdict.sentence)
    voice.say(f"wrote {files.out} in {time.monotonic() - start:.0f} s")
    if files.report:
        voice.say(f"report {files.report}")
    voice.say(f"verdict: {verdict.sentence}")
    return result


def apply_file(
    files: Files, options: Options, force: bool, command: str, voice: Voice, allow_mismatch: bool
) -> Result:
    """Denoise one scan with a model of many; the arguments of `denoise_file`.

    Raises InputError also for a model of one scan.
    """
    assert files.model_in is not None
    refuse_model_of_one_scan(read_model(files.model_in))
    return denoise_file(files, options, force, command, voice, allow_mismatch)


def _refuse_maps(files: Files, method: Method) -> None:
    """Raise InputError (status 2) for a map that the method does not find."""
    there = getattr(method, "maps", ())
    for name, _ in files.maps:
        if name not in there:
            known = f"it finds {', '.join(there)}" if there else "it finds none; leave it out"
            raise InputError(f"{method.name} finds no map {name!r}; {known}", 2)


def _write(
    files: Files, result: Result, scan: Series, options: Options, command: str, voice: Voice
) -> None:
    """Everything that was asked for, or nothing and the files as they were.

    The results are written into a hidden folder beside their places, then moved there. What an
    earlier run left there goes, also a gradient file that this scan does not have.
    """
    new = {path: path.parent / files.work.name / "new" / path.name for path in files.written}
    try:
        for path in new.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        moved: Any = {name: new.get(getattr(files, name)) for name in Files.ASKED}
        moved["maps"] = tuple((name, new[path]) for name, path in files.maps)
        _write_all(replace(files, **moved), result, scan, options, command, voice)
        for path, written in new.items():
            if written.exists():
                os.replace(written, path)
            else:
                path.unlink(missing_ok=True)
    except InputError as error:
        hidden = os.path.join(files.work.name, "new", "")
        raise InputError(str(error).replace(hidden, "")) from error
    except OSError as error:
        raise InputError(
            f"{files.out} cannot be written ({error.strerror}); free space or choose another place"
        ) from error
    finally:
        for folder in {path.parent for path in new.values()}:
            shutil.rmtree(folder, ignore_errors=True)
            remains(folder.parent)


def _write_all(
    files: Files, result: Result, scan: Series, options: Options, command: str, voice: Voice
) -> None:
    """Every file."""
    if files.report:
        from .report import write_report  # brings matplotlib: only where a page is wanted

        voice.stage("report")
        write_report(files.report, report_facts(result, scan, options, command))
    voice.stage("writing")
    if files.noise_out:
        write_image(files.noise_out, result.noise_map, scan, command)
    if files.residual_out:
        noisy, denoised = result.noisy, result.denoised
        is_pair = files.phase is not None  # the result is a magnitude then, and so is this
        write_image(
            files.residual_out,
            np.abs(noisy) - np.abs(denoised) if is_pair else result.residual,
            scan,
            command,
        )
    if files.phase_out:
        write_image(files.phase_out, np.angle(result.denoised), scan, command)
    if files.spread_out:
        assert result.spread is not None  # else refused before any work
        write_image(files.spread_out, result.spread, scan, command)
    if files.uncertainty_out:
        assert result.uncertainty is not None  # Options.uncertainty goes with it
        write_image(files.uncertainty_out, result.uncertainty, scan, command)
    for name, path in files.maps:
        whole = replace(scan, is_one_image=False)
        write_image(path, result.kept[f"{name} map"], whole, command)
    if files.model_out:
        write_model(files.model_out, result, scan, options)
    if len(files.beside) > 1:
        copy_gradients(scan, files.out)
    if files.beside:
        text = as_json(sidecar(result, scan, options, command))
        with replacing(file_beside(files.out, ".json")) as file:
            file.write(text.encode("utf-8", "backslashreplace"))  # names may hold bare bytes
    is_pair = files.phase is not None  # magnitude in, magnitude out
    write_image(files.out, np.abs(result.denoised) if is_pair else result.denoised, scan, command)
