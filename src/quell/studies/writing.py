"""The folder of a simulation: a noisy scan, its truth and what is known of the noise."""

import math
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..files import refuse_place
from ..record import as_json, versions
from ..series import InputError, Series, copy_gradients, replacing, stem, write_nifti
from ..simulate.anatomy import TISSUES
from .simulated import Simulated
from .study import Study

SCANS = ("noisy", "truth", "repeat")  # these have gradients
RECORD = "simulation.json"
NAMES = (
    *(f"{name}{ending}" for name in SCANS for ending in (".nii.gz", ".bval", ".bvec")),
    *(f"{name}.nii.gz" for name in ("mask", "sigma", "tissue")),
    RECORD,
)
WORK = ".simulate.quell"  # what is being written


def refuse_folder(out: Path, study: Study, force: bool) -> None:
    """Raise InputError for a folder that can't or must not be written, before any work is done."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a folder", 2)
    refuse_place(out / RECORD if out.exists() else out)
    given = study.scan, study.mask, study.bval, study.bvec
    read = {os.path.realpath(path) for path in given if path}
    for name in NAMES:
        if os.path.realpath(out / name) in read:
            raise InputError(f"{out / name} is an input of this run; give another folder", 2)
    if out.exists() and any(out.iterdir()) and not force:
        raise InputError(f"{out} is not empty; give --force to write into it, or another folder")


def write_folder(out: Path, made: Simulated, command: str) -> list[Path]:
    """Everything, or nothing and the folder as it was; what was written, in the order of NAMES.

    out      folder, made if it is not there
    command  what reproduces it, for the record

    What an earlier simulation left there and this one does not have is removed.
    """
    is_new = not out.exists()
    work = out / WORK
    try:
        work.mkdir(parents=True, exist_ok=True)
        _write_all(work, made, command)
        for name in NAMES:
            if (work / name).exists():
                os.replace(work / name, out / name)
            else:
                (out / name).unlink(missing_ok=True)
    except InputError as error:
        raise InputError(str(error).replace(os.path.join(WORK, ""), "")) from error
    except OSError as error:
        raise InputError(f"{out} can't be written ({error.strerror}); choose another") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if is_new and out.is_dir() and not any(out.iterdir()):
            out.rmdir()
    return [out / name for name in NAMES if (out / name).exists()]


def _write_all(folder: Path, made: Simulated, command: str) -> None:
    clean = made.source.clean
    for name in SCANS:
        data = getattr(made, name)
        if data is not None:
            write_nifti(folder / f"{name}.nii.gz", data, clean)
            write_gradients(folder / f"{name}.nii.gz", clean)
    like = replace(clean, is_one_image=False)
    maps = {"mask": clean.where, "sigma": made.noise_map, "tissue": made.source.tissue}
    for name, data in maps.items():
        if data is not None:
            write_nifti(folder / f"{name}.nii.gz", data, like)
    with replacing(folder / RECORD) as file:
        text = as_json(record(made, command))
        file.write(text.encode("utf-8", "backslashreplace"))  # names may hold bare bytes


def write_gradients(path: Path, clean: Series) -> None:
    """The scan's own gradient files byte for byte beside `path`, or a phantom's as text."""
    if clean.path is not None:
        copy_gradients(clean, path)
        return
    for rows, ending, form in ((clean.bvals, ".bval", "%g"), (clean.bvecs, ".bvec", "%.6f")):
        if rows is not None:
            with replacing(stem(path).with_name(stem(path).name + ending)) as file:
                np.savetxt(file, np.atleast_2d(rows.T), fmt=form)


def record(made: Simulated, command: str) -> dict[str, Any]:
    """All about a simulation, for its json."""
    study, clean = made.study, made.source.clean
    return {
        "Scan": {
            "Source": made.source.name,
            "Shape": list(clean.data.shape),
            "Repetitions": study.repetitions,
            "Volume": None if study.repetitions is None else study.volume or 0,
            "Signal": plain(made.source.signal),
            "SignalMeans": "of white matter at b=0"
            if study.scan is None
            else "mean in the mask, at b=0 where there is any",
            "Tissues": list(TISSUES) if made.source.tissue is not None else None,
        },
        "Noise": {
            "Law": study.noise_law,
            "Coils": study.n_coils,
            "Asked": {name: v for name, v in asdict(study.amount).items() if v is not None},
            "Sigma": made.sigma,
            "SigmaMeans": "standard deviation of the noise in the real and in the imaginary part "
            "of one coil's image where all of k-space is measured, in units of the scan",
            "SNR": plain(made.snr),
            "SigmaInImage": plain(float(made.noise_map[clean.where].mean(dtype=np.float64))),
            "SigmaInImageMeans": "the same in the final image, before its magnitude is taken; mean "
            "in the mask of sigma.nii.gz",
            "Correlation": [round(r, 6) + 0.0 for r in made.correlation],
            "CorrelationMeans": "of that part at neighbours along x, y, z, by formula",
        },
        "Acquisition": acquisition_of(made),
        "PublishedScores": {
            "PSNR": plain(made.psnr),
            "SSIM": plain(made.ssim),
            "ScoresMean": "noisy against truth as Di-Fusion scores: each stretched by its own "
            "extremes, mean over the slices of all volumes, air included",
        },
        "Seed": study.seed,
        "HasRepeat": study.has_repeat,
        "Command": command,
        "Versions": versions(),
    }


def acquisition_of(made: Simulated) -> dict[str, Any]:
    """How the scan was acquired, for the json."""
    if not made.study.is_in_kspace:
        return {"Noise": "on the image"}
    how, shape = made.study.acquisition, made.truth.shape
    return {
        "Noise": "in k-space",
        "Coils": how.n_coils,
        "Combination": how.combine,
        "PartialFourier": how.partial_fourier,
        "ZeroFill": how.zero_fill,
        "CoilCorrelation": how.coil_correlation,
        "MeasuredMatrix": list(how.matrix(shape)),
        "MeasuredShare": plain(how.share(shape)),
        "FourierTransform": "orthonormal, centred, in each slice; x readout, y phase encoding",
    }


def plain(value: float) -> float | None:
    """A number as it is kept: six digits, None for what is none."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
