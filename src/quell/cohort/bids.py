"""A BIDS dataset: its scans, and the b-values, directions and sidecars that each inherits.

Source  Brain Imaging Data Structure specification, "The inheritance principle": a metadata file
        belongs to every data file at its own level or below whose suffix is the same and whose
        name has all of its entities; what stands nearer overrides what stands above.
Here    Only names made of BIDS' own letters are taken, so that no name can lead anywhere. Folders
        are looked into to a known depth, so that no link can lead around in circles.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..series import InputError, read_json
from ..series.scan import first_line

LABEL = r"[A-Za-z0-9+]+"
ENTITY = re.compile(rf"([a-z]+)-({LABEL})")
NAME = re.compile(rf"((?:[a-z]+-{LABEL}_)*)([A-Za-z0-9]+)(\.[A-Za-z0-9.]+)")
IMAGES = (".nii.gz", ".nii")

# What is denoised of each kind of data: measured images, not maps that were computed from them.
SUFFIXES = {
    "dwi": ("dwi",),
    "anat": (
        "T1w", "T2w", "PDw", "T2starw", "FLAIR", "PDT2", "inplaneT1", "inplaneT2", "angio",
        "VFA", "IRT1", "MP2RAGE", "MESE", "MEGRE", "MTR", "MTS", "MPM",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Named:
    """A file whose name is BIDS': entities in order, suffix and ending."""

    path: Path
    entities: tuple[tuple[str, str], ...]
    suffix: str
    ending: str

    @classmethod
    def of(cls, path: Path) -> "Named | None":
        """None where the name is not of this form, or says an entity twice."""
        match = NAME.fullmatch(path.name)
        if match is None:
            return None
        pairs = tuple(ENTITY.findall(match[1]))
        if len({key for key, _ in pairs}) < len(pairs):
            return None
        return cls(path, pairs, match[2], match[3])

    def get(self, entity: str) -> str:
        """Its label; "" where the name has none."""
        return dict(self.entities).get(entity, "")

    def belongs_to(self, data: "Named") -> bool:
        """Whether this metadata file is one of that data file's."""
        return self.suffix == data.suffix and set(self.entities) <= set(data.entities)


@dataclass(frozen=True)
class Scan:
    """What is denoised at once: one file, or a magnitude with its phase."""

    file: Named
    datatype: str
    phase: Named | None = None

    @property
    def name(self) -> str:
        """Its own among all scans of the dataset, and safe as a file's name."""
        return "_".join([*(f"{k}-{v}" for k, v in self.entities), self.file.suffix])

    @property
    def entities(self) -> tuple[tuple[str, str], ...]:
        """Of the scan: a pair has no part."""
        pairs = self.file.entities
        return tuple(p for p in pairs if p[0] != "part") if self.phase else pairs

    @property
    def files(self) -> list[Path]:
        """Its images."""
        return [self.file.path, *([self.phase.path] if self.phase else [])]


@dataclass(frozen=True)
class Dataset:
    """A dataset on disk.

    root      its folder
    left_out  sentences about files that are not denoised, gathered by `scans`
    """

    root: Path
    left_out: list[str] = field(default_factory=list)
    _listed: dict[Path, list[Named]] = field(default_factory=dict)

    @cached_property
    def description(self) -> dict[str, Any]:
        """dataset_description.json; {} where there is none that can be read."""
        try:
            said = read_json(self.root / "dataset_description.json")
        except (OSError, ValueError, RecursionError):
            return {}
        return said if isinstance(said, dict) else {}

    def scans(
        self, participants: Sequence[str], sessions: Sequence[str], datatypes: Sequence[str]
    ) -> list[Scan]:
        """Every scan that is meant, in order; participants and sessions empty: all.

        Raises InputError (status 2) for a participant or a session that is not there.
        """
        there = self._labels(self.root, "sub")
        if not there:
            raise InputError(f"{self.root} has no folders sub-...; give the root of a BIDS dataset")
        self._refuse_missing("participant", participants, there)
        chosen = [label for label in there if not participants or label in participants]
        subjects = [self.root / f"sub-{label}" for label in chosen]
        known = sorted({ses for subject in subjects for ses in self._labels(subject, "ses")})
        self._refuse_missing("session", sessions, known)
        found: dict[str, Scan] = {}
        for subject in subjects:
            for place in self._sessions(subject, sessions):
                for datatype in datatypes:
                    for scan in self._in(place, datatype):
                        if scan.name in found:
                            self.left_out.append(f"{scan.file.path} stands there twice")
                        found.setdefault(scan.name, scan)
        return list(found.values())

    def others(self, scans: Sequence[Scan], datatypes: Sequence[str]) -> dict[str, int]:
        """How many images of the other kinds the same participants have."""
        counts: dict[str, int] = {}
        subjects = {f"sub-{scan.file.get('sub')}" for scan in scans}
        for kind in SUFFIXES:
            if kind not in datatypes:
                folders = [self.root / s for s in subjects]
                n = sum(
                    1
                    for folder in folders
                    for place in self._sessions(folder, ())
                    for _ in self._images(place, kind)
                )
                counts |= {kind: n} if n else {}
        return counts

    def inherited(self, data: Named, ending: str) -> list[Path]:
        """The metadata files of an image, from the root down: the last overrides the others.

        Raises InputError where two at one level have equal right to it, and for what is no file.
        """
        found = []
        for folder in self._levels(data.path.parent):
            here = [n for n in self._list(folder) if n.ending == ending and n.belongs_to(data)]
            here.sort(key=lambda named: len(named.entities))
            sizes = [len(named.entities) for named in here]
            if len(set(sizes)) < len(sizes):
                names = " and ".join(named.path.name for named in here)
                raise InputError(
                    f"{names} in {folder} both belong to {data.path.name}; keep one of them"
                )
            found += [named.path for named in here]
        for path in found:
            if not path.is_file():
                what = "link to a file that is not there" if path.is_symlink() else "file"
                raise InputError(f"{path} is {'a' if path.is_symlink() else 'no'} {what}; mend it")
        return found

    def sidecar(self, data: Named) -> dict[str, Any]:
        """What all its json files say together.

        Raises InputError for one that can't be read.
        """
        said: dict[str, Any] = {}
        for path in self.inherited(data, ".json"):
            try:
                here = read_json(path)
            except (OSError, ValueError, RecursionError) as error:
                raise InputError(
                    f"{path} is not readable JSON ({first_line(error)}); correct it"
                ) from error
            if not isinstance(here, dict):
                raise InputError(f"{path} is not a BIDS sidecar (an object with keys); correct it")
            said |= here
        return said

    def _levels(self, folder: Path) -> list[Path]:
        below = folder.relative_to(self.root).parts
        return [self.root.joinpath(*below[:n]) for n in range(len(below) + 1)]

    def _list(self, folder: Path) -> list[Named]:
        if folder not in self._listed:
            paths = sorted(folder.iterdir()) if folder.is_dir() else []
            self._listed[folder] = [named for p in paths if (named := Named.of(p)) is not None]
        return self._listed[folder]

    @staticmethod
    def _labels(folder: Path, entity: str) -> list[str]:
        pattern = re.compile(rf"{entity}-({LABEL})")
        names = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
        return [match[1] for name in names if (match := pattern.fullmatch(name))]

    def _sessions(self, subject: Path, sessions: Sequence[str]) -> Iterator[Path]:
        """The folders of a participant that hold data: its own, and those of its sessions."""
        if not sessions:
            yield subject
        for label in self._labels(subject, "ses"):
            if not sessions or label in sessions:
                yield subject / f"ses-{label}"

    def _images(self, place: Path, datatype: str) -> Iterator[Named]:
        for named in self._list(place / datatype):
            if named.ending in IMAGES and named.suffix in SUFFIXES[datatype]:
                yield named

    def _in(self, place: Path, datatype: str) -> list[Scan]:
        """The scans of one folder; magnitude and phase become one."""
        folders = dict(ENTITY.findall("_".join(place.relative_to(self.root).parts)))
        parts: dict[tuple[Any, ...], dict[str, Named]] = {}
        self._say_misnamed(place / datatype)
        for named in self._images(place, datatype):
            if any(named.get(key) != folders.get(key, "") for key in ("sub", "ses")):
                self.left_out.append(f"{named.path}: its name is not that of its folder")
                continue
            rest = tuple(pair for pair in named.entities if pair[0] != "part")
            parts.setdefault((rest, named.suffix, named.ending), {})[named.get("part")] = named
        found = []
        for by_part in parts.values():
            for part, named in by_part.items():
                if part in ("", "mag"):
                    phase = by_part.get("phase") if part == "mag" else None
                    found.append(Scan(named, datatype, phase))
                elif part != "phase" or "mag" not in by_part:
                    self.left_out.append(f"{named.path}: {_why_not(part)}")
        return found

    def _say_misnamed(self, folder: Path) -> None:
        known = {named.path for named in self._list(folder)}
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.name.lower().endswith(IMAGES) and path not in known:
                self.left_out.append(f"{path}: its name is not as BIDS has it")

    def _refuse_missing(self, what: str, asked: Sequence[str], there: Sequence[str]) -> None:
        if missing := [label for label in asked if label not in there]:
            some = ", ".join(there[:8]) + (" ..." if len(there) > 8 else "") or "none"
            raise InputError(
                f"there is no {what} {', '.join(missing)} in {self.root}; there is {some}", 2
            )


def _why_not(part: str) -> str:
    if part == "phase":
        return "a phase without its magnitude (part-mag) can't be denoised"
    return f"part-{part} alone is half of a complex image; give part-mag and part-phase"
