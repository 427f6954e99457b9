"""Text on paper: how wide it gets, and how it is made to fit."""

from bisect import bisect

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

INCH, POINT = 25.4, 25.4 / 72  # mm
TEXT, SMALL = 7.0, 6.0  # points, of headings and of numbers
MOST_LETTERS = 200  # of a name; more never fit


def shortened(text: str, mm: float, size: float = TEXT, weight: str = "normal") -> str:
    """The text, its middle left out where it is wider than that."""
    if len(text) <= MOST_LETTERS and wide(text, size, weight) <= mm:
        return text
    most = range(1, min(len(text), MOST_LETTERS))
    kept = bisect(most, mm, key=lambda n: wide(_without_middle(text, n), size, weight))
    return _without_middle(text, kept) if kept else "…"


def _without_middle(text: str, kept: int) -> str:
    return text[: kept - kept // 2].rstrip() + "…" + text[len(text) - kept // 2 :].lstrip()


def wide(text: str, size: float = TEXT, weight: str = "normal") -> float:
    """mm that a text takes."""
    if not text:
        return 0.0
    outline = TextPath((0, 0), text, prop=FontProperties(size=size, weight=weight))
    return float(outline.get_extents().x1) * POINT
