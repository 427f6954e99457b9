"""Judge a result: with a reference, with a repeat, downstream, and from the residual alone.

Reading order: reference, published, repeats, recorruption, tensor, kurtosis, snr,
crossvalidation, coherence,
tractography, regions, directions, outliers, residual, judgement, places, verdict, headline.
"""

from .crossvalidation import Prediction, cross_validate
from .directions import shells
from .headline import Reason, Verdict, headline
from .judgement import Judgement
from .kurtosis import KurtosisMaps
from .published import c2s_scores, ddm2_snr, difusion_scores
from .recorruption import Recorruption
from .reference import bias, nrmse, psnr, range_of, rmse, ssim
from .regions import read_regions
from .repeats import RepeatScore, mse_over_variance, sigma_of_repeats
from .residual import ResidualStatistics, residual_statistics
from .snr import (
    Change,
    air_around,
    change_of,
    corpus_callosum,
    flattened,
    snr_of_air,
    snr_of_errors,
    weighted_volumes,
)
from .tensor import (
    TensorMaps,
    direction_error,
    fa_error,
    map_scores,
    md_error,
    tensor_maps,
    tensor_prediction,
)
from .tractography import Bundle, coherence_scores, fibre_bundle, tract_response
from .verdict import verdict

__all__ = [
    "Bundle",
    "coherence_scores",
    "fibre_bundle",
    "read_regions",
    "tract_response",
    "Change",
    "air_around",
    "c2s_scores",
    "change_of",
    "corpus_callosum",
    "ddm2_snr",
    "flattened",
    "snr_of_air",
    "snr_of_errors",
    "weighted_volumes",
    "Judgement",
    "KurtosisMaps",
    "Reason",
    "Recorruption",
    "RepeatScore",
    "ResidualStatistics",
    "TensorMaps",
    "Verdict",
    "bias",
    "Prediction",
    "cross_validate",
    "difusion_scores",
    "direction_error",
    "fa_error",
    "headline",
    "map_scores",
    "md_error",
    "mse_over_variance",
    "nrmse",
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
