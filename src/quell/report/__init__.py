"""Show a result: one page that says whether to trust it, and the drawings on it.

Reading order: page, figures, report.html.j2.
"""

from .figures import comparison_figure, planes, view_of
from .page import ReportFacts, write_report

__all__ = ["ReportFacts", "comparison_figure", "planes", "view_of", "write_report"]
