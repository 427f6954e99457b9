"""Finding: one thing to know about a scan, in words."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")  # gravest first


@dataclass(frozen=True)
class Finding:
    """One thing to know about a scan, and what to do about it.

    code      short and stable, e.g. "few-volumes"
    sentence  what was seen, with the numbers
    advice    what to do
    is_fault  whether data are damaged or mislabelled: no result is right before that is looked at
    slices    (volume, slice) of each slice that it speaks of, counted from 0
    """

    code: str
    level: Level
    sentence: str
    advice: str
    is_fault: bool = False
    slices: tuple[tuple[int, int], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain fields, for the sidecar and the report."""
        return asdict(self)


def error(code: str, sentence: str, advice: str) -> Finding:
    """The scan cannot be denoised as it is."""
    return Finding(code, "error", sentence, advice, is_fault=True)


def fault(
    code: str, sentence: str, advice: str, slices: tuple[tuple[int, int], ...] = ()
) -> Finding:
    """Data are damaged or mislabelled: look before the result is used."""
    return Finding(code, "warning", sentence, advice, is_fault=True, slices=slices)


def warning(code: str, sentence: str, advice: str) -> Finding:
    """The result is less than it could be, or may mislead."""
    return Finding(code, "warning", sentence, advice)


def note(code: str, sentence: str, advice: str) -> Finding:
    """Good to know about the scan; nothing has to be done."""
    return Finding(code, "note", sentence, advice)
