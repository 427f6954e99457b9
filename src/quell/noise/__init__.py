"""What the noise of a scan is like: learned from the scan itself, drawn anew, said in words.

Reading order: model, components, maps, correlation, law, few_volumes, learning, clusters, words.
"""

from .clusters import Cluster, filtered_sd, find_clusters, put_back
from .components import (
    mean_and_covariance,
    n_noise_components,
    principal_components,
)
from .law import refuse_law
from .learning import learn
from .model import (
    ADDED,
    LAGS,
    NoiseModel,
    covary,
    draw,
    draw_like,
    power_spectrum,
    shuffled,
)
from .words import describe_noise, remarks

__all__ = [
    "ADDED",
    "LAGS",
    "Cluster",
    "NoiseModel",
    "covary",
    "describe_noise",
    "draw",
    "draw_like",
    "filtered_sd",
    "find_clusters",
    "learn",
    "mean_and_covariance",
    "n_noise_components",
    "power_spectrum",
    "principal_components",
    "put_back",
    "refuse_law",
    "remarks",
    "shuffled",
]
