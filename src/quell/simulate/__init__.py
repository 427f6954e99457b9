"""Scans with a known truth: a phantom, and the noise to put on it."""

from .corruption import corrupt, g_factor
from .phantom import INSTANCES, Phantom, PhantomSettings, phantom
from .schemes import even_directions

__all__ = [
    "INSTANCES",
    "Phantom",
    "PhantomSettings",
    "corrupt",
    "even_directions",
    "g_factor",
    "phantom",
]
