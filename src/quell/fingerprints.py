"""Fingerprints: a few letters that change with a scan, or with all that a result depends on."""

import zlib
from collections.abc import Iterable
from hashlib import sha256
from importlib.metadata import version

import numpy as np

from .methods import Method
from .noise import NoiseModel
from .run import Run
from .series import Series


def checksum(arrays: Iterable[np.ndarray]) -> int:
    """A number that changes with any value of some arrays."""
    crc = 0
    for array in arrays:
        crc = zlib.crc32(np.ascontiguousarray(array).tobytes(), crc)
    return crc


def fingerprint_of_scan(scan: Series) -> str:
    """Twelve letters that change with the scan's values or its b-values."""
    crc = checksum([*scan.data, *(() if scan.bvals is None else (scan.bvals,))])
    return sha256(f"{crc}/{scan.data.shape}".encode()).hexdigest()[:12]


def fingerprint(scan: Series, method: Method, noise: NoiseModel, run: Run) -> str:
    """Twelve letters that change with the scan, the noise, the method's settings or the seed."""
    beside = (scan.contrasts, scan.bvals, scan.bvecs, scan.parts)
    known = [array for array in beside if array is not None]
    crc = checksum([*scan.data, noise.covariance, scan.where, *known])
    words = f"{crc}/{scan.fourth_axis}/{method!r}/{run.seed}/{run.device.type}/{version('quell')}"
    return sha256(words.encode()).hexdigest()[:12]
