"""The charts of a figure for a paper: what every result removed, each in its own colour."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ..evaluate import shells
from ..evaluate.judgement import shell_name
from ..evaluate.spectrum import ResidualSpectrum
from .charts import draw_power
from .figures import LIGHT, add_legend, dress
from .lettering import SMALL, shortened

# apart for the colour-blind, too, and in the order in which results come (Okabe and Ito)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#a89c00")
NAME_MM = 34.0  # of a result in a legend


def draw_spectra(names: Sequence[str], spectra: Sequence[ResidualSpectrum], axes: Axes) -> None:
    """The power of what each result removed, beside the noise model's."""
    found = list(zip(_in_legend(names), spectra, strict=True))
    draw_power(axes, found, COLOURS, LIGHT, thick=1.0)
    dress(axes, LIGHT, SMALL)
    add_legend(axes, LIGHT, SMALL)


def draw_volumes(names: Sequence[str], ratios: Sequence[np.ndarray], axes: Axes) -> None:
    """The size of what each result removed, volume by volume.

    ratios  each (V,)  sd of the residual / σ
    """
    for name, ratio, colour in zip(_in_legend(names), ratios, COLOURS, strict=False):
        axes.plot(np.arange(ratio.size), ratio, "o", ms=2, color=colour, label=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("volume")
    _finish_ratios(ratios, axes)


def draw_shells(
    names: Sequence[str], ratios: Sequence[np.ndarray], bvals: np.ndarray, axes: Axes
) -> None:
    """The size of what each result removed, shell by shell: the rms over its volumes.

    ratios  each (V,)  sd of the residual / σ
    bvals   (V,)       s/mm²
    """
    groups, each = shells(bvals, bvals.size), 0.8 / len(ratios)
    at, heights = np.arange(len(groups)), [_by_shell(ratio, bvals) for ratio in ratios]
    for i, (name, height) in enumerate(zip(_in_legend(names), heights, strict=True)):
        place = at + (i - (len(ratios) - 1) / 2) * each
        axes.bar(place, height, 0.9 * each, color=COLOURS[i], label=name)
    axes.set_xticks(at, [shell_name(float(bvals[group].mean())) for group in groups])
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_xlabel("shell, s/mm²")
    _finish_ratios(heights, axes)


def _by_shell(ratio: np.ndarray, bvals: np.ndarray) -> np.ndarray:
    """(S,) rms of a (V,) ratio over the volumes of each shell."""
    return np.sqrt([np.mean(ratio[group] ** 2) for group in shells(bvals, bvals.size)])


def _finish_ratios(shown: Sequence[np.ndarray], axes: Axes) -> None:
    """A line where a residual is as large as the noise, and room for the legend."""
    axes.axhline(1, color=LIGHT.ink, lw=0.8, ls="--", zorder=1)
    highest = max(float(np.nanmax(values)) for values in shown)
    axes.set_ylim(0, 1.35 * max(1.0, highest))
    axes.set_ylabel("residual sd / σ")
    dress(axes, LIGHT, SMALL)
    add_legend(axes, LIGHT, SMALL)


def _in_legend(names: Sequence[str]) -> list[str]:
    """Short names; matplotlib would leave out one that begins with an underscore."""
    short = [shortened(name, NAME_MM, SMALL) for name in names]
    return [f" {name}" if name.startswith("_") else name for name in short]
