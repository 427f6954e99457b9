"""R² of held-out directions, drawn: every voxel against the noisy scan's, and the signal of one.

Paper   Di-Fusion, ICLR 2025, figure 5; Fadnavis et al., Patch2Self, NeurIPS 2020, figure 4.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from ..evaluate import Prediction
from .comparison import Picture, Section
from .figures import Theme, png, scatter_axes

BINS = 60  # of R², along either side
SHOWN = 99.0  # percentile of a bin's voxels that has the full colour


def prediction_section(model: str, predictions: Mapping[str, Prediction], noisy: str) -> Section:
    """One drawing for each result: R² of its voxels beside the scan's, and one voxel's signal.

    predictions  of every result, the noisy scan's among them under the name `noisy`
    """
    x, y, z = predictions[noisy].voxel
    of_scan = predictions[noisy]
    pictures = []
    for name, prediction in predictions.items():
        median = float(np.median(prediction.r2[prediction.r2 > 0])) if prediction.r2.any() else 0.0
        draw = partial(prediction_chart, of_scan, prediction)
        pictures.append(Picture.themed(name, f"median R² {median:.3f} where above 0", draw))
    return Section(
        f"How well {model.upper()} predicts directions that it has not seen",
        "Left: R² in every voxel against that of the noisy scan; above the diagonal the result "
        "predicts the measured signal better. Right: the measured signal of held-out directions "
        f"in voxel {x}, {y}, {z} against the prediction. What is predicted is the noisy scan as it "
        "was measured, so no result reaches 1.",
        pictures,
    )


def prediction_chart(before: Prediction, after: Prediction, theme: Theme) -> bytes:
    """Two panels: R² of all voxels before and after, and predicted against measured signal."""
    figure, (left, right) = scatter_axes(theme, 2)
    where = (before.r2 > 0) | (after.r2 > 0)
    counts, edges, _ = np.histogram2d(
        before.r2[where], after.r2[where], BINS, range=((0, 1), (0, 1))
    )
    filled = np.ma.masked_equal(counts.T, 0)
    most = float(np.percentile(counts[counts > 0], SHOWN)) if counts.any() else 1.0
    left.pcolormesh(edges, edges, filled, cmap="viridis", vmin=0, vmax=most)
    left.plot([0, 1], [0, 1], color=theme.ink, lw=1, ls="--")
    left.set_xlabel("R² of the noisy scan")
    left.set_ylabel("R² of the result")
    right.plot(after.predicted, after.measured, "o", ms=3.5, color=theme.after)
    top = 1.05 * float(max(after.predicted.max(), after.measured.max(), 1e-9))
    right.plot([0, top], [0, top], color=theme.ink, lw=1, ls="--")
    right.set_xlim(0, top)
    right.set_ylim(0, top)
    right.set_xlabel("predicted signal")
    right.set_ylabel("measured signal")
    return png(figure)
