"""The residual statistics in plain words: is it safe to go on with this result?

Every quantity becomes one `Judgement`: what was measured, what it should be, and a level. The
thresholds stand here, each with its reason; the report prints its table from the same objects.
"""

from dataclasses import dataclass

import numpy as np

from .residual import ResidualStatistics

LEVELS = ("good", "note", "warning", "error")  # from harmless to harmful

RATIO_HIGH = (1.10, 1.25)  # warning, error: noise maps are good to about 5 %; twice that is signal
RATIO_LOW = 0.60  # note: less than 0.6² = 36 % of the noise power was taken out
VOLUME_RATIO = 1.5  # one volume this far above the noise has motion, drop-out or lost signal
MEAN = 0.10  # σ; at SNR 10 a shift of 1 % of the signal, more than averaging 10³ voxels can hide
AUTOCORRELATION = (0.05, 0.20)  # above the noise's own: patches of anatomy, not single voxels
CORRELATION = (0.05, 0.15)  # r beyond that of the best estimate; 0.05: 1 % of a contrast of 5 σ
VOLUME_CORRELATION = 0.20  # one volume alone; few-volume methods blur the b=0 first
MAGNITUDE_CORRELATION = (0.10, 0.25)  # weaker proof: the Rician floor shrinks dark noise
MEAN_CHANGE = (0.01, 0.05)  # 1 % of a b=1000 signal shifts the diffusivity by 10⁻⁵ mm²/s (1.4 %)
CONTRAST_LOW = (0.85, 0.60)  # after / before; noise that is left hides a little loss
CONTRAST_HIGH = 1.25  # note: more spread than the signal has, so noise is left
NEGATIVE = 0.001  # note: share of values; in the darkest voxels an unbiased estimate crosses 0
ABOVE_B0 = 0.001  # more impossible signals than before, as a share of all


@dataclass(frozen=True)
class Judgement:
    """One statistic, judged."""

    code: str  # stable name, for programs
    title: str  # what was measured, in words
    level: str  # one of LEVELS
    measured: str
    expected: str
    sentence: str  # what it means here
    advice: str = ""  # what to do, empty when all is well


def verdict(statistics: ResidualStatistics, floor_corrected: bool = False) -> list[Judgement]:
    """Judge every statistic, in the order of their weight.

    statistics       of one scan
    floor_corrected  True when the method took the Rician floor off, which lowers dark signals on
                     purpose: shifts of the mean are then a note, not a warning
    """
    judgements = [
        _ratio(statistics),
        _correlation(statistics),
        _autocorrelation(statistics),
        _contrast(statistics),
        _mean_change(statistics, floor_corrected),
        _mean(statistics, floor_corrected),
        _magnitude(statistics),
        _volumes(statistics),
        _above_b0(statistics),
        _values(statistics),
    ]
    return judgements


def headline(judgements: list[Judgement]) -> tuple[str, str]:
    """The worst level, and one sentence that sums all judgements up."""
    worst = max((j.level for j in judgements), key=LEVELS.index, default="note")
    n_off = sum(j.level in ("warning", "error") for j in judgements)
    are = "is" if n_off == 1 else "are"
    return worst, {
        "good": "What was removed looks like noise.",
        "note": "What was removed looks like noise; read the remarks.",
        "warning": f"Look before you use it: {n_off} of {len(judgements)} checks {are} off.",
        "error": f"Do not use it as it is: {n_off} of {len(judgements)} checks failed.",
    }[worst]


def _level(value: float, limits: tuple[float, float]) -> str:
    return "error" if value > limits[1] else "warning" if value > limits[0] else "good"


def _ratio(s: ResidualStatistics) -> Judgement:
    level, advice = _level(s.ratio, RATIO_HIGH), ""
    sentence = "The residual is as large as the noise, or a little smaller."
    if level != "good":
        sentence = "The residual is larger than the noise: signal may have been removed."
        advice = "Look for anatomy in the residual; check the noise map before blaming the method."
    elif s.ratio < RATIO_LOW:
        level = "note"
        sentence = "The residual is much smaller than the noise: most of the noise is still there."
        advice = "Train longer, or take a method that uses more volumes."
    return Judgement("residual-size", "Size of the residual, sd / σ", level, f"{s.ratio:.2f}",
                     f"1 or a little less, {RATIO_LOW:.2f} to {RATIO_HIGH[0]:.2f}",
                     sentence, advice)  # fmt: skip


def _correlation(s: ResidualStatistics) -> Judgement:
    most = min(s.correlation_of_best, CORRELATION[1])  # the cap: a floor also makes residuals small
    off = s.correlation - float(np.clip(s.correlation, 0, most))
    level, advice = _level(abs(off), CORRELATION), ""
    sentence = "The residual does not follow the image."
    if level != "good":
        side = "bright tissue was darkened" if s.correlation > 0 else "bright tissue was brightened"
        sentence = f"The residual follows the image: {side}, so anatomy was removed with the noise."
        advice = "Look at the averaged residual; take a gentler setting or another method."
    return Judgement("residual-follows-image", "Correlation of residual and image", level,
                     f"{s.correlation:+z.3f}",
                     f"{-CORRELATION[0]:.2f} to {most + CORRELATION[0]:.2f}",
                     sentence, advice)  # fmt: skip


def _autocorrelation(s: ResidualStatistics) -> Judgement:
    excess = s.autocorrelation - s.autocorrelation_expected
    worst = float(np.nanmax(excess)) if np.isfinite(excess).any() else 0.0
    level, advice = _level(worst, AUTOCORRELATION), ""
    sentence = "Neighbouring voxels of the residual are no more alike than the noise's own."
    if level != "good":
        axis = "xyz"[int(np.nanargmax(excess))]
        sentence = f"The residual has structure along {axis} that the noise does not have."
        advice = (
            "Look for edges and tissue in the residual maps; if there are none, the noise model "
            "misses a correlation, as in interpolated or zero-filled scans."
        )
    elif np.nanmin(excess, initial=0.0) < -AUTOCORRELATION[0]:
        sentence = "The residual is rougher than the noise: smooth noise was left in the image."
        level = "note"
    pairs = zip("xyz", s.autocorrelation, s.autocorrelation_expected, strict=True)
    texts = [(f"{axis} {a:.2f}", f"{axis} {b:.2f}") for axis, a, b in pairs]
    measured, expected = (", ".join(column) for column in zip(*texts, strict=True))
    return Judgement("residual-structure", "Autocorrelation at one voxel", level, measured,
                     f"{expected}, up to {AUTOCORRELATION[0]} more", sentence, advice)  # fmt: skip


def _contrast(s: ResidualStatistics) -> Judgement:
    changes = s.contrast_change
    title, code = "Contrast between directions, after / before", "directional-contrast"
    expected = f"1, {CONTRAST_LOW[0]} to {CONTRAST_HIGH}"
    weighted = np.isfinite(changes) & (np.isnan(s.shell_bvals) | (s.shell_bvals > 50))
    if not weighted.any():
        return Judgement(code, title, "note", "–", expected,
                         "Too little contrast above the noise to be measured.")  # fmt: skip
    measured = ", ".join(
        f"{c:.2f} ({shell_name(b)})"
        for b, c in zip(s.shell_bvals[weighted], changes[weighted], strict=True)
    )
    lowest, highest = float(changes[weighted].min()), float(changes[weighted].max())
    level, advice = _level(-lowest, (-CONTRAST_LOW[0], -CONTRAST_LOW[1])), ""
    sentence = "Differences between the directions were kept."
    if level != "good":
        sentence = "Directions were drawn towards their mean: anisotropy will come out too low."
        advice = "Compare FA before and after; use fewer iterations or a method with less sharing."
    elif highest > CONTRAST_HIGH:
        level, sentence = "note", "The directions differ by more than their signal: noise is left."
    return Judgement(code, title, level, measured, expected, sentence, advice)


def _mean_change(s: ResidualStatistics, floor_corrected: bool) -> Judgement:
    worst = float(np.nanmax(np.abs(s.mean_change))) if np.isfinite(s.mean_change).any() else 0.0
    level, advice = _level(worst, MEAN_CHANGE), ""
    sentence = "The mean signal of every shell was kept."
    if level != "good":
        sentence = f"The mean signal of a shell changed by up to {100 * worst:.1f} %."
        advice = "Diffusivities will shift; do not mix this scan with undenoised ones."
    if level != "good" and floor_corrected:
        level, advice = "note", "Expected: the Rician floor was taken off."
    measured = ", ".join(
        f"{100 * c:+z.1f} % ({shell_name(b)})"
        for b, c in zip(s.shell_bvals, s.mean_change, strict=True)
    )
    return Judgement("mean-signal", "Change of the mean signal", level, measured,
                     f"0 ± {100 * MEAN_CHANGE[0]:.0f} %", sentence, advice)  # fmt: skip


def _mean(s: ResidualStatistics, floor_corrected: bool) -> Judgement:
    off = np.flatnonzero(np.abs(s.mean_over_sigma) > MEAN)
    worst = s.mean_over_sigma[np.argmax(np.abs(s.mean_over_sigma))]
    level, sentence, advice = "good", "No volume was shifted up or down.", ""
    if off.size:
        level = "note" if floor_corrected else "warning"
        sentence = f"The residual's mean is not 0 in {_volume_list(off)}."
        advice = "Expected: the Rician floor was taken off." if floor_corrected else (
            "Those volumes became brighter or darker as a whole; check them by eye.")  # fmt: skip
    return Judgement("residual-mean", "Mean of the residual, worst volume", level,
                     f"{worst:+z.2f} σ", f"0 ± {MEAN:.1f} σ", sentence, advice)  # fmt: skip


def _magnitude(s: ResidualStatistics) -> Judgement:
    level, advice = _level(abs(s.magnitude_correlation), MAGNITUDE_CORRELATION), ""
    sentence = "The residual is equally strong in bright and dark tissue."
    if level != "good":
        place = "bright" if s.magnitude_correlation > 0 else "dark"
        sentence = f"The residual is stronger in {place} tissue than the noise map says."
        advice = "Either signal was removed there or the noise map is wrong: compare the two maps."
    return Judgement("residual-strength", "Correlation of |residual| and image", level,
                     f"{s.magnitude_correlation:+z.3f}", f"0 ± {MAGNITUDE_CORRELATION[0]}",
                     sentence, advice)  # fmt: skip


def _volumes(s: ResidualStatistics) -> Judgement:
    large = s.ratio_per_volume > VOLUME_RATIO
    follows = np.abs(s.correlation_per_volume) > VOLUME_CORRELATION
    off, low = np.flatnonzero(large | follows), np.flatnonzero(s.ratio_per_volume < RATIO_LOW)
    level, sentence, advice = "good", "No single volume stands out.", ""
    if off.size:
        level, sentence = "warning", f"The residual stands out in {_volume_list(off)}."
        advice = "Look at them: motion, a drop-out, or a volume that has no like (a lone b=0)."
    elif low.size and s.ratio >= RATIO_LOW:  # if all are low, the first judgement has said so
        level, sentence = "note", f"Most of the noise is still in {_volume_list(low)}."
    return Judgement("single-volumes", "Volumes that stand out", level,
                     f"{off.size} too large, {low.size} too small",
                     f"none; sd / σ {RATIO_LOW} to {VOLUME_RATIO}, correlation "
                     f"up to {VOLUME_CORRELATION}", sentence, advice)  # fmt: skip


def _above_b0(s: ResidualStatistics) -> Judgement:
    code, title = "above-b0", "Diffusion signals above the b=0"
    if not np.isfinite(s.above_b0_after):
        return Judgement(code, title, "note", "–", "no more than before",
                         "Needs b-values with b=0 and weighted volumes.")  # fmt: skip
    level, sentence, advice = "good", "No impossible signals were added.", ""
    if s.above_b0_after > s.above_b0_before + ABOVE_B0:
        level, sentence = "warning", "More signals exceed their b=0 than before: diffusivity < 0."
        advice = "Compare the b=0 before and after; it may have been darkened."
    return Judgement(code, title, level, f"{100 * s.above_b0_after:.2f} %",
                     f"at most {100 * s.above_b0_before:.2f} %, as before",
                     sentence, advice)  # fmt: skip


def _values(s: ResidualStatistics) -> Judgement:
    title, expected = (
        "Negative or invalid values in the mask",
        f"0 invalid, at most {100 * NEGATIVE:.1f} % negative",
    )
    share = s.n_negative / (s.n_voxels * s.ratio_per_volume.size)
    measured = f"{100 * share:.2f} % negative, {s.n_nonfinite} invalid"
    level, sentence, advice = "good", "Every value is a number.", ""
    if s.n_nonfinite:
        level, sentence = "error", "The result holds NaN or infinite values."
        advice = "Do not use it; report the scan and the settings."
    elif share > NEGATIVE:
        level, sentence = "note", "Some values are below 0, as an unbiased estimate may be."
        advice = "Logarithms need a clip at a small positive value; tensor fits do that themselves."
    return Judgement("values", title, level, measured, expected, sentence, advice)


def shell_name(b: float) -> str:
    """A shell in words, from its mean b-value in s/mm² (NaN: no b-values known)."""
    if not np.isfinite(b):
        return "all volumes"
    return "b=0" if b <= 50 else f"b={round(b / 5) * 5:.0f}"


def _volume_list(indices: np.ndarray, longest: int = 6) -> str:
    """Volumes by their number from 0, cut short."""
    names = ", ".join(str(i) for i in indices[:longest])
    more = f" and {indices.size - longest} more" if indices.size > longest else ""
    return f"volume{'s' if indices.size > 1 else ''} {names}{more} (counted from 0)"
