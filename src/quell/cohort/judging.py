"""Judging: the few figures by which one scan's result is compared with all others'."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..compare.folder import ADDED_NOISE
from ..evaluate import Recorruption
from ..evaluate.places import is_large
from ..files import Files
from ..models import read_model, signal_over_noise
from ..options import Options
from ..pipeline import Result, denoise
from ..record import settings_of
from ..run import Voice
from ..series import Series, load
from .job import Job

# name: heading, digits, meaning
FIGURES = {
    "gain": ("gain, dB", 2, "how many times less error than the scan with noise added on purpose; "
             "no truth needed"),
    "snr": ("SNR", 1, "median over the mask of the mean signal over the noise, before"),
    "sigma": ("sigma", 4, "median of the noise map, in the scan's units"),
    "correlated": ("noise correlates", 2, "of neighbouring voxels, along the axis where it is "
                   "largest"),
    "removed": ("removed", 2, "standard deviation of what was removed over that of the noise; "
                "1 or a little less"),
    "follows": ("follows image", 3, "correlation of what was removed with the image; near 0"),
    "structure": ("structure", 3, "autocorrelation of what was removed beyond the noise's own; "
                  "near 0"),
    "contrast": ("contrast kept", 2, "contrast between directions, after over before, smallest "
                 "shell; near 1"),
    "mean": ("mean changed, %", 2, "largest change of a shell's mean signal; near 0"),
    "stands_out": ("volumes that stand out", 0, "volumes from which far more was removed"),
}  # fmt: skip


def judged(result: Result, like: Series) -> dict[str, Any]:
    """Scores, verdict and what kind of scan it is, as the scan's record keeps them."""
    s = result.statistics
    with np.errstate(invalid="ignore"):
        excess = s.autocorrelation - s.autocorrelation_expected
        weighted = ~(s.shell_bvals <= 50)
        contrast, mean = s.contrast_change[weighted], 100 * np.abs(s.mean_change)
    scores = {
        "snr": signal_over_noise(like, result.noise),
        "sigma": float(np.median(result.noise.sigma[result.mask])),
        "correlated": max(result.noise.lag_one()),
        "removed": s.ratio,
        "follows": s.correlation,
        "structure": _largest(excess),
        "contrast": -_largest(-contrast),
        "mean": _largest(mean),
        "stands_out": float(np.count_nonzero(is_large(s))),
    }
    verdict = result.verdict
    shape = list(result.noisy.shape)
    voxel = [round(mm, 3) for mm in like.voxel_mm]
    return {
        "scores": {name: _number(value) for name, value in scores.items()},
        "level": verdict.level,
        "headline": verdict.sentence,
        "reasons": [reason.sentence for reason in verdict.reasons],
        "about": {"shape": shape, "voxel_mm": voxel, "noise": result.noise.law},
    }


def referee(result: Result, job: Job, files: Files, options: Options, voice: Voice) -> float | None:
    """Gain in dB, judged by the scan with more noise of its own kind; None where that can't be.

    A model that was learned elsewhere is used as it is, any other method learns anew.
    """
    scan = load(files.scan, files.bval, files.bvec, files.mask, files.phase, files.sidecar)
    if np.iscomplexobj(scan.data) or result.noise.is_upper_bound:
        voice.say("no gain is known: the noise is not known well enough to add some of its kind")
        return None
    scan = replace(scan, mask=result.mask)
    rng = np.random.default_rng(options.seed)
    more = Recorruption.of(scan.data, result.mask, result.noise, rng, ADDED_NOISE)
    if not more.where.any():
        voice.say("no gain is known: nowhere is the signal well enough above the noise")
        return None
    noise = replace(result.noise, sigma=result.noise.sigma * np.float32(np.hypot(1, more.a)))
    state = read_model(Path(job.model)).state if job.model else None
    chosen = options if not job.model else _options_of(result, options)
    noisier = replace(scan, data=more.given)
    again = denoise(noisier, chosen, noise_model=noise, state=state, voice=voice)
    weighted = np.flatnonzero(~scan.is_b0)
    counted = weighted if len(weighted) else np.arange(scan.n_volumes)
    gain = more.score(again.denoised, counted).gain_db
    voice.say(f"gain {gain:.2f} dB, judged by the scan with more noise")
    return _number(gain)


def _options_of(result: Result, options: Options) -> Options:
    """Those of a model: its method and settings."""
    return replace(options, method=result.method.name, settings=settings_of(result.method))


def _largest(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.max()) if known.size else float("nan")


def _number(value: float) -> float | None:
    """Six digits, for JSON; None where there is none."""
    return float(f"{value:.6g}") if np.isfinite(value) else None
