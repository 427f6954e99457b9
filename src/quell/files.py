"""Files: what a run reads and writes, and which names are refused before any work is done."""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import ClassVar

from .series import IMAGE_ENDINGS, InputError, Series, parts_of, sources_of, stem
from .series.scan import NIFTI_ENDINGS

NAME_MAX = 255  # bytes of a file's name, on every common file system


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
        return [*(path for path in given if path), *sources_of(self.scan), *files_beside(self.scan)]

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
        return files_beside(self.out)[: None if has_gradients else 1]

    @property
    def work(self) -> Path:
        """The hidden folder beside the output: checkpoints, and results while they are written."""
        return self.out.parent / f".{stem(self.out).name}.quell"


def file_beside(path: Path, ending: str) -> Path:
    return path.parent / (stem(path).name + ending)


def files_beside(path: Path) -> list[Path]:
    return [file_beside(path, ending) for ending in (".json", ".bval", ".bvec")]


def report_beside(out: Path) -> Path:
    """Where the report goes unless the person says otherwise."""
    refuse_ending(out, IMAGE_ENDINGS)  # without one there may be no name to add to
    return file_beside(out, "_report.html")


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


def refuse_full_disk(files: Files, scan: Series) -> None:
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


def remains(work: Path) -> bool:
    """Whether there is a checkpoint to go on from; folders without one are removed."""
    for folder in (*work.glob("*"), work):
        with suppress(OSError):  # not empty, or not there
            folder.rmdir()
    return work.exists()
