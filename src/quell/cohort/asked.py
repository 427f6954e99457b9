"""What is asked of a cohort."""

from dataclasses import dataclass
from pathlib import Path

from ..series import InputError
from .batch import CLUSTERS
from .bids import SUFFIXES, Dataset
from .cluster import is_address
from .names import HIDDEN, RAW, link_of, real


@dataclass(frozen=True)
class Cohort:
    """What is asked of a cohort; each field is an option of `quell cohort`."""

    root: Path
    out: Path
    participants: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    datatypes: tuple[str, ...] = ("dwi",)
    work: Path | None = None
    dask: str = "local"
    dask_file: Path | None = None
    workers: int | None = None
    memory_gib: float | None = None
    shared_model: bool = False
    train_scans: int = 5
    recorrupt: bool = False
    residual: bool = False
    report: bool = True
    again: bool = False

    @property
    def folder(self) -> Path:
        """For checkpoints, and what dask keeps."""
        return (self.work or self.out / HIDDEN).absolute()

    def refuse(self) -> None:
        """Raise InputError for what can't be meant, before anything is written."""
        if not self.root.is_dir():
            raise InputError(f"{self.root} is no folder; give the root of a BIDS dataset", 2)
        for kind in self.datatypes:
            if kind not in SUFFIXES:
                raise InputError(f"data of kind {kind!r} are not known; choose dwi or anat", 2)
        if self.dask not in ("local", *CLUSTERS) and not is_address(self.dask):
            known = ", ".join(("local", *CLUSTERS))
            raise InputError(
                f"--dask {self.dask} is not known; give {known}, or an address such as "
                "tcp://host:8786 or tls://host:8786",
                2,
            )
        root, out = real(self.root), real(self.out)
        if root.is_relative_to(out):
            raise InputError(f"{self.root} lies in {self.out}; give another folder to write to", 2)
        for place in (out, real(self.folder)):
            if place.is_relative_to(root) and not place.is_relative_to(root / "derivatives"):
                raise InputError(
                    f"{place} lies among the data; nothing is written there but below "
                    f"{self.root / 'derivatives'}: give another folder",
                    2,
                )
        if self.work is None and not real(self.folder).is_relative_to(out):
            raise InputError(f"{self.folder} is a link that leads out of {self.out}; remove it")
        self._refuse_foreign()

    def _refuse_foreign(self) -> None:
        if self.out.exists() and not self.out.is_dir():
            raise InputError(f"{self.out} is a file; give a folder", 2)
        if not self.out.exists() or not any(self.out.iterdir()):
            return
        made_by = Dataset(self.out).description.get("GeneratedBy")
        makers = made_by if isinstance(made_by, list) else []
        names = [g.get("Name") for g in makers if isinstance(g, dict)]
        if "quell" not in names:
            raise InputError(
                f"{self.out} holds something else than scans that quell denoised; give an empty "
                "or a new folder"
            )
        link = link_of(Dataset(self.root), self.out)
        known = Dataset(self.out).description.get("DatasetLinks")
        if isinstance(known, dict) and known.get(RAW, link) != link:
            raise InputError(
                f"{self.out} holds scans of another dataset ({known[RAW]}); give another folder, "
                "or correct DatasetLinks in its dataset_description.json if the data have moved"
            )
