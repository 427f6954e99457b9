"""Methods: one paper, one short file; here the interface and the table of all of them.

A method is a frozen dataclass. Its fields are the paper's hyper-parameters, its class attributes
are its name, its paper and what it needs. A new method is one file, one line in METHODS, and one
test file; `tests/test_methods_contract.py` covers it from that day on. A method of another package
stands in that package's entry points, group "quell.methods", and is used like quell's own.
"""

import math
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
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
from ..series.scan import first_line
from .ascm import AdaptiveSoftMatching
from .c2s import Corruption2Self
from .ddm2 import Ddm2
from .deep_image_prior import DeepImagePrior
from .difusion import DiFusion
from .implicit_prior import ImplicitPrior
from .joint import Joint
from .mppca import MpPca
from .neighbor2neighbor import Neighbor2Neighbor
from .nlm import NonLocalMeans
from .noise2noise import Noise2Noise
from .noise2score import Noise2Score
from .noise2score_ip import Noise2ScoreIp
from .noise2self import Noise2Self
from .noise2void import Noise2Void
from .noisier2noise import Noisier2Noise
from .patch2self import Patch2Self
from .r2r import Recorrupted2Recorrupted
from .sure import Sure
from .sure_ip import SureIp
from .unsure import Unsure
from .wiener import Wiener


class Method(Protocol):
    """What every method offers; it opens no file, picks no device, rescales nothing."""

    name: ClassVar[str]
    paper: ClassVar[str]
    needs: ClassVar[str]  # in words; a method that wants many volumes has `best_volumes`, too
    summary: ClassVar[str]  # in words
    presets: ClassVar[dict[str, dict[str, Any]]]

    @property
    def units(self) -> str:
        """What it is given: "sigma" (noise 1 everywhere) or "scanner"."""

    @property
    def assumes_white(self) -> bool:
        """Whether the noise must not correlate between voxels: quell warns where it does."""

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


INTERFACE = ("name", "paper", "needs", "summary", "presets", "units", "assumes_white",
             "fit", "denoise")  # fmt: skip

METHODS: dict[str, type[Method]] = {
    "joint": Joint,
    "patch2self": Patch2Self,
    "mppca": MpPca,
    "ddm2": Ddm2,
    "difusion": DiFusion,
    "noise2noise": Noise2Noise,
    "c2s": Corruption2Self,
    "r2r": Recorrupted2Recorrupted,
    "noise2void": Noise2Void,
    "noise2self": Noise2Self,
    "neighbor2neighbor": Neighbor2Neighbor,
    "deep_image_prior": DeepImagePrior,
    "noisier2noise": Noisier2Noise,
    "noise2score": Noise2Score,
    "sure": Sure,
    "unsure": Unsure,
    "implicit_prior": ImplicitPrior,
    "noise2score_ip": Noise2ScoreIp,
    "sure_ip": SureIp,
    "nlm": NonLocalMeans,
    "ascm": AdaptiveSoftMatching,
    "wiener": Wiener,
}

DEFAULT = "joint"


@cache
def installed() -> dict[str, EntryPoint]:
    """The methods of other packages by name, not yet imported; quell's own names are its own."""
    return {point.name: point for point in entry_points(group="quell.methods")}


def names() -> list[str]:
    """Every method there is, quell's own first."""
    return [*METHODS, *sorted(installed().keys() - METHODS.keys())]


def find(name: str) -> type[Method]:
    """The class of a method.

    Raises InputError (status 2) for a method that does not exist or can't be imported.
    """
    if name in METHODS:
        return METHODS[name]
    if name not in installed():
        raise InputError(f"method {name!r} is not known; choose from {', '.join(names())}", 2)
    try:
        kind: type[Method] = installed()[name].load()
    except Exception as error:  # another package's code may fail in any way
        raise InputError(
            f"method {name} is installed but can't be used ({first_line(error)}); mend its package",
            2,
        ) from error
    missing = [part for part in INTERFACE if not hasattr(kind, part)]
    if missing:
        raise InputError(f"method {name} is installed but lacks {', '.join(missing)}", 2)
    if not is_dataclass(kind) or "default" not in kind.presets:
        raise InputError(
            f"method {name} is installed but is no dataclass with a preset 'default'; mend it", 2
        )
    return kind


def trains(method: Method) -> bool:
    """Whether it learns from the scan in the steps of a training, which take their time."""
    return bool(getattr(method, "steps", 0))


def make(name: str, preset: str = "default", /, **settings: Any) -> Method:
    """A method with a preset's settings, some of them overridden.

    Raises InputError (status 2) for a method, preset or setting that does not exist, and for a
    value that does not fit the setting.
    """
    kind = find(name)
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
