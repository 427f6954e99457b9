"""A job: all that one scan needs, as text, so that nothing else crosses to another machine."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..options import Options
from .bids import Dataset, Scan
from .manifest import Entry, how_of
from .names import derivative, report_of, uri


@dataclass(frozen=True)
class Asked:
    """What is wanted of every scan alike.

    out        root of the output
    work       folder for checkpoints
    options    what to do
    command    what reproduces the run
    recorrupt  judge each result by the scan with more noise
    residual   write what was removed
    report     write each scan's page
    """

    out: Path
    work: Path
    options: Options
    command: str
    recorrupt: bool = False
    residual: bool = False
    report: bool = True


@dataclass(frozen=True)
class Job:
    """One scan to be denoised; paths as text.

    name      of the scan
    scan      its file; `relative` to the dataset
    sidecar   what its json files say together
    sources   BIDS URIs of what it is made of
    targets   what is written -> where to, relative to `out`
    how       fingerprint of all that is asked for
    model     file of a model to be used; "": the method learns anew
    """

    name: str
    datatype: str
    scan: str
    relative: str
    phase: str
    bval: str
    bvec: str
    sidecar: dict[str, Any]
    sources: list[str]
    targets: dict[str, str]
    out: str
    work: str
    options: dict[str, Any]
    command: str
    how: str
    model: str = ""
    recorrupt: bool = False
    version: str = field(default_factory=lambda: version("quell"))

    @classmethod
    def of(cls, scan: Scan, dataset: Dataset, asked: Asked) -> "Job":
        """What is to be done with a scan.

        Raises InputError where its metadata can't be read.
        """
        gradients = {k: dataset.inherited(scan.file, f".{k}") for k in ("bval", "bvec")}
        nearest = {k: str(paths[-1]) if paths else "" for k, paths in gradients.items()}
        return cls.bare(scan, dataset, asked, dataset.sidecar(scan.file), **nearest)

    @classmethod
    def bare(
        cls,
        scan: Scan,
        dataset: Dataset,
        asked: Asked,
        sidecar: Mapping[str, Any] | None = None,
        bval: str = "",
        bvec: str = "",
    ) -> "Job":
        """What is to be done with a scan of which nothing but the file is known, or this."""
        targets, said = targets_of(scan, asked), dict(sidecar or {})
        return cls(
            name=scan.name,
            datatype=scan.datatype,
            scan=str(scan.file.path),
            relative=scan.file.path.relative_to(dataset.root).as_posix(),
            phase=str(scan.phase.path) if scan.phase else "",
            bval=bval,
            bvec=bvec,
            sidecar=said,
            sources=[uri(dataset.root, path) for path in scan.files],
            targets=targets,
            out=str(asked.out),
            work=str(asked.work / scan.name),
            options=asdict(asked.options),
            command=asked.command,
            how=how_of(asked.options, said, sorted(targets), asked.recorrupt),
            recorrupt=asked.recorrupt,
        )

    @property
    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def of_text(cls, text: str) -> "Job":
        """What `text` gave."""
        return cls(**json.loads(text))

    @property
    def files(self) -> list[Path]:
        """All that is read."""
        return [Path(p) for p in (self.scan, self.phase, self.bval, self.bvec) if p]

    def entry(self, status: str, why: str = "", **more: Any) -> Entry:
        """The scan's record."""
        return Entry(
            key=self.how,
            status=status,
            why=why,
            name=self.name,
            scan=self.relative,
            datatype=self.datatype,
            how=self.how,
            method=str(self.options["method"]),
            preset=str(self.options["preset"]),
            version=self.version,
            **more,
        )


def targets_of(scan: Scan, asked: Asked) -> dict[str, str]:
    """What is written of a scan -> where to, relative to the root of the output."""
    is_pair = scan.phase is not None
    paths = {
        "out": derivative(scan, "denoised", ".nii.gz", part="mag" if is_pair else ""),
    }
    if scan.datatype == "dwi":  # T1w and T2w would share these names
        paths["mask"] = derivative(scan, "brain", ".nii.gz", "mask")
        paths["noise"] = derivative(scan, "noise", ".nii.gz", "dwimap")
    if is_pair:
        paths["phase"] = derivative(scan, "denoised", ".nii.gz", part="phase")
    if asked.residual:
        paths["residual"] = derivative(scan, "residual", ".nii.gz")
    if asked.report:
        paths["report"] = report_of(scan)
    return {what: path.as_posix() for what, path in paths.items()}
