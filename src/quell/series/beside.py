"""Beside: the text files of a scan, FSL gradients and the BIDS sidecar."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from .scan import B0_MAX, InputError, first_line, stem

DEEPEST = 64  # levels of a json; BIDS has three or four


def beside(path: Path, kind: str, n_volumes: int) -> Path | None:
    """The gradient file of `kind` ("bval" or "bvec") that belongs to the scan, if there is one."""
    own = stem(path)
    for ending in (f".{kind}", f".{kind}s"):
        if (found := own.with_name(own.name + ending)).is_file():
            return found
    shared = [p for name in (kind, f"{kind}s") if (p := path.parent / name).is_file()]
    if len(shared) != 1:
        return None
    n_numbers = n_volumes * (1 if kind == "bval" else 3)
    is_own = _read_numbers(shared[0]).size == n_numbers  # a folder's file may be another scan's
    return shared[0] if is_own else None


def _read_numbers(path: Path) -> np.ndarray:
    """(rows, columns) of a text file of numbers, split by blanks, tabs or commas."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; check the path")
    try:
        lines = path.read_text(encoding="utf-8-sig").replace(",", " ").splitlines()
        rows = [[float(word) for word in line.split()] for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is not a text file of numbers ({first_line(error)}); give FSL bval and bvec"
        ) from error
    if not rows or len({len(row) for row in rows}) != 1:
        raise InputError(f"{path} has no rows, or rows of unequal length; give FSL bval and bvec")
    return np.array(rows)


def read_bvals(path: Path, n_volumes: int) -> np.ndarray:
    """(V,) s/mm², written as a row or a column."""
    bvals = _read_numbers(path)
    if 1 not in bvals.shape or bvals.size != n_volumes:
        raise InputError(
            f"{path} holds {bvals.size} b-values and the scan {n_volumes} volumes; "
            "give the file of this scan"
        )
    if not np.all(np.isfinite(bvals)) or bvals.min() < 0:
        raise InputError(f"{path} holds a b-value that is negative or not a number; correct it")
    return bvals.ravel()


def read_bvecs(path: Path, n_volumes: int, bvals: np.ndarray | None) -> np.ndarray:
    """(V, 3) directions, written 3 x V or V x 3; b0 volumes have none and get zeros."""
    bvecs = _read_numbers(path)
    if bvecs.shape == (3, n_volumes):
        bvecs = bvecs.T
    if bvecs.shape != (n_volumes, 3):
        rows, columns = bvecs.shape
        raise InputError(
            f"{path} is {rows} x {columns} and the scan has {n_volumes} volumes; "
            f"3 x {n_volumes} is needed: give the file of this scan"
        )
    if bvals is not None:
        bvecs = np.where((bvals <= B0_MAX)[:, None], 0.0, bvecs)
    if not np.all(np.isfinite(bvecs)):
        raise InputError(f"{path} holds a direction that is not a number; correct it")
    return bvecs


def read_json(path: Path) -> Any:
    """What a json says; what is no finite float (NaN, Infinity, 1e999, 400 digits) is null.

    Raises OSError for what is no file, ValueError or RecursionError for what is no JSON.
    """
    if not path.is_file():  # a pipe would be waited for, and a device may have no end
        raise OSError(f"{path.name} is no file")
    text = path.read_text(encoding="utf-8-sig")
    known: Any = {"parse_int": _finite, "parse_float": _finite, "parse_constant": lambda _: None}
    said = json.loads(text, **known)
    level = [said]
    for _ in range(DEEPEST):
        level = [v for x in level for v in _inside(x)]
    if level:  # what is read has to be written, too
        raise ValueError(f"it is nested more than {DEEPEST} deep")
    return said


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _finite(digits: str) -> float | None:
    if not math.isfinite(number := float(digits)):
        return None
    return int(digits) if digits.lstrip("-").isdecimal() else number


def read_sidecar(path: Path) -> dict[str, Any]:
    """The json beside the scan, {} if there is none."""
    if not path.is_file():
        return {}
    try:
        sidecar = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not readable JSON ({first_line(error)}); correct it or move it away"
        ) from error
    if not isinstance(sidecar, dict):
        raise InputError(f"{path} is not a BIDS sidecar (an object with keys); move it away")
    return sidecar
