"""The manifest: what became of every scan, kept in OUT/logs, one small file a scan.

Idea    A scan is done when its record says so, the record's fingerprints are those of today's
        inputs and settings, and every file that it wrote is there. Then nothing is run again.
Here    One file a scan, so that several runs, on several machines, may fill one folder together.
        Inputs are known by their content; as long as size and time of a file are those of the
        record it is not read again, so that looking at a thousand finished scans takes seconds.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..compare.running import DONE, Outcome
from ..options import Options
from .names import LOGS, inside

NOT_BYTES = {"threads"}  # options that decide how fast, not what


@dataclass(frozen=True)
class Entry(Outcome):
    """What became of one scan.

    name         of the scan
    scan         its file, relative to the dataset
    datatype     dwi or anat
    how          fingerprint of method, settings, metadata and version
    inputs       fingerprint of the content of all that was read
    stamps       size and time of those files: while they are the same, so is the content
    outputs      files written, relative to the root of the output, and their sizes
    report       the scan's page, relative to the root of the output
    level        the report's verdict, as a word
    headline     and as a sentence
    reasons      for it, gravest first
    about        what kind of scan it is: grid, voxel, volumes
    method, preset, version  it was denoised with
    """

    name: str = ""
    scan: str = ""
    datatype: str = ""
    how: str = ""
    inputs: str = ""
    stamps: dict[str, list[int]] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    report: str = ""
    level: str = ""
    headline: str = ""
    reasons: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    method: str = ""
    preset: str = ""
    version: str = ""

    @property
    def participant(self) -> str:
        return _label(self.name, "sub")

    @property
    def session(self) -> str:
        return _label(self.name, "ses")

    def is_done(self, how: str, files: Iterable[Path], out: Path) -> bool:
        """Whether nothing is left to do.

        how    fingerprint of the settings that are asked for
        files  that are to be read
        out    root of the output
        """
        if self.status != DONE or self.how != how or not self.outputs:
            return False
        if any(_size(out / name) != size for name, size in self.outputs.items()):
            return False
        files = list(files)
        return stamps_of(files) == self.stamps or inputs_of(files) == self.inputs

    @classmethod
    def of_text(cls, text: str) -> "Entry":
        """What `text` gave."""
        return cls.of(json.loads(text))

    @property
    def text(self) -> str:
        """As JSON."""
        return json.dumps({n: None if v != v else v for n, v in asdict(self).items()})


def record_of(out: Path, name: str) -> Path:
    """Where the record of a scan lies.

    Raises InputError where it would lie outside of the output.
    """
    return inside(out, Path(LOGS, f"{name}.json"))


def read_all(out: Path) -> list[Entry]:
    """The records of every scan that any run left in a folder, by name."""
    paths = sorted((out / LOGS).glob("sub-*.json"))
    found = ((path.stem, Entry.read(path)) for path in paths)
    return [entry for name, entry in found if entry is not None and entry.name == name]


def how_of(options: Options, sidecar: Mapping[str, Any], *more: object) -> str:
    """Sixteen letters that change with whatever decides what comes out, the images apart.

    sidecar  what the scan's json files say together
    more     what else was asked for
    """
    chosen = {k: v for k, v in asdict(options).items() if k not in NOT_BYTES}
    words = json.dumps([version("quell"), chosen, sidecar, more], sort_keys=True, default=str)
    return hashlib.sha256(words.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def inputs_of(files: Iterable[Path]) -> str:
    """Sixteen letters that change with the content of any of the files."""
    words = hashlib.sha256()
    for path in files:
        words.update(b"/" + path.name.encode("utf-8", "surrogateescape"))
        # no file, or not readable: whoever denoises it says so
        with suppress(OSError):
            if path.is_file():
                with open(path, "rb") as file:
                    words.update(hashlib.file_digest(file, "sha256").digest())
    return words.hexdigest()[:16]


def stamps_of(files: Iterable[Path]) -> dict[str, list[int]]:
    """Size and time of change of every file that is there."""
    found = {}
    for path in files:
        with suppress(OSError):
            about = path.stat()
            found[path.name] = [about.st_size, about.st_mtime_ns]
    return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _label(name: str, entity: str) -> str:
    """ "ses" in "sub-01_ses-2_dwi" -> "2"."""
    return dict(word.partition("-")[::2] for word in name.split("_")).get(entity, "")
