"""A prepared scan: scaled to sigma = 1, with its mask and noise, as a folder on disk.

Idea    What a training needs of a scan, once the scan itself is let go. The files are mapped into
        memory, so only the pages that a patch lies on are ever read.
Here    Volumes lie one after the other, slice by slice: the rows of a patch are close together.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from .models import TrainingScan
from .noise import NoiseModel
from .scaling import Scale
from .series import InputError, Series, replacing

MANIFEST = "scans.json"
OF_VOLUMES = ("affine", "bvals", "bvecs", "parts")  # of a series, kept where there are any


@dataclass(frozen=True)
class Prepared:
    """One scan as it lies in the cache, scaled to sigma = 1."""

    folder: Path
    about: TrainingScan

    @staticmethod
    def read(folder: Path) -> "Prepared | None":
        """The scan of that folder; None where there is none, or not a whole one."""
        try:
            about = TrainingScan.read(json.loads((folder / "about.json").read_text("utf-8")))
            prepared = Prepared(folder, about)
            prepared.series()
            prepared.noise()
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return prepared

    def series(self) -> Series:
        """The scan; its volumes and mask stay on disk until they are looked at."""
        data, mask = (
            np.asarray(np.load(self.folder / f"{name}.npy", mmap_mode="r"))
            for name in ("series", "mask")
        )
        with np.load(self.folder / "arrays.npz") as arrays:
            known = {name: arrays.get(name) for name in OF_VOLUMES}
        return Series(data, header=nib.Nifti1Header(), mask=mask, **known)

    def noise(self) -> NoiseModel:
        """The model of the scaled scan's noise; its map of ones takes no memory."""
        with np.load(self.folder / "arrays.npz") as arrays:
            covariance, eigenvalues = arrays["covariance"], arrays["eigenvalues"]
        ones = np.broadcast_to(np.float32(1), self.about.shape[:3])
        return NoiseModel(ones, covariance, "gaussian", 1.0, "cache", 0, eigenvalues)

    @staticmethod
    def write(folder: Path, scan: Series, noise: NoiseModel) -> "Prepared":
        """Scale a scan into its folder, which appears once it is whole."""
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir(parents=True)
            about = TrainingScan.of(scan, noise)
            _write_scaled(part / "series.npy", scan.data, noise)
            np.save(part / "mask.npy", scan.where)
            arrays = {name: getattr(scan, name) for name in OF_VOLUMES}
            arrays |= {"covariance": noise.covariance, "eigenvalues": noise.eigenvalues}
            given: Any = {name: array for name, array in arrays.items() if array is not None}
            np.savez(part / "arrays.npz", **given)
            (part / "about.json").write_text(json.dumps(asdict(about)), "utf-8")
            os.replace(part, folder)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise CacheError(
                f"{folder.parent} cannot be written ({error.strerror}); free space or give --work "
                "a place on another disk"
            ) from error
        return Prepared(folder, about)


class CacheError(InputError):
    """The cache can't be written, which is no fault of the scan in hand."""


def _write_scaled(path: Path, data: np.ndarray, noise: NoiseModel) -> None:
    """Volume by volume, without a second copy of the scan in memory."""
    scale = Scale.of(noise.sigma, noise.law, noise.n_coils)
    levels = np.ones(data.shape[3]) if noise.levels is None else noise.levels
    layout = {"descr": np.dtype(np.float32).str, "fortran_order": True, "shape": data.shape}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, layout)
        for v in range(data.shape[3]):
            volume = data[..., v] / np.float32(levels[v])
            file.write(scale.apply(volume).tobytes(order="F"))
        file.flush()
        os.fsync(file.fileno())  # else a power cut may leave the name without the content


def write_manifest(cache: Path, scans: list[Prepared]) -> None:
    """Which folders of the cache are the training set, and in which order."""
    with replacing(cache / MANIFEST) as file:
        file.write(json.dumps([scan.folder.name for scan in scans]).encode())


def opened(cache: Path) -> list[Prepared]:
    """The training set that another process prepared there."""
    try:
        folders = [cache / name for name in json.loads((cache / MANIFEST).read_text("utf-8"))]
    except (OSError, ValueError):
        folders = [cache]
    scans = [Prepared.read(folder) for folder in folders]
    if missing := [folder for folder, scan in zip(folders, scans, strict=True) if scan is None]:
        raise InputError(
            f"{missing[0]} can't be read by all processes; start them on one machine, or "
            "give --work a folder that all machines share"
        )
    return [scan for scan in scans if scan is not None]
