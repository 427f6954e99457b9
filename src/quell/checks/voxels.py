"""What the voxels say: representation, spectrum, noise, intensities, copies, motion.

The limits let scans as exported by two vendors pass, and name the same scans once they are
smoothed (Gaussian, 1.5 voxels wide at half height) or zero-filled by a tenth.
"""

import math
from itertools import combinations

import numpy as np

from ..series import is_open
from .finding import Finding, error, fault, note, warning
from .header import encoded_lines, listed, words
from .look import Look
from .symptoms import in_plane_shifts, lag_correlation, outer_power

EMPTY_RING = 0.04  # raw scans 0.08 to 1, zero-filled ones below 0.01, smoothed ones about 0.03
SMOOTH = 0.1  # least of the three lag correlations; raw scans up to 0.04, smoothed ones from 0.15
SMOOTH_IN_PLANE = 0.4  # where neighbouring slices cannot be compared; raw scans up to 0.27
LOW_SHARE = 0.10  # of the head, below three times the noise
FAR_MOVED = 2.0  # voxels; what is less is usual, and is corrected later
FULL_CIRCLES = (math.pi, 2048.0, 4096.0)  # half ranges in which scanners store phase


def representation(look: Look) -> list[Finding]:
    """Magnitude is expected; complex, real and phase data are named."""
    series, data = look.series, look.series.data
    if np.iscomplexobj(data):
        advice = "prefer this to the magnitude: complex noise has no floor"
        return [note("complex", "the data are complex", advice)]
    low, high = float(data.min()), float(data.max())
    name = series.path.name if series.path else ""
    named = "part-phase" in name or "PHASE" in words(series.sidecar.get("ImageType"))
    spans = any(0.95 * c < high <= 1.01 * c and 0.95 * c < -low <= 1.01 * c for c in FULL_CIRCLES)
    if named or spans:
        sentence = f"the data look like phase ({low:.4g} to {high:.4g})"
        advice = "give the magnitude, or magnitude and phase combined to complex"
        return [error("phase", sentence, advice)]
    if low >= 0:
        return []
    share = float(np.mean(look.all_volumes < 0))
    sentence = f"{share:.2%} of the values are negative, down to {low:.4g}"
    advice = "a magnitude has none: expected only for real-part or already corrected data"
    return [(warning if share > 0.001 else note)("negative", sentence, advice)]


def interpolated(look: Look) -> list[Finding]:
    """Zero-filled or smoothed: nothing in the outer ring of k-space."""
    level = look.all_volumes[look.small_mask].mean(axis=0)
    bright = look.small(np.argsort(level)[::-1][:3])
    shadow = look.small_mask.max(axis=2)
    powers = {}
    for axis, name in enumerate("xy"):
        if min(np.count_nonzero(shadow.any(axis=a)) for a in (0, 1)) >= 24:  # lines enough
            powers[name] = outer_power(bright.reshape(*bright.shape[:2], -1), shadow, axis)
    empty = {name: power for name, power in powers.items() if power < EMPTY_RING}
    if not empty:
        return []
    numbers = " and ".join(f"{power:.1%} along {name}" for name, power in empty.items())
    lines, cause = encoded_lines(look), "the scan was zero-filled, interpolated or smoothed"
    if lines and lines[0] >= lines[1]:  # then nothing was filled in
        cause = f"all {lines[1]:g} lines were acquired, so the scanner filtered the image"
    sentence = f"the outer lines of k-space hold {numbers} of the power just inside them: {cause}"
    return [_of_correlation(look, "empty-k-space", sentence)]


def _of_correlation(look: Look, code: str, sentence: str) -> Finding:
    """What makes the noise of neighbours alike: a warning where the method cannot take that."""
    if not look.takes_white:
        advice = "nothing: the correlation of the noise is measured, and the method uses it"
        return note(code, sentence, advice)
    advice = (
        f"{look.takes_white} takes the noise to be white: use joint, or switch filters and "
        "interpolation off at export"
    )
    return warning(code, sentence, advice)


def smooth_noise(look: Look) -> list[Finding]:
    """Noise that every neighbour shares: a filter, a resampling or a denoiser was there first."""
    lags = lag_correlation(look.pure_noise, look.small_mask, look.slices)
    known = lags[np.isfinite(lags)]
    if not len(known) or known.min() <= (SMOOTH if len(known) == 3 else SMOOTH_IN_PLANE):
        return []
    numbers = ", ".join(f"{a} {r:.2f}" for a, r in zip("xyz", lags, strict=True) if np.isfinite(r))
    sentence = (
        f"neighbouring voxels share their noise along every axis (correlation at least {numbers})"
    )
    return [_of_correlation(look, "smooth-noise", sentence)]


def noise_floor(look: Look) -> list[Finding]:
    """Signal near the noise floor of a magnitude, and what is then unknown about the noise."""
    if look.is_signed:
        return []
    share, b = look.low_share, look.shells[-1][0]
    if share < LOW_SHARE:
        return []
    shell = "" if math.isnan(b) else f" at b = {b:g}"
    sentence = f"{share:.0%} of the mask has a signal below three times the noise{shell}"
    advice = (
        "the noise floor raises the means there; --remove-noise-floor corrects that, unless your "
        "pipeline does so later"
    )
    found = [note("noise-floor", sentence, advice)]
    combined = str(look.series.sidecar.get("CoilCombinationMethod", "")).lower()
    if "adaptive" not in combined:
        how = "by sum of squares" if "sum of squares" in combined else "in a way not stated"
        sentence = f"the coils were combined {how}, their effective number is unknown"
        advice = "give the number of coils if you know it; the height of the floor depends on it"
        found.append(note("coils-unknown", sentence, advice))
    return found


def intensities(look: Look) -> list[Finding]:
    """Clipped, or stored in steps coarser than the noise."""
    data, found = look.all_volumes, []
    high = float(data.max())
    n_top = int(np.count_nonzero(data == high))
    if high > 0 and n_top >= 20:  # a largest value is otherwise alone
        sentence = f"{n_top} voxels of the slices looked at share the largest value, {high:.6g}"
        advice = "the scan is clipped: export it with a larger range, read nothing where it is full"
        found.append(fault("clipped", sentence, advice))
    inside = data[look.small_mask][:, look.main_shell].ravel()
    levels = np.unique(inside[:: max(1, inside.size // 200_000)])
    steps = np.diff(levels)
    step = float(np.quantile(steps, 0.1)) if len(steps) else 0.0
    if "int" in look.series.stored_dtype and step > look.noise_sd > 0:
        sentence = (
            f"values are stored in steps of {step:.3g}, the noise is only {look.noise_sd:.3g}"
        )
        advice = "export with a finer scale or as floating point"
        found.append(warning("coarse-steps", sentence, advice))
    return found


def zeros(look: Look) -> list[Finding]:
    """Exact zeros and NaN: a masked background holds no noise to learn from."""
    found, n_bad = [], look.series.n_nonfinite
    if n_bad:
        sentence = f"{n_bad} values are NaN or Inf; they were set to 0 and left out of the mask"
        advice = "nothing to do if they lie outside the head, else convert the scan again"
        found.append(note("nonfinite", sentence, advice))
    empty = np.all(look.all_volumes == 0, axis=3)
    if (share := float(empty.mean())) > 0.02:
        sentence = f"{share:.0%} of the voxels are exactly zero in every volume"
        advice = "a masked background is fine; the noise is learned inside the head only"
        found.append(note("zero-background", sentence, advice))
    if (share := float(empty[look.small_mask].mean())) > 0.01:
        sentence = f"{share:.0%} of the mask is exactly zero in every volume"
        found.append(warning("zeros-in-mask", sentence, "give a tighter mask"))
    return found


def field_of_view(look: Look) -> list[Finding]:
    """A computed mask where hardly any air is in view, or where what it leaves out is no air."""
    series = look.series
    if series.mask is not None:  # given: the user knows
        return []
    bvals = np.array([]) if series.bvals is None else series.bvals
    if is_open(look.mask, series.data, bvals):
        sentence = (
            f"the computed mask holds {look.mask.mean():.0%} of the field of view, and what it "
            "leaves out is too bright and too steady for the air of one coil: it may be tissue"
        )
        advice = "look at the mask in the report, and give one with --mask if tissue is missing"
        return [warning("mask-uncertain", sentence, advice)]
    if (share := float(look.mask.mean())) > 0.95:
        sentence = f"the object fills {share:.0%} of the field of view, so there is hardly any air"
        advice = "nothing; give --mask if that is not so"
        return [note("no-air", sentence, advice)]
    return []


def duplicates(look: Look) -> list[Finding]:
    """Volumes that are exact copies of each other share their noise."""
    keys = [look.all_volumes[..., v].tobytes() for v in range(look.series.n_volumes)]
    pairs = [(i, j) for i, j in combinations(range(len(keys)), 2) if keys[i] == keys[j]]
    if not pairs:
        return []
    named = ", ".join(f"{i} and {j}" for i, j in pairs[:3])
    if len(pairs) == 1:
        sentence = f"volumes {named} are copies of each other"
    else:
        sentence = f"{len(pairs)} pairs of volumes are copies of each other: {named}"
    advice = "remove the copies: one would be learned from the other, noise and all"
    return [fault("duplicates", sentence, advice)]


def motion(look: Look) -> list[Finding]:
    """Volumes that lie elsewhere than the rest of their shell."""
    volumes = look.main_shell
    if len(volumes) < 3:
        return []
    shifts = np.abs(in_plane_shifts(look.small(volumes), look.small_mask))
    moved = np.flatnonzero(shifts.max(axis=1) > 0.5)
    if not len(moved):
        return []
    volume, axis = np.unravel_index(np.nanargmax(shifts), shifts.shape)
    sentence = (
        f"motion or eddy currents moved {listed(volumes[moved])} by more than half a voxel in "
        f"plane (volume {volumes[volume]} by {shifts[volume, axis]:.1f} along {'xy'[axis]})"
    )
    if shifts.max() <= FAR_MOVED:
        return [note("motion", sentence, "nothing: correct motion after denoising, as usual")]
    advice = "expect blur where a method learns one volume from another; look at what was removed"
    return [warning("motion", sentence, advice)]
