"""Which volumes and slices the report shows, and their pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..evaluate import shells
from ..evaluate.judgement import shell_name
from ..evaluate.outliers import Outlier
from . import figures
from .facts import ReportFacts
from .pictures import RESIDUAL_WINDOW, image_of, number

MOST_OUTLIERS = 3  # pictures of slices that stand out


def volumes_to_show(facts: ReportFacts) -> dict[str, int]:
    """A typical volume of the highest shell, and the first b=0, by what to call them.

    Typical is the volume whose residual is the median of its shell, so that the picture neither
    flatters nor slanders; the volumes that stand out are shown apart.
    """
    groups = shells(facts.bvals, facts.n_volumes)
    ratio = facts.statistics.ratio_per_volume
    chosen: dict[str, int] = {}
    for group in (groups[-1], groups[0]):
        typical = int(group[np.argsort(ratio[group])[len(group) // 2]])
        name = f"volume {typical}"
        if facts.bvals is not None:
            name = f"{shell_name(float(facts.bvals[typical]))}, {name}"
        chosen[name] = typical
    return chosen


def pictures(facts: ReportFacts, view: figures.View) -> list[dict[str, Any]]:
    """Before, after and residual of each shown volume, in three planes and one large one."""
    found: list[dict[str, Any]] = []
    for name, v in volumes_to_show(facts).items():
        window = figures.window_of(facts.denoised[..., v], facts.mask)
        entry: dict[str, Any] = {
            "name": name,
            "volume": v,
            "limits": window,
            "window": f"{number(window[0])} to {number(window[1])}",
        }
        for key, volume, shown in _three(facts, v, window):
            entry[key] = image_of(figures.planes(volume, view, shown))
            if not found:  # the first volume opens the page
                large = figures.planes(volume, view, shown, width=600, names=("axial",))
                entry[f"large_{key}"] = image_of(large)
        found.append(entry)
    return found


def outlier_pictures(
    facts: ReportFacts, view: figures.View, found: Sequence[Outlier]
) -> list[dict[str, str]]:
    """The worst slices before, after and removed, side by side in the plane they were taken in."""
    turned = int(figures.orientation_of(facts.affine)[2, 0])
    plane = ("sagittal", "coronal", "axial")[turned]
    shown = []
    for outlier in found[:MOST_OUTLIERS]:
        v = outlier.volume
        z = outlier.slices[len(outlier.slices) // 2]
        x, y, _ = view.centre
        across = figures.View(view.affine, (x, y, z), (*view.box[:2], slice(None)))
        window = figures.window_of(facts.denoised[..., v], facts.mask)
        _, volumes, windows = zip(*_three(facts, v, window), strict=True)
        drawn = figures.comparison_figure(
            volumes, across, windows, ["before", "after", "removed"], ["gray"] * 3, 260, (plane,)
        )
        shown.append({"image": image_of(drawn), "name": f"Volume {v}, slice {z}"})
    return shown


def _three(
    facts: ReportFacts, v: int, window: tuple[float, float]
) -> tuple[tuple[str, np.ndarray, tuple[float, float]], ...]:
    """Name, volume and window of what is seen of a volume."""
    return (
        ("before", facts.noisy[..., v], window),
        ("after", facts.denoised[..., v], window),
        ("residual", facts.removed(v), (-RESIDUAL_WINDOW, RESIDUAL_WINDOW)),
    )
