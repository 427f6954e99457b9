"""Simulated scans with their truth: what is asked, what is scanned, how noisy, what is written.

Reading order: study, source, levels, simulated, writing.
"""

from .levels import LEVELS, sigma_for
from .simulated import Simulated, simulate
from .study import Amount, Study
from .writing import refuse_folder, write_folder

__all__ = [
    "LEVELS",
    "Amount",
    "Simulated",
    "Study",
    "refuse_folder",
    "sigma_for",
    "simulate",
    "write_folder",
]
