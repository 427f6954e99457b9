"""Show a result: one page that says whether to trust it, one that compares, and the drawings.

Reading order: facts, page, summary, shown, averages, tensors, browse, charts, pictures, figures,
report.html.j2, browse.js, comparison, cohort, maps, predictions, bundle, tracts; for a paper
lettering, paper, panels, curves, rows; probe.
"""

from .cohort import CohortFacts, CohortRow, write_cohort
from .comparison import ComparisonFacts, Picture, Section, Tile, write_comparison
from .facts import ReportFacts
from .figures import PLANES, axis_through, comparison_figure, planes, view_of
from .maps import anisotropy_section, axial_slice
from .page import write_report
from .panels import NEED_SIGMA, PANELS, PaperFacts
from .paper import refuse_size, write_sheet
from .predictions import prediction_section
from .probe import ProbeFacts, Shown, write_probe
from .rows import sheet_of
from .tracts import bundle_section

__all__ = [
    "CohortFacts",
    "CohortRow",
    "ComparisonFacts",
    "Picture",
    "ReportFacts",
    "Section",
    "Tile",
    "anisotropy_section",
    "axial_slice",
    "axis_through",
    "bundle_section",
    "comparison_figure",
    "planes",
    "prediction_section",
    "view_of",
    "write_cohort",
    "write_comparison",
    "write_probe",
    "write_report",
    "NEED_SIGMA",
    "PANELS",
    "PLANES",
    "PaperFacts",
    "ProbeFacts",
    "Shown",
    "refuse_size",
    "sheet_of",
    "write_sheet",
]
