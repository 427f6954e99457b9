"""Phase images: radians out of what scanners write, and complex data out of two files."""

from pathlib import Path

import numpy as np

from .scan import InputError

RADIANS_MAX = 2 * np.pi + 0.01  # rounding of integer files included
LEVELS = 4096  # of Siemens' phase images: 0 ... 4095, or twice that less 4096
FILLED = 0.95  # of their range: noise has every phase, so an image of them fills it


def radians(phase: np.ndarray, path: Path) -> np.ndarray:
    """A phase image in radians, from radians or from Siemens' units.

    phase  (X, Y, Z, V)  radians, or -4096 ... 4095, or 0 ... 4095

    Both scanner ranges mean -π ... π. Raises InputError for a range that is none of these.
    """
    if np.iscomplexobj(phase):
        raise InputError(f"phase {path} is complex; give its angle, or the complex file alone")
    low, high = float(phase.min()), float(phase.max())
    if max(-low, high) <= RADIANS_MAX:
        return phase
    if -LEVELS <= low <= -FILLED * LEVELS and FILLED * LEVELS <= high <= LEVELS:
        return phase * np.float32(np.pi / LEVELS)
    if 0 <= low <= (1 - FILLED) * LEVELS and FILLED * LEVELS <= high <= LEVELS:
        return phase * np.float32(2 * np.pi / LEVELS) - np.float32(np.pi)
    raise InputError(
        f"phase {path} runs from {low:g} to {high:g}, which is neither radians nor a scanner's "
        f"-{LEVELS} to {LEVELS - 1} or 0 to {LEVELS - 1}; convert it to radians"
    )


def complex_of(magnitude: np.ndarray, phase: np.ndarray, path: Path) -> np.ndarray:
    """Complex data (X, Y, Z, V) complex64.

    magnitude  (X, Y, Z, V)  any unit
    phase      (X, Y, Z, V)  radians

    Raises InputError for a magnitude that is complex or negative somewhere.
    """
    if np.iscomplexobj(magnitude):
        raise InputError(f"{path} is complex already; leave the phase out")
    if magnitude.min() < 0:
        raise InputError(f"{path} has negative values, so it is no magnitude; leave the phase out")
    data = np.empty(magnitude.shape, dtype=np.complex64)
    data.real, data.imag = magnitude * np.cos(phase), magnitude * np.sin(phase)
    return data
