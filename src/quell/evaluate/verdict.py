"""The residual statistics in plain words: is it safe to go on with this result?

Every quantity becomes one `Judgement`. The thresholds stand here and in `places`, each with its
reason; the report prints its table from the same objects, and `headline` sums them up.
"""

from collections.abc import Sequence

import numpy as np

from ..checks import Finding
from .judgement import Judgement, level_of, shell_name, volume_list
from .places import VOLUME_LOW, judge_clusters, judge_slices, judge_volumes
from .residual import ResidualStatistics

RATIO_HIGH = (1.10, 1.25)  # warning, error: noise maps are good to about 5 %; twice that is signal
RATIO_LOW = VOLUME_LOW  # note: less than 36 % of the noise power was taken out
DETAIL_HIGH = (1.02, 1.10)  # after / before; what smooths or restores never makes more of it
MEAN = 0.10  # σ; at SNR 10 a shift of 1 % of the signal, more than averaging 10³ voxels can hide
AUTOCORRELATION = (0.05, 0.20)  # above the noise's own: patches of anatomy, not single voxels
CORRELATION = (0.05, 0.15)  # r beyond that of the best estimate; 0.05: 1 % of a contrast of 5 σ
MAGNITUDE_CORRELATION = (0.10, 0.25)  # weaker proof: the Rician floor shrinks dark noise
MEAN_CHANGE = (0.01, 0.05)  # 1 % of a b=1000 signal shifts the diffusivity by 10⁻⁵ mm²/s (1.4 %)
CONTRAST_LOW = (0.85, 0.60)  # after / before; noise that is left hides a little loss
CONTRAST_HIGH = 1.25  # note: more spread than the signal has, so noise is left
NEGATIVE = 0.001  # note: share of values; in the darkest voxels an unbiased estimate crosses 0
ABOVE_B0 = 0.001  # more impossible signals than before, as a share of all


def verdict(
    statistics: ResidualStatistics,
    floor_corrected: bool = False,
    findings: Sequence[Finding] = (),
) -> list[Judgement]:
    """Judge every statistic, in the order of their weight; `headline` sums them up.

    statistics       of one scan
    floor_corrected  True when the method took the Rician floor off, which lowers dark signals on
                     purpose: shifts of the mean are then a note, not a warning
    findings         of the checks: what they have named is not said twice
    """
    named = {cell for finding in findings for cell in finding.slices}
    return [
        _ratio(statistics),
        _detail(statistics),
        _correlation(statistics),
        _autocorrelation(statistics),
        _contrast(statistics),
        _mean_change(statistics, floor_corrected),
        _mean(statistics, floor_corrected),
        _magnitude(statistics),
        judge_volumes(statistics),
        judge_slices(statistics, named),
        judge_clusters(statistics, named),
        _above_b0(statistics),
        _values(statistics),
    ]


def _ratio(s: ResidualStatistics) -> Judgement:
    level, advice = level_of(s.ratio, RATIO_HIGH), ""
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
                     sentence, advice, is_remark=level == "note")  # fmt: skip


def _detail(s: ResidualStatistics) -> Judgement:
    title, expected = "Power of the finest detail, after / before", "1 or less"
    if not np.isfinite(s.detail_change):
        return Judgement("finest-detail", title, "note", "–", expected,
                         "No two voxels of the mask lie side by side.")  # fmt: skip
    level, advice = level_of(s.detail_change, DETAIL_HIGH), ""
    sentence = "Nothing was added to the finest detail."
    if level != "good":
        sentence = "The result is rougher than the scan: something was added to it."
        advice = "Do not use it; train for less long, or take another method."
    return Judgement("finest-detail", title, level, f"{s.detail_change:.2f}", expected,
                     sentence, advice)  # fmt: skip


def _correlation(s: ResidualStatistics) -> Judgement:
    most = min(s.correlation_of_best, CORRELATION[1])  # the cap: a floor also makes residuals small
    off = s.correlation - float(np.clip(s.correlation, 0, most))
    level, advice = level_of(abs(off), CORRELATION), ""
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
    level, advice = level_of(worst, AUTOCORRELATION), ""
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
    level, advice = level_of(-lowest, (-CONTRAST_LOW[0], -CONTRAST_LOW[1])), ""
    sentence = "Differences between the directions were kept."
    if level != "good":
        sentence = "Directions were drawn towards their mean: anisotropy will come out too low."
        advice = "Compare FA before and after; use fewer iterations or a method with less sharing."
    elif highest > CONTRAST_HIGH:
        level, sentence = "note", "The directions differ by more than their signal: noise is left."
    return Judgement(code, title, level, measured, expected, sentence, advice)


def _mean_change(s: ResidualStatistics, floor_corrected: bool) -> Judgement:
    worst = float(np.nanmax(np.abs(s.mean_change))) if np.isfinite(s.mean_change).any() else 0.0
    level, advice = level_of(worst, MEAN_CHANGE), ""
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
        sentence = f"The residual's mean is not 0 in {volume_list(off)}."
        advice = "Expected: the Rician floor was taken off." if floor_corrected else (
            "Those volumes became brighter or darker as a whole; check them by eye.")  # fmt: skip
    return Judgement("residual-mean", "Mean of the residual, worst volume", level,
                     f"{worst:+z.2f} σ", f"0 ± {MEAN:.1f} σ", sentence, advice)  # fmt: skip


def _magnitude(s: ResidualStatistics) -> Judgement:
    level, advice = level_of(abs(s.magnitude_correlation), MAGNITUDE_CORRELATION), ""
    sentence = "The residual is equally strong in bright and dark tissue."
    if level != "good":
        place = "bright" if s.magnitude_correlation > 0 else "dark"
        sentence = f"The residual is stronger in {place} tissue than the noise map says."
        advice = "Either signal was removed there or the noise map is wrong: compare the two maps."
    return Judgement("residual-strength", "Correlation of |residual| and image", level,
                     f"{s.magnitude_correlation:+z.3f}", f"0 ± {MAGNITUDE_CORRELATION[0]}",
                     sentence, advice)  # fmt: skip


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
