"""Many denoisers on one scan: run, judged alike, one table and one page.

The way: which contestants -> run each as a command of its own, unless it is done already -> judge
what it wrote, by a truth or a repeat -> table, page.

Results that are there already are judged the same way (`evaluating`).

Reading order: asked, folder, contestants, running, judging, probing, details, maps, callosum,
tracts, examining, evaluating, table, showing, drawing.
"""

from .asked import Comparison
from .contestants import Contestant, external, of_quell, quells_own
from .drawing import Figure, draw_files
from .evaluating import evaluate_files
from .examining import Evaluation
from .folder import compare_file
from .judging import Judge
from .table import Row, as_text

__all__ = [
    "Comparison",
    "Contestant",
    "Evaluation",
    "Figure",
    "Judge",
    "Row",
    "as_text",
    "compare_file",
    "draw_files",
    "evaluate_files",
    "external",
    "of_quell",
    "quells_own",
]
