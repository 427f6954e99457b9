"""The charts of the report, as PNG bytes, each in the theme that it is given."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..evaluate import shells
from ..evaluate.judgement import shell_name
from ..evaluate.places import VOLUME_RATIO
from ..evaluate.spectrum import ResidualSpectrum, residual_spectrum
from .facts import ReportFacts
from .figures import DARK, DPI, LIGHT, Theme, add_legend, chart_axes, dress, png
from .pictures import image_of

STACKED = 5.2, 3.6  # inches, of two panels one below the other
ROOM = {"left": 0.14, "right": 0.98, "top": 0.97, "bottom": 0.14, "hspace": 0.16}
MOST_BARS = 40  # of a histogram of steps


def charts(facts: ReportFacts) -> dict[str, dict[str, str]]:
    """Charts in both themes; a key is missing when there is nothing to draw."""
    s = facts.statistics
    drawings: dict[str, Callable[[Theme], bytes]] = {
        "volumes": lambda theme: volume_chart(
            s.signal_before, s.signal_after, s.ratio_per_volume, VOLUME_RATIO, theme
        ),
        "shells": lambda theme: shell_chart(facts, theme),
        "autocorrelation": lambda theme: autocorrelation_chart(
            s.autocorrelation, s.autocorrelation_expected, theme
        ),
    }
    power = residual_spectrum(
        facts.noisy, facts.denoised, facts.sigma, facts.mask, facts.covariance
    )
    if power is not None:
        drawings["power"] = lambda theme: power_chart(power, theme)
    if np.isfinite(np.asarray(facts.losses, dtype=float)).any():
        drawings["loss"] = lambda theme: loss_chart(facts.losses, theme)
    if len(facts.distances) > 1:
        drawings["distance"] = lambda theme: distance_chart(facts.distances, theme)
    if any(np.size(values) for values in facts.steps.values()):
        drawings["steps"] = lambda theme: steps_chart(facts, theme)
    if facts.eigenvalues is not None and len(facts.eigenvalues):
        values = facts.eigenvalues
        drawings["spectrum"] = lambda theme: spectrum_chart(values, facts.noise_edge, theme)
    return {
        key: {"light": image_of(draw(LIGHT)), "dark": image_of(draw(DARK))}
        for key, draw in drawings.items()
    }


def loss_chart(losses: Sequence[float], theme: Theme) -> bytes:
    """Training loss over the recorded steps, with its running median."""
    values = np.asarray(losses, dtype=float)
    figure, axes = chart_axes(theme, 2.6)
    steps = np.arange(1, values.size + 1)
    span = max(1, values.size // 50)
    smooth = [np.nanmedian(values[max(0, i - span) : i + span + 1]) for i in range(values.size)]
    marker = "o" if values.size < 3 else ""
    axes.plot(steps, values, color=theme.before, lw=0.8, alpha=0.6, marker=marker, label="loss")
    axes.plot(steps, smooth, color=theme.after, lw=1.8, label="running median")
    if np.nanmin(values) > 0 and np.nanmax(values) > 10 * np.nanmin(values):
        axes.set_yscale("log")
    axes.set_xlabel("recorded step")
    axes.set_ylabel("loss")
    add_legend(axes, theme)
    return png(figure)


def distance_chart(distances: Sequence[float], theme: Theme) -> bytes:
    """Distance of the estimate from the input along a chain: stopping later is smoother."""
    figure, axes = chart_axes(theme, 2.6)
    axes.plot(range(1, len(distances) + 1), distances, color=theme.after, lw=1.8, marker="o", ms=3)
    axes.set_xlabel("step of the chain")
    axes.set_ylabel("rms from the input")
    return png(figure)


def autocorrelation_chart(measured: np.ndarray, expected: np.ndarray, theme: Theme) -> bytes:
    """Autocorrelation at one voxel along x, y, z: the residual's beside the noise model's.

    measured, expected  (3,)
    """
    figure, axes = chart_axes(theme, 2.6)
    at = np.arange(3)
    axes.axhline(0, color=theme.ink, lw=0.8)
    axes.bar(at - 0.19, expected, 0.36, color=theme.before, label="noise model")
    axes.bar(at + 0.19, measured, 0.36, color=theme.after, label="residual")
    values = np.nan_to_num(np.concatenate([measured, expected, [0.0]]))
    axes.set_ylim(min(-0.1, values.min() - 0.1), max(0.4, values.max() + 0.15))
    axes.set_xticks(at, ["x", "y", "z"])
    axes.set_ylabel("correlation of neighbours")
    add_legend(axes, theme)
    return png(figure)


def volume_chart(
    before: np.ndarray, after: np.ndarray, ratio: np.ndarray, limit: float, theme: Theme
) -> bytes:
    """Volume by volume: mean signal before and after, and the residual's size over the noise.

    before, after  (V,)    mean signal in the mask, data units
    ratio          (V,)    sd of residual / σ
    limit          scalar  volumes with a ratio above it are drawn in the alarm colour
    """
    figure = Figure(figsize=STACKED, dpi=1.5 * DPI, facecolor=theme.paper)
    upper, lower = figure.subplots(2, 1, sharex=True)
    index = np.arange(before.size)
    upper.plot(index, before, "o", ms=6, mfc="none", color=theme.before, label="before")
    upper.plot(index, after, "o", ms=3, color=theme.after, label="after")
    upper.set_ylim(bottom=min(0.0, float(np.min([before, after]))))
    upper.set_ylabel("mean signal")
    colours = np.where(ratio > limit, theme.alarm, theme.after)
    lower.axhline(1, color=theme.ink, lw=1, ls="--")
    lower.bar(index, ratio, 0.7, color=colours.tolist())
    lower.set_ylim(0, max(1.3, 1.1 * float(np.nanmax(ratio))))
    lower.set_ylabel("residual sd / σ")
    lower.set_xlabel("volume")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (upper, lower):
        dress(axes, theme)
    add_legend(upper, theme)
    figure.subplots_adjust(**ROOM)
    return png(figure)


def shell_chart(facts: ReportFacts, theme: Theme) -> bytes:
    """Shell by shell: mean signal before and after, and the residual's size over the noise."""
    s, groups = facts.statistics, shells(facts.bvals, facts.n_volumes)
    names = [
        f"{shell_name(float(b))}\n{n} vol."
        for b, n in zip(s.shell_bvals, s.shell_sizes, strict=True)
    ]
    before, after = (
        np.array([values[group].mean() for group in groups])
        for values in (s.signal_before, s.signal_after)
    )
    ratio = np.sqrt([np.mean(s.ratio_per_volume[group] ** 2) for group in groups])
    figure = Figure(figsize=STACKED, dpi=1.5 * DPI, facecolor=theme.paper)
    upper, lower = figure.subplots(2, 1, sharex=True)
    at = np.arange(len(groups))
    upper.bar(at - 0.19, before, 0.36, color=theme.before, label="before")
    upper.bar(at + 0.19, after, 0.36, color=theme.after, label="after")
    upper.set_ylabel("mean signal")
    upper.set_ylim(0, 1.25 * max(float(np.nanmax([before, after])), 1e-9))  # room for the legend
    lower.axhline(1, color=theme.ink, lw=1, ls="--")
    colours = np.where(ratio > VOLUME_RATIO, theme.alarm, theme.after)
    lower.bar(at, ratio, 0.5, color=colours.tolist())
    lower.set_ylim(0, max(1.3, 1.1 * float(np.nanmax(ratio))))
    lower.set_ylabel("residual sd / σ")
    for axes in (upper, lower):
        dress(axes, theme)
        axes.set_xticks(at, names)
        axes.set_xlim(-1, len(groups))
    add_legend(upper, theme)
    figure.subplots_adjust(**ROOM)
    return png(figure)


def power_chart(power: ResidualSpectrum, theme: Theme) -> bytes:
    """The residual's power over spatial frequency, beside the noise model's."""
    figure, axes = chart_axes(theme, 2.6)
    draw_power(axes, [("residual", power)], (theme.after,), theme)
    add_legend(axes, theme)
    return png(figure)


def draw_power(
    axes: Axes,
    found: Sequence[tuple[str, ResidualSpectrum]],
    colours: Sequence[str],
    theme: Theme,
    thick: float = 1.8,
) -> None:
    """The power of residuals, a line each, over the broad line of the noise model they share.

    thick  points
    """
    first = found[0][1]
    width = 2.2 * thick
    axes.plot(first.frequency, first.expected, color=theme.before, lw=width, label="noise model")
    for (name, power), colour in zip(found, colours, strict=False):
        axes.plot(power.frequency, power.measured, color=colour, lw=thick, label=name)
    highest = max(float(max(p.expected.max(), p.measured.max())) for _, p in found)
    axes.set_ylim(0, 1.3 * highest)
    axes.set_xlim(0, 0.5)
    axes.set_xlabel("spatial frequency, cycles per voxel")
    axes.set_ylabel("power / σ²")


def steps_chart(facts: ReportFacts, theme: Theme) -> bytes:
    """How many slices were matched to each state, or stopped at each step."""
    figure, axes = chart_axes(theme, 2.6)
    colours = (theme.after, theme.before)
    known = {name: np.ravel(values) for name, values in facts.steps.items() if np.size(values)}
    for (name, steps), colour in zip(known.items(), colours, strict=False):
        width = max(1, int(np.ptp(steps)) // MOST_BARS + 1)
        edges = np.arange(steps.min() - 0.5, steps.max() + width + 0.5, width)
        axes.hist(steps, edges.tolist(), color=colour, label=name, rwidth=0.85)
    axes.set_xlabel("step")
    axes.set_ylabel("how many")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(axes, theme)
    return png(figure)


def spectrum_chart(eigenvalues: np.ndarray, edge: float | None, theme: Theme) -> bytes:
    """Component spectrum, largest first, with the edge of the noise if it is known.

    eigenvalues  (K,)            variance of each component, in units of σ²
    edge         scalar or None  largest eigenvalue that noise alone reaches, same unit
    """
    figure, axes = chart_axes(theme, 2.6)
    values = np.sort(np.asarray(eigenvalues, dtype=float))[::-1]
    index = np.arange(1, values.size + 1)
    is_signal = values > (edge if edge is not None else -np.inf)
    axes.plot(index[~is_signal], values[~is_signal], "o", ms=4, color=theme.before, label="noise")
    axes.plot(index[is_signal], values[is_signal], "o", ms=4, color=theme.after, label="signal")
    if edge is not None:
        axes.axhline(edge, color=theme.ink, lw=1, ls="--")
        add_legend(axes, theme)
    if values.size and values.min() > 0:
        axes.set_yscale("log")
    axes.set_xlabel("component")
    axes.set_ylabel("variance / σ²")
    return png(figure)
