"""Methods: one paper, one short file; here the interface and the table of all of them.

A method is a frozen dataclass. Its fields are the paper's hyper-parameters, its class attributes
are its name, its paper and what it needs. A new method is one file, one line in METHODS, and one
test file; `tests/test_methods_contract.py` covers it from that day on.
"""

import math
from dataclasses import fields
from numbers import Integral, Real
from typing import (
    Any,
    ClassVar,
    Protocol,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    runtime_checkable,
)

import numpy as np

from ..noise import NoiseModel
from ..run import Run, State
from ..series import InputError, Series
from .c2s import Corruption2Self
from .ddm2 import Ddm2
from .difusion import DiFusion
from .joint import Joint
from .noise2noise import Noise2Noise
from .noise2void import Noise2Void
from .patch2self import Patch2Self
from .r2r import Recorrupted2Recorrupted


class Method(Protocol):
    """What every method offers; it opens no file, picks no device, rescales nothing."""

    name: ClassVar[str]
    paper: ClassVar[str]
    needs: ClassVar[str]  # in words
    summary: ClassVar[str]  # in words
    presets: ClassVar[dict[str, dict[str, Any]]]

    @property
    def units(self) -> str:
        """What it is given: "sigma" (noise 1 everywhere) or "scanner"."""

    def fit(self, scans: list[Series], noises: list[NoiseModel], run: Run) -> State:
        """Learn from noisy scans alone; tensors only."""

    def denoise(self, scan: Series, noise: NoiseModel, state: State, run: Run) -> np.ndarray:
        """(X, Y, Z, V) in the units it got."""


@runtime_checkable
class CanSample(Protocol):
    """A method that draws images from noise alone."""

    def sample(
        self, state: State, shape: tuple[int, ...], n: int, steps: int, run: Run
    ) -> np.ndarray:
        """n images (X, Y, n) in [-1, 1]."""


@runtime_checkable
class LearnsMany(Method, Protocol):
    """A method whose one network may learn from many scans, and be used on others."""

    learns_many: ClassVar[bool]


METHODS: dict[str, type[Method]] = {
    "joint": Joint,
    "patch2self": Patch2Self,
    "ddm2": Ddm2,
    "difusion": DiFusion,
    "noise2noise": Noise2Noise,
    "c2s": Corruption2Self,
    "r2r": Recorrupted2Recorrupted,
    "noise2void": Noise2Void,
}

DEFAULT = "joint"


def make(name: str, preset: str = "default", /, **settings: Any) -> Method:
    """A method with a preset's settings, some of them overridden.

    Raises InputError (status 2) for a method, preset or setting that does not exist, and for a
    value that does not fit the setting.
    """
    if name not in METHODS:
        raise InputError(f"method {name!r} is not known; choose from {', '.join(METHODS)}", 2)
    kind = METHODS[name]
    if preset not in kind.presets:
        there = ", ".join(kind.presets)
        raise InputError(f"{name} has no preset {preset!r}; choose from {there}", 2)
    known = {setting.name for setting in fields(cast(Any, kind))}  # class attributes are none
    for unknown in sorted(set(settings) - known):
        raise InputError(f"{name} has no setting {unknown!r}; it has {', '.join(sorted(known))}", 2)
    kinds = get_type_hints(kind)
    fitting = {key: _fitting(key, kinds[key], value) for key, value in settings.items()}
    return kind(**{**kind.presets[preset], **fitting})


IN_WORDS = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}


def _fitting(name: str, kind: Any, value: Any) -> Any:
    """A setting's value as its type, InputError (status 2) where it can't be: steps=abc."""
    if get_origin(kind) is tuple:
        items = value if isinstance(value, tuple | list) else (value,)
        return tuple(_fitting(name, get_args(kind)[0], item) for item in items)
    if kind is bool and value in ("true", "false"):
        return value == "true"
    is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    fits = {
        int: is_number and isinstance(value, Integral),
        float: is_number,
        str: isinstance(value, str),
        bool: isinstance(value, bool),
    }
    if not fits.get(kind, True):
        raise InputError(f"{name}={value} does not fit; {name} is {IN_WORDS[kind]}", 2)
    return kind(value) if kind in (int, float) else value
