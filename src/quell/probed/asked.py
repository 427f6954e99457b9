"""What is asked of a probe."""

from dataclasses import dataclass
from pathlib import Path

from ..files import refuse_place
from ..probing import MOST_SCANS
from ..series import InputError

NAMES = ("probe.json", "probe.csv", "probe.png", "probe.html")


@dataclass(frozen=True)
class Probing:
    """What one probe reads, runs and writes.

    scan      the scan
    out       folder
    program   NAME=COMMAND of another program; "" for a method of quell
    scans     with structures in them, each one run more; None: two, one where the method trains
    minutes   that a program has for one run
    force     write into a folder that is not empty
    """

    scan: Path
    out: Path
    program: str = ""
    mask: Path | None = None
    bval: Path | None = None
    bvec: Path | None = None
    phase: Path | None = None
    noise_in: Path | None = None
    scans: int | None = None
    minutes: float = 60.0
    force: bool = False

    def refuse(self) -> None:
        """Raise InputError for what can't be meant, and for a folder that must not be written."""
        if self.scans is not None and not 1 <= self.scans <= MOST_SCANS:
            raise InputError(f"--scans {self.scans} can't be; give 1 or {MOST_SCANS}", 2)
        if not self.minutes > 0:  # NaN fails too
            raise InputError(f"{self.minutes:g} minutes are none; give more than 0", 2)
        out = self.out
        if out.exists() and not out.is_dir():
            raise InputError(f"{out} is a file; give a folder", 2)
        refuse_place(out / NAMES[0] if out.exists() else out)
        if out.exists() and any(out.iterdir()) and not self.force:
            raise InputError(
                f"{out} is not empty; give --force to write into it, or another folder"
            )
