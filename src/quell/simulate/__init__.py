"""Scans with a known truth: a phantom, and the noise to put on it."""

from .corruption import corrupt, g_factor
from .phantom import INSTANCES, Phantom, PhantomSettings, phantom

__all__ = ["INSTANCES", "Phantom", "PhantomSettings", "corrupt", "g_factor", "phantom"]
