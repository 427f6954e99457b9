"""quell: MRI denoising that learns from the noisy scan itself.

    scan = quell.load("dwi.nii.gz")
    result = quell.denoise(scan)
    result.denoised, result.noise_map, result.residual

Reading order: pipeline, series, checks, scaling, noise, slices, unet, trainer, schedule, methods,
evaluate, report.
"""

from importlib.metadata import version

from .methods import METHODS
from .pipeline import Options, Result, denoise
from .series import InputError, Series, load

__version__ = version("quell")

__all__ = ["InputError", "METHODS", "Options", "Result", "Series", "denoise", "load"]
