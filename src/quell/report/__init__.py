"""Show a result: one page that says whether to trust it, one that compares, and the drawings.

Reading order: page, figures, report.html.j2, comparison.
"""

from .comparison import ComparisonFacts, Tile, write_comparison
from .figures import comparison_figure, planes, view_of
from .page import ReportFacts, write_report

__all__ = [
    "ComparisonFacts",
    "ReportFacts",
    "Tile",
    "comparison_figure",
    "planes",
    "view_of",
    "write_comparison",
    "write_report",
]
