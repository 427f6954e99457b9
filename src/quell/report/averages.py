"""Maps over many volumes, in which removed anatomy stands out of the noise, and maps of a method.

One pass over the volumes gives them all; no copy of the series is made.
"""

from dataclasses import dataclass

import numpy as np

from ..evaluate import shells
from ..evaluate.outliers import SliceResiduals, slice_residual
from ..evaluate.reference import finite
from . import figures
from .facts import ReportFacts
from .pictures import RESIDUAL_WINDOW, Map, number

MEAN_WINDOW = 4.0  # ± standard errors of an averaged residual


@dataclass(frozen=True, eq=False)
class Pass:
    """What one pass over the volumes gives; maps are (X, Y, Z)."""

    rms: np.ndarray  # of residual over σ, all volumes
    removed: np.ndarray  # rms of the residual, data units
    noise: np.ndarray  # rms of σ over the volumes, data units
    mean: np.ndarray  # of residual over σ in the highest shell, times √n
    n_averaged: int
    slices: SliceResiduals


def pass_over(facts: ReportFacts) -> Pass:
    """Look at every volume once."""
    V, grid = facts.n_volumes, facts.mask.shape
    group = shells(facts.bvals, V)[-1]
    members = set(group.tolist())
    squares, power, total, noise = (np.zeros(grid, dtype=np.float32) for _ in range(4))
    by_slice = []
    for v in range(V):
        sigma = facts.noise_of(v)
        removed = finite(facts.noisy[..., v] - facts.denoised[..., v])
        z = facts.removed(v)
        squares += z**2
        power += removed**2
        noise += sigma**2
        if v in members:
            total += z
        by_slice.append(slice_residual(z, facts.mask & (sigma > 0)))
    size, mean = (np.array(rows) for rows in zip(*by_slice, strict=True))
    return Pass(
        rms=np.where(noise > 0, np.sqrt(squares / V), 1.0),  # 1 is drawn black
        removed=np.sqrt(power / V),
        noise=np.sqrt(noise / V),
        mean=total / np.sqrt(len(group)),
        n_averaged=len(group),
        slices=SliceResiduals(size, mean),
    )


def average_maps(facts: ReportFacts, seen: Pass) -> list[Map]:
    """Residual and σ on one scale first, then what was removed again and again."""
    worst = int(np.argmax(facts.statistics.ratio_per_volume))
    window = 0.0, figures.window_of(seen.noise, facts.mask)[1]
    n, m, r = seen.n_averaged, MEAN_WINDOW, RESIDUAL_WINDOW
    of = ", rms over the volumes" if facts.sigma.ndim == 4 else ""
    return [
        Map("Removed", "Rms of before − after over all volumes, in the units of the scan, on "
            "the scale of the noise map beside it: the two should look alike, or this one a little "
            "darker.", seen.removed, window, "viridis", ""),
        Map("Noise map", f"σ, what the noise model says can be removed{of}.",
            seen.noise, window, "viridis", ""),
        Map("Removed over noise", "The first over the second: black is 1, as it should be; red is "
            "more than the noise, blue is noise left behind.",
            seen.rms, (0.0, 2.0), "berlin", "σ"),
        Map("Averaged", f"Mean of what was removed from {n} volumes × √{n}: noise stays as it is, "
            "what was always removed adds up. Even grain is right, plain grey too.",
            seen.mean, (-m, m), "gray", "σ"),
        Map("Largest residual", f"Volume {worst}, the one furthest from the noise.",
            facts.removed(worst), (-r, r), "gray", "σ"),
    ]  # fmt: skip


def own_maps(facts: ReportFacts, seen: Pass) -> list[Map]:
    """What the method says of its own result: how sure it is, and maps that it found."""
    found = []
    for title, series, says in (
        ("Uncertainty", facts.uncertainty, "How far the truth lies from the result, as the "
         "method's own derivative tells: sd, {}. What it blurs whatever the noise is not in it."),
        ("Spread", facts.spread, "How far samples of one volume lie apart: sd, {}. Bright is where "
         "the method guessed; noise that all samples kept is not in it."),
    ):  # fmt: skip
        if series is None:
            continue
        volumes = [v for v in range(facts.n_volumes) if series[..., v].any()]
        power = np.zeros(facts.mask.shape, dtype=np.float32)
        for v in volumes:
            power += series[..., v] ** 2
        sd = np.sqrt(power / max(1, len(volumes)))
        window = 0.0, figures.window_of(sd, facts.mask)[1]
        says = says.format(f"rms over {len(volumes)} volumes")
        says += f" The median is {_share(sd, seen.noise, facts.mask)} of σ."
        found.append(Map(title, says, sd, window, "viridis", ""))
    for name, values in facts.maps.items():
        window = 0.0, figures.window_of(values, facts.mask)[1]
        words = OWN.get(name, "")
        found.append(Map(f"{name.capitalize()} map", words, values, window, "viridis", ""))
    return found


OWN = {
    "noise": "The noise as the method itself found it, in the units of the scan.",
    "rank": "Components kept in the patches over a voxel: much signal, many components.",
}


def _share(spread: np.ndarray, sigma: np.ndarray, mask: np.ndarray) -> str:
    where = mask & (sigma > 0)
    return number(float(np.median(spread[where] / sigma[where]))) if where.any() else "–"
