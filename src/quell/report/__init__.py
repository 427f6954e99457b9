"""Show a result: one page that says whether to trust it, one that compares, and the drawings.

Reading order: facts, page, summary, shown, averages, tensors, browse, charts, pictures, figures,
report.html.j2, browse.js, comparison, cohort, maps, predictions, bundle, tracts.
"""

from .cohort import CohortFacts, CohortRow, write_cohort
from .comparison import ComparisonFacts, Picture, Section, Tile, write_comparison
from .facts import ReportFacts
from .figures import comparison_figure, planes, view_of
from .maps import anisotropy_section, axial_slice
from .page import write_report
from .predictions import prediction_section
from .tracts import bundle_section

__all__ = [
    "anisotropy_section",
    "axial_slice",
    "bundle_section",
    "CohortFacts",
    "CohortRow",
    "ComparisonFacts",
    "Picture",
    "ReportFacts",
    "Section",
    "Tile",
    "comparison_figure",
    "planes",
    "prediction_section",
    "view_of",
    "write_cohort",
    "write_comparison",
    "write_report",
]
