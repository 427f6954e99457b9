"""What is scanned with a known truth, and the noise to put on it: a phantom, laws, coils.

Reading order: phantom, anatomy, fibres, schemes, corruption, coils.
"""

from .anatomy import PhantomSettings
from .coils import Acquired, Acquisition, acquire, image_phase, sensitivities
from .corruption import corrupt, g_factor
from .phantom import INSTANCES, Phantom, phantom
from .schemes import even_directions

__all__ = [
    "INSTANCES",
    "Acquired",
    "Acquisition",
    "Phantom",
    "PhantomSettings",
    "acquire",
    "corrupt",
    "even_directions",
    "g_factor",
    "image_phase",
    "phantom",
    "sensitivities",
]
