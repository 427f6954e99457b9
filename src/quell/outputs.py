"""Files in, files out: `quell denoise` on one scan, its outputs written whole or not at all."""

import json
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, ClassVar

import nibabel as nib
import numpy as np

from .contrasts import load_contrasts
from .demodulation import along
from .evaluate import headline, verdict
from .kspace import join, load_kspace, reconstruct
from .methods import CanSample, Method
from .models import Fit, options_of, read_model, refuse_model_of_one_scan, write_model
from .noise import describe_noise
from .pipeline import (
    Options,
    Result,
    as_json,
    denoise,
    distance_curve,
    methods_paragraph,
    refuse_options,
    settings_of,
    sidecar,
    used,
    versions,
)
from .run import Run, Voice, peak_memory_bytes
from .series import (
    IMAGE_ENDINGS,
    InputError,
    Series,
    copy_gradients,
    load,
    load_map,
    parts_of,
    replacing,
    sources_of,
    stem,
    write_image,
)
from .series.scan import NIFTI_ENDINGS

if TYPE_CHECKING:
    from .report import ReportFacts

STEPS = ("matched states", "stopping steps")  # what a method may keep, one for each image
NAME_MAX = 255  # bytes of a file's name, on every common file system
STABILISER = (
    "Foi. Noise estimation and removal in MR imaging: the variance-stabilization approach. "
    "ISBI 2011."
)


@dataclass(frozen=True)
class Files:
    """What one run reads and writes; None where nothing is asked for."""

    scan: Path
    out: Path
    mask: Path | None = None
    bval: Path | None = None
    bvec: Path | None = None
    phase: Path | None = None  # makes the magnitude in `scan` complex
    sidecar: Path | None = None  # BIDS json
    contrasts: tuple[Path, ...] = ()
    noise_in: Path | None = None
    model_in: Path | None = None
    noise_out: Path | None = None
    residual_out: Path | None = None
    phase_out: Path | None = None
    spread_out: Path | None = None
    uncertainty_out: Path | None = None
    model_out: Path | None = None
    report: Path | None = None
    maps: tuple[tuple[str, Path], ...] = ()  # what a method finds beside its result, and where to
    fsl_gradients: bool = False  # bval and bvec beside an MRtrix file, too
    is_piped: bool = False  # `out` is a temporary file that another command reads

    ASKED: ClassVar = (
        "noise_out", "residual_out", "phase_out", "spread_out", "uncertainty_out", "model_out",
        "report", "out",
    )  # fmt: skip

    @property
    def read(self) -> list[Path]:
        given = (
            self.scan, self.mask, self.bval, self.bvec, self.phase, self.sidecar, *self.contrasts,
            self.noise_in, self.model_in,
        )  # fmt: skip
        return [*(path for path in given if path), *sources_of(self.scan), *_all_beside(self.scan)]

    @property
    def written(self) -> list[Path]:
        """Everything that may be written, the denoised series last."""
        asked = [*(path for _, path in self.maps), *(getattr(self, name) for name in self.ASKED)]
        return [*self.beside, *(part for path in asked if path for part in parts_of(path))]

    @property
    def beside(self) -> list[Path]:
        """What lies beside `out`: the record; the gradients, unless its header holds them."""
        if self.is_piped:
            return []
        has_gradients = self.fsl_gradients or self.out.name.lower().endswith(NIFTI_ENDINGS)
        return _all_beside(self.out)[: None if has_gradients else 1]

    @property
    def work(self) -> Path:
        """The hidden folder beside the output: checkpoints, and results while they are written."""
        return self.out.parent / f".{stem(self.out).name}.quell"


def _beside(path: Path, ending: str) -> Path:
    return path.parent / (stem(path).name + ending)


def _all_beside(path: Path) -> list[Path]:
    return [_beside(path, ending) for ending in (".json", ".bval", ".bvec")]


def report_beside(out: Path) -> Path:
    """Where the report goes unless the person says otherwise."""
    refuse_ending(out, IMAGE_ENDINGS)  # without one there may be no name to add to
    return _beside(out, "_report.html")


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
    _refuse_full_disk(files, scan)
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
        verdict_said = _write(files, result, scan, options, command, voice)
    except KeyboardInterrupt:
        if not remains(files.work):
            raise
        kept = f"stopped; what was learned is kept in {files.work}"
        raise KeyboardInterrupt(f"{kept}: run the same command again to go on") from None
    except BaseException:
        remains(files.work)
        raise
    shutil.rmtree(files.work, ignore_errors=True)
    voice.judged(*verdict_said)
    voice.say(f"wrote {files.out} in {time.monotonic() - start:.0f} s")
    if files.report:
        voice.say(f"report {files.report}")
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


def remains(work: Path) -> bool:
    """Whether there is a checkpoint to go on from; folders without one are removed."""
    for folder in (*work.glob("*"), work):
        with suppress(OSError):  # not empty, or not there
            folder.rmdir()
    return work.exists()


def refuse_paths(files: Files, force: bool) -> None:
    """Raise InputError for outputs that can't or must not be written, before any work is done."""
    more = files.phase_out, files.spread_out, files.uncertainty_out
    images = files.out, files.noise_out, files.residual_out, *more
    for path in (*images, *(path for _, path in files.maps)):
        refuse_ending(path, IMAGE_ENDINGS)
    refuse_ending(files.model_out, (".safetensors",))
    refuse_ending(files.report, (".html", ".htm"))
    read = {os.path.realpath(path) for path in files.read}
    seen: set[str] = set()
    for path in files.written:
        refuse_place(path)
        if os.path.realpath(path) in read:
            raise InputError(f"{path} belongs to an input of this run; write to another name", 2)
        if os.path.realpath(path) in seen:
            raise InputError(f"{path} is asked for twice; give each output its own name", 2)
        seen.add(os.path.realpath(path))
        if path.is_dir():
            raise InputError(f"{path} is a folder; give a file name", 2)
        if path.exists() and not force and not (files.is_piped and path == files.out):
            raise InputError(f"{path} exists; give --force to replace it, or choose another name")
    refuse_place(files.work)


def refuse_ending(path: Path | None, endings: tuple[str, ...]) -> None:
    if path is None:
        return
    if not path.name.lower().endswith(endings) or path.name.lower() in endings:
        known = " or ".join((", ".join(endings[:0:-1]), endings[0]) if endings[1:] else endings)
        raise InputError(f"{path} is no name for this result; give one that ends in {known}", 2)


def refuse_place(path: Path) -> None:
    """Raise InputError where no file of this name can be made."""
    if len(os.fsencode(path.name)) > NAME_MAX:
        raise InputError(f"{path.name} is too long for a file's name; choose a shorter one", 2)
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist; make it first")
    try:
        with TemporaryFile(dir=path.parent):  # permissions don't tell: disks can be read-only
            pass
    except OSError as error:
        reason = error.strerror
        raise InputError(
            f"the folder {path.parent} can't be written ({reason}); choose another"
        ) from None


def _refuse_full_disk(files: Files, scan: Series) -> None:
    """Raise InputError when a disk can't hold the results, before hours are spent on them."""
    more = files.phase_out, files.spread_out, files.uncertainty_out
    images = files.out, files.residual_out, *more
    series = [path for path in images if path]
    for folder in {path.parent for path in series}:
        same_disk = [p for p in series if p.parent.stat().st_dev == folder.stat().st_dev]
        needed, free = len(same_disk) * scan.data.nbytes, shutil.disk_usage(folder).free
        if free < needed:
            raise InputError(
                f"{folder} has {free / 1e9:.1f} GB free and the results may need "
                f"{needed / 1e9:.1f} GB; free space or choose another place"
            )


def _refuse_maps(files: Files, method: Method) -> None:
    """Raise InputError (status 2) for a map that the method does not find."""
    there = getattr(method, "maps", ())
    for name, _ in files.maps:
        if name not in there:
            known = f"it finds {', '.join(there)}" if there else "it finds none; leave it out"
            raise InputError(f"{method.name} finds no map {name!r}; {known}", 2)


def _write(
    files: Files, result: Result, scan: Series, options: Options, command: str, voice: Voice
) -> tuple[str, str]:
    """Everything that was asked for, or nothing and the files as they were; returns the verdict.

    The results are written into a hidden folder beside their places, then moved there. What an
    earlier run left there goes, also a gradient file that this scan does not have.
    """
    new = {path: path.parent / files.work.name / "new" / path.name for path in files.written}
    try:
        for path in new.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        moved: Any = {name: new.get(getattr(files, name)) for name in Files.ASKED}
        moved["maps"] = tuple((name, new[path]) for name, path in files.maps)
        said = _write_all(replace(files, **moved), result, scan, options, command, voice)
        for path, written in new.items():
            if written.exists():
                os.replace(written, path)
            else:
                path.unlink(missing_ok=True)
        return said
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
) -> tuple[str, str]:
    """Every file; returns the level and the sentence of the verdict."""
    said = headline(verdict(result.statistics, result.floor_removed))
    if files.report:
        from .report import write_report  # brings matplotlib: only where a page is wanted

        voice.stage("report")
        said = write_report(files.report, report_facts(result, scan, options, command))
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
        with replacing(_beside(files.out, ".json")) as file:
            file.write(text.encode("utf-8", "backslashreplace"))  # names may hold bare bytes
    is_pair = files.phase is not None  # magnitude in, magnitude out
    write_image(files.out, np.abs(result.denoised) if is_pair else result.denoised, scan, command)
    return said


def sample_file(
    model: Path,
    out: Path,
    number: int,
    steps: int,
    seed: int,
    device: str,
    force: bool,
    voice: Voice,
) -> None:
    """Images from noise alone by a model on disk: (X, Y, number, 1), 0 to 1, no place in space.

    Raises InputError for a model that is none, or of a method that can't draw images.
    """
    refuse_paths(Files(model, out), force)
    bundle = read_model(model)
    options = options_of(bundle, Options(seed=seed, device=device))
    method, where = refuse_options(options)
    if not isinstance(method, CanSample):
        raise InputError(f"{method.name} draws no images; give a model of ddm2")
    run = Run(seed, where, voice=voice)
    images = method.sample(bundle.state, bundle.shape[:2], number, steps, run)
    header = nib.Nifti1Header()
    stack = ((images + 1) / 2)[..., None]
    header.set_data_shape(stack.shape)
    write_image(out, stack, Series(stack, np.eye(4), header))
    for path in _all_beside(out):  # of what stood here before
        path.unlink(missing_ok=True)
    voice.say(f"wrote {out}: {number} images; none is a measurement")


def reconstruct_files(
    raw: list[Path],
    out: Path,
    axes: str | None,
    key: str | None,
    combine: str,
    force: bool,
    command: str,
    voice: Voice,
) -> Series:
    """Images of raw scans, as a NIfTI file with its json: one volume for each repetition.

    raw      files of one protocol; the repetitions of each, one file after the other
    axes     what their axes are, None for those of fastMRI and M4Raw
    key      name of the array in each file, None to find it
    combine  how coils become one image
    command  what reproduces this run, for the json

    Raises InputError, with nothing written, for what can't be read, used or written.
    """
    for path in raw:
        refuse_paths(Files(path, out), force)
    kspace = join([load_kspace(path, axes, key) for path in raw])
    series = reconstruct(kspace, combine)
    said = series.sidecar["Reconstruction"]
    for note in said["Notes"]:
        voice.say(f"note: {note}")
    text = json.dumps(
        {
            **series.sidecar,
            "Reconstruction": {
                **said,
                "RawFiles": [path.name for path in raw],
                "Command": command,
                "Versions": versions(),
            },
        },
        indent=2,
    )
    with replacing(_beside(out, ".json")) as file:  # both are there, or neither is new
        file.write(text.encode())
        write_image(out, series.data, series, command)
    for ending in (".bval", ".bvec"):  # of what stood here before: these have no gradients
        _beside(out, ending).unlink(missing_ok=True)
    voice.say(f"wrote {out}: {' x '.join(map(str, series.data.shape))}, noise of sigma 1")
    return series


def report_facts(result: Result, scan: Series, options: Options, command: str) -> "ReportFacts":
    """What the report shows, from a result."""
    from .report import ReportFacts

    n_signal = len(result.noise.eigenvalues) - result.noise.n_noise_components
    noisy, denoised = pictured(result)
    return ReportFacts(
        title=scan.path.name if scan.path else "scan",
        noisy=noisy,
        denoised=denoised,
        sigma=result.noise_map,
        mask=result.mask,
        affine=scan.affine,
        bvals=scan.bvals,
        statistics=result.statistics,
        command=command,
        settings={
            "method": result.method.name,
            "preset": options.preset,
            "seed": options.seed,
            "b=0 and lone volumes": _passed(result),
            "noise floor": "removed" if result.floor_removed else "kept",
            **settings_of(result.method),
            **({"used": name} if (name := used(result.kept)) else {}),
        },
        run={
            "noise": describe_noise(result.noise, result.mask).removeprefix("noise: "),
            **{f"seconds, {stage}": round(s, 1) for stage, s in result.seconds.items()},
            "peak memory": f"{peak_memory_bytes() / 2**30:.2f} GiB",
            "device": result.device,
        },
        versions=versions(),
        bvecs=scan.bvecs,
        covariance=result.noise.covariance,
        losses=[float(value) for value in result.losses],
        distances=distance_curve(result.kept),
        steps={name: result.kept[name] for name in STEPS if name in result.kept},
        spread=result.spread,
        uncertainty=result.uncertainty,
        maps={name: result.kept[f"{name} map"] for name in getattr(result.method, "maps", ())},
        warnings=_of_slices(result),
        findings=[finding.to_dict() for finding in result.findings],
        citations=citations(result),
        methods_paragraph=methods_paragraph(result, options),
        limits=(f"{result.method.name} needs {result.method.needs}.",),
        eigenvalues=result.noise.eigenvalues,
        noise_edge=float(result.noise.eigenvalues[n_signal])
        if 0 < n_signal < len(result.noise.eigenvalues)
        else None,
        floor_corrected=result.floor_removed,
    )


def citations(result: Result) -> list[str]:
    """What to cite: the software, the method's paper, and the stabiliser's of magnitude data."""
    said = [
        f"quell {version('quell')}, self-supervised denoising of MRI scans.",
        result.method.paper,
    ]
    return said if result.noise.law == "gaussian" else [*said, STABILISER]


def pictured(result: Result) -> tuple[np.ndarray, np.ndarray]:
    """Scan and result as real images."""
    if np.iscomplexobj(result.denoised):
        return along(result.denoised, result.noisy)
    return result.noisy, result.denoised


def _passed(result: Result) -> str:
    volumes = result.kept.get("passed through")
    if volumes is None or not len(volumes):
        return "denoised"
    return "passed unchanged: " + ", ".join(str(v) for v in volumes)


def _of_slices(result: Result) -> list[str]:
    """A sentence about slices whose result stands out from the other volumes'."""
    slices = result.kept.get("flagged slices", ())
    if not len(slices):
        return []
    first = ", ".join(f"volume {v} slice {z}" for v, z in slices[:12])
    more = f" and {len(slices) - 12} more" if len(slices) > 12 else ""
    return [
        f"{len(slices)} slices moved further from, or stayed closer to, the input than the same "
        f"slices of other volumes: {first}{more}. Look at them: motion, spikes or drop-out."
    ]
