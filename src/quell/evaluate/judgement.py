"""One residual statistic in plain words: what was measured, what it should be, and a level."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVELS = ("good", "note", "warning", "error")  # from harmless to harmful


@dataclass(frozen=True)
class Judgement:
    """One statistic, judged."""

    code: str  # stable name, for programs
    title: str  # what was measured, in words
    level: str  # one of LEVELS
    measured: str
    expected: str
    sentence: str  # what it means here
    advice: str = ""  # what to do, empty when all is well
    is_remark: bool = False  # of a note: who uses the result has to know it


def level_of(value: float, limits: tuple[float, float]) -> str:
    """Level of a value that should be small; limits of a warning and of an error."""
    return "error" if value > limits[1] else "warning" if value > limits[0] else "good"


def shell_name(b: float) -> str:
    """A shell in words, from its mean b-value in s/mm² (NaN: no b-values known)."""
    if not np.isfinite(b):
        return "all volumes"
    return "b=0" if b <= 50 else f"b={round(b / 5) * 5:.0f}"


def volume_list(indices: Sequence[int] | np.ndarray, longest: int = 6) -> str:
    """Volumes by their number from 0, cut short."""
    names = ", ".join(str(int(i)) for i in indices[:longest])
    more = f" and {len(indices) - longest} more" if len(indices) > longest else ""
    return f"volume{'s' if len(indices) > 1 else ''} {names}{more}"
