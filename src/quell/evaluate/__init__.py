"""Judge a result: with a reference, with a repeat, downstream, and from the residual alone.

Reading order: reference, published, repeats, recorruption, tensor, crossvalidation, directions,
residual, verdict.
"""

from .crossvalidation import cross_validated_r2, of_own
from .directions import shells
from .published import difusion_scores
from .recorruption import Recorruption
from .reference import bias, nrmse, psnr, range_of, rmse, ssim
from .repeats import RepeatScore, mse_over_variance, sigma_of_repeats
from .residual import ResidualStatistics, residual_statistics
from .tensor import (
    TensorMaps,
    direction_error,
    fa_error,
    map_scores,
    md_error,
    tensor_maps,
    tensor_prediction,
)
from .verdict import Judgement, headline, verdict

__all__ = [
    "Judgement",
    "Recorruption",
    "RepeatScore",
    "ResidualStatistics",
    "TensorMaps",
    "bias",
    "cross_validated_r2",
    "difusion_scores",
    "direction_error",
    "fa_error",
    "headline",
    "map_scores",
    "md_error",
    "mse_over_variance",
    "nrmse",
    "of_own",
    "psnr",
    "range_of",
    "residual_statistics",
    "rmse",
    "shells",
    "sigma_of_repeats",
    "ssim",
    "tensor_maps",
    "tensor_prediction",
    "verdict",
]
