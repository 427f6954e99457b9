"""Text on paper: how wide it gets, and how it is made to fit."""

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

INCH, POINT = 25.4, 25.4 / 72  # mm
TEXT, SMALL = 7.0, 6.0  # points, of headings and of numbers


def shortened(text: str, mm: float, size: float = TEXT, weight: str = "normal") -> str:
    """The text, its middle left out where it is wider than that."""
    if wide(text, size, weight) <= mm:
        return text
    for kept in range(min(len(text), 200) - 1, 0, -1):
        tried = text[: kept - kept // 2].rstrip() + "…" + text[len(text) - kept // 2 :].lstrip()
        if wide(tried, size, weight) <= mm:
            return tried
    return "…"


def wide(text: str, size: float = TEXT, weight: str = "normal") -> float:
    """mm that a text takes."""
    if not text:
        return 0.0
    outline = TextPath((0, 0), text, prop=FontProperties(size=size, weight=weight))
    return float(outline.get_extents().x1) * POINT
