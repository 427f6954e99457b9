"""Details: what `quell evaluate` says of a result beyond the scores that a comparison sorts by."""

import numpy as np

from ..evaluate import (
    Prediction,
    ResidualStatistics,
    bias,
    c2s_scores,
    cross_validate,
    difusion_scores,
    nrmse,
    psnr,
    range_of,
    rmse,
    shells,
    ssim,
)
from ..series import B0_MAX, InputError
from .judging import Judge, Scores, plain


def by_truth(judge: Judge, denoised: np.ndarray, as_published: bool = False) -> Scores:
    """Errors of the images, where the truth is known; else nothing.

    denoised      (X, Y, Z, V)  scanner units
    as_published  the papers' own scores, too
    """
    if judge.reference is None or not judge.is_truth:
        return {}
    goal, where = judge.goal, judge.where
    after, data_range = denoised[..., judge.volumes], range_of(goal, where)
    found = {
        "psnr": psnr(after, goal, where, data_range),
        "ssim": ssim(after, goal, where, data_range),
        "nrmse": nrmse(after, goal, where),
        "bias": float(np.nanmean(bias(after, goal, where))),
    }
    clean, before = (of.data[..., judge.volumes] for of in (judge.reference, judge.scan))
    if judge.noise.law != "gaussian":
        # the goal has the noise floor, and whoever took that off would be punished for it
        errors = [rmse(data, clean, where) for data in (before, after)]
        found["gain_off"] = float(20 * np.log10(errors[0] / errors[1])) if all(errors) else np.nan
    if as_published:
        found["published_psnr"], found["published_ssim"] = difusion_scores(after, clean)
        found["c2s_psnr"], found["c2s_ssim"] = c2s_scores(after, clean, before)
    return {name: plain(value) for name, value in found.items()}


def by_residual(s: ResidualStatistics) -> Scores:
    """What was removed, and what became of the directions; needs nothing but the scan."""
    weighted = ~(s.shell_bvals <= B0_MAX)
    worst = float(np.nanmin(s.contrast_change[weighted], initial=np.inf))
    change = float(np.nanmax(np.abs(s.mean_change), initial=0.0))
    found = {
        "follows": s.correlation,
        "structure_p": s.structure_p,
        "information": s.information,
        "mean_change": change,
        "contrast": worst,
        "above_b0": s.above_b0_after,
    }
    return {name: plain(value) for name, value in found.items()}


def by_prediction(
    judge: Judge,
    denoised: np.ndarray,
    model: str,
    folds: int,
    seed: int,
    as_published: bool = False,
    near: np.ndarray | None = None,
) -> tuple[Scores, Prediction]:
    """R² of a diffusion model's predictions for the scan as it was measured, in the median voxel.

    denoised  (X, Y, Z, V)  scanner units
    model     "dti" up to b = 1500 s/mm², over the mask; "csd" of the highest shell, in the middle
              slice: it takes a hundred times as long
    seed      the same one deals the same folds to all results
    near      (X, Y, Z) bool, from whose middle a voxel's signal is kept; None for the mask's
    """
    scan, where, volumes = judge.scan, judge.where, judge.low
    if not judge.has_tensors or scan.bvals is None or scan.bvecs is None:
        raise InputError(f"{scan.path} lacks a b=0 or 6 directions with b-values; leave out --r2")
    if model == "csd":
        volumes = np.union1d(np.flatnonzero(scan.is_b0), shells(scan.bvals, scan.n_volumes)[-1])
        filled = np.flatnonzero(where.any(axis=(0, 1)))
        where = where & (np.arange(where.shape[2]) == filled[len(filled) // 2])
    after, raw = denoised[..., volumes], scan.data[..., volumes]
    given = (scan.bvals[volumes], scan.bvecs[volumes], where, model, folds)
    voxel = _middle(where if near is None or not (near & where).any() else near & where)
    found = cross_validate(after, raw, *given, np.random.default_rng(seed), voxel)
    scores = {f"r2_{model}": float(np.median(found.r2[where]))}
    if as_published:
        own = cross_validate(after, after, *given, np.random.default_rng(seed))
        scores[f"published_r2_{model}"] = float(np.median(own.r2[where]))
    return {name: plain(value) for name, value in scores.items()}, found


def _middle(where: np.ndarray) -> tuple[int, int, int]:
    """The voxel of the mask that is nearest to its middle."""
    places = np.argwhere(where)
    x, y, z = places[np.argmin(((places - places.mean(axis=0)) ** 2).sum(axis=1))]
    return int(x), int(y), int(z)
