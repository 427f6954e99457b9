"""Finding: one thing to know about a scan, in words."""

from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")  # gravest first


@dataclass(frozen=True)
class Finding:
    """One thing to know about a scan, and what to do about it."""

    code: str  # short and stable, e.g. "few-volumes"
    level: Level
    sentence: str  # what was seen, with the numbers
    advice: str  # what to do

    def to_dict(self) -> dict[str, str]:
        """Plain fields, for run.json and the report."""
        return asdict(self)


def error(code: str, sentence: str, advice: str) -> Finding:
    """The scan cannot be denoised as it is."""
    return Finding(code, "error", sentence, advice)


def warning(code: str, sentence: str, advice: str) -> Finding:
    """The result may mislead."""
    return Finding(code, "warning", sentence, advice)


def note(code: str, sentence: str, advice: str) -> Finding:
    """Good to know when reading the result."""
    return Finding(code, "note", sentence, advice)
