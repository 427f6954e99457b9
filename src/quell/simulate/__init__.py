"""Scans with a known truth: a phantom or one's own, and the noise to put on it.

Reading order: phantom, corruption, coils, levels, study, source, simulated, writing.
"""

from .coils import Acquired, Acquisition, acquire, image_phase, sensitivities
from .corruption import corrupt, g_factor
from .levels import LEVELS, sigma_for
from .phantom import INSTANCES, Phantom, PhantomSettings, phantom
from .schemes import even_directions
from .simulated import Simulated, simulate
from .study import Amount, Study
from .writing import refuse_folder, write_folder

__all__ = [
    "INSTANCES",
    "LEVELS",
    "Acquired",
    "Acquisition",
    "Amount",
    "Phantom",
    "PhantomSettings",
    "Simulated",
    "Study",
    "acquire",
    "corrupt",
    "even_directions",
    "g_factor",
    "image_phase",
    "phantom",
    "refuse_folder",
    "sensitivities",
    "sigma_for",
    "simulate",
    "write_folder",
]
