"""quell: MRI denoising that learns from the noisy scan itself.

    scan = quell.load("dwi.nii.gz")
    result = quell.denoise(scan)
    result.denoised, result.noise_map, result.residual

Reading order: pipeline, options, series, checks, scaling, noise, slices, unet, trainer, schedule,
methods, evaluate, report.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .methods import METHODS
    from .options import Options
    from .pipeline import Result, denoise
    from .series import InputError, Series, load

    __version__: str

__all__ = ["InputError", "METHODS", "Options", "Result", "Series", "denoise", "load"]

PLACES = {
    "METHODS": "methods",
    "Options": "options",
    "Result": "pipeline",
    "denoise": "pipeline",
    "InputError": "series",
    "Series": "series",
    "load": "series",
}


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used: torch alone takes a second.

    The version, too, is asked for when it is needed: the source alone, not installed, has none.
    """
    if name == "__version__":
        return version("quell")
    if name not in PLACES:
        raise AttributeError(f"module 'quell' has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *PLACES, "__version__"])
