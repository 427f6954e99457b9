"""Judge a result: with a reference, with a repeat, downstream, and from the residual alone.

Reading order: reference, repeats, recorruption, tensor, directions, residual, verdict.
"""

from .directions import shells
from .recorruption import Recorruption
from .reference import bias, psnr, rmse
from .repeats import RepeatScore, mse_over_variance, sigma_of_repeats
from .residual import ResidualStatistics, residual_statistics
from .tensor import TensorMaps, fa_error, md_error, tensor_maps, tensor_prediction
from .verdict import Judgement, headline, verdict

__all__ = [
    "Judgement",
    "Recorruption",
    "RepeatScore",
    "ResidualStatistics",
    "TensorMaps",
    "bias",
    "fa_error",
    "headline",
    "md_error",
    "mse_over_variance",
    "psnr",
    "residual_statistics",
    "rmse",
    "shells",
    "sigma_of_repeats",
    "tensor_maps",
    "tensor_prediction",
    "verdict",
]
