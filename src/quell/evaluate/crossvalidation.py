"""Microstructure: how well a diffusion model predicts directions that it was not fitted to.

Source  Rokem et al., PLoS ONE 10(4):e0123272 (2015), k-fold cross-validation of diffusion models;
        Fadnavis et al., Patch2Self, NeurIPS 2020, where it judges denoisers.
Idea    Fit the denoised volumes but those of one fold, predict these, and correlate the prediction
        with what was measured there, voxel by voxel: R² = r². Less noise in the fit, better maps.
Here    Held-out volumes are the RAW ones. All b=0 volumes are in every fit, and none is predicted.
Trap    Published figures correlate with the held-out volumes of the denoised scan
        itself. That rewards smoothing over directions: what is smooth is easy to predict.
Trap    A square makes a prediction that is upside down a good one: where r < 0, R² is 0 here.
Trap    A denoiser that mixes volumes has seen the held-out ones, so a little of their noise is in
        the fit. Compare methods of one kind, or denoise each fold's volumes apart.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..series import B0_MAX, InputError
from .tensor import gradients_of

LEAST_DIRECTIONS = {"dti": 6, "csd": 15}  # of a fit: as many as the model has numbers
MODELS = tuple(LEAST_DIRECTIONS)
ROUNDING = 1e-6  # of a prediction; less spread than that is none
ROI_RADIUS, ROI_FA = 10, 0.7  # where CSD's response comes from: voxels, and the FA they have
CSD_COEFFICIENTS = {8: 45, 6: 28, 4: 15}  # order of the harmonics: how many there are


@dataclass(frozen=True, eq=False)
class Prediction:
    """How well held-out volumes were predicted."""

    r2: np.ndarray  # (X, Y, Z) float32, 0 outside the mask
    voxel: tuple[int, int, int]  # the one whose signal is kept
    predicted: np.ndarray  # (G,) its weighted volumes, data units
    measured: np.ndarray  # (G,) the same


def cross_validate(
    denoised: np.ndarray,
    measured: np.ndarray,
    bvals: np.ndarray,
    bvecs: np.ndarray,
    mask: np.ndarray,
    model: str,
    folds: int,
    rng: np.random.Generator,
    voxel: tuple[int, int, int] | None = None,
) -> Prediction:
    """R² of the model's predictions, voxel by voxel, and those of one voxel.

    denoised  (X, Y, Z, V)  data units, fitted
    measured  as denoised   data units, what is predicted: the raw scan; as published it is the
                            denoised one, which praises smoothing
    bvals     (V,)          s/mm²
    bvecs     (V, 3)        unit vectors, zeros for b=0
    mask      (X, Y, Z)     where to fit
    model     "dti" or "csd"
    folds     at least 2
    rng       deals the volumes out to the folds
    voxel     of the mask, whose predictions are kept; None for the first

    Raises InputError with too few directions for the model.
    """
    dwi = np.flatnonzero(bvals > B0_MAX)
    _refuse(model, bvals, folds)
    response = response_of(measured, bvals, bvecs, mask) if model == "csd" else None
    predicted = kfold_prediction(denoised, bvals, bvecs, mask, model, folds, rng, response)
    r2 = np.zeros(mask.shape, dtype=np.float32)
    r2[mask] = r_squared(predicted[:, dwi], measured[mask][:, dwi])
    places = np.argwhere(mask)
    kept = 0 if voxel is None else int(np.flatnonzero((places == voxel).all(axis=1))[0])
    x, y, z = (int(i) for i in places[kept])
    return Prediction(r2, (x, y, z), predicted[kept, dwi], measured[x, y, z, dwi])


def r_squared(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """(voxels,): squared correlation over the volumes; 0 where it is negative or undefined.

    predicted, measured  (voxels, V)  data units
    """
    a = predicted - predicted.mean(axis=1, keepdims=True, dtype=np.float64)
    b = measured - measured.mean(axis=1, keepdims=True, dtype=np.float64)
    power = np.sqrt(np.sum(a * a, axis=1) * np.sum(b * b, axis=1))
    # the spread of a constant is rounding, and what that correlates with means nothing
    varies = (np.std(a, axis=1) > ROUNDING * np.abs(predicted).max(axis=1, initial=0)) & (power > 0)
    r = np.sum(a * b, axis=1) / np.where(varies, power, 1)
    return np.where(varies, np.maximum(r, 0) ** 2, 0)


def kfold_prediction(
    data: np.ndarray,
    bvals: np.ndarray,
    bvecs: np.ndarray,
    mask: np.ndarray,
    model: str,
    folds: int,
    rng: np.random.Generator,
    response: tuple[np.ndarray, float] | None = None,
) -> np.ndarray:
    """(voxels, V): each weighted volume as the fit to the other folds predicts it; b=0 stay 0.

    response  of CSD; for the rest, arguments of `cross_validate`
    """
    dwi = np.flatnonzero(bvals > B0_MAX)
    values = data[mask].astype(np.float64)
    predicted, S0 = np.zeros(values.shape), values[:, bvals <= B0_MAX].mean(axis=1)
    for held_out in np.array_split(rng.permutation(dwi), folds):
        kept = np.setdiff1d(np.arange(len(bvals)), held_out)
        fit = _model(model, bvals[kept], bvecs[kept], response).fit(values[:, kept])
        with np.errstate(over="ignore"), warnings.catch_warnings():
            # in voxels of noise alone a fit may run away; DIPY warns of its own keywords
            warnings.simplefilter("ignore")
            said = fit.predict(gtab=gradients_of(bvals[held_out], bvecs[held_out]), S0=S0)
        predicted[:, held_out] = np.nan_to_num(said, posinf=0, neginf=0)
    return predicted


def response_of(
    data: np.ndarray, bvals: np.ndarray, bvecs: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, float]:
    """The signal of one fibre bundle: tensor eigenvalues (mm²/s) and b=0 signal (data units).

    From the voxels around the middle of the mask whose FA is high, as DIPY does it. Raises
    InputError where there are none.
    """
    from dipy.reconst.csdeconv import mask_for_response_ssst, response_from_mask_ssst

    gradients = gradients_of(bvals, bvecs)
    centre = tuple(int(c) for c in np.round(np.argwhere(mask).mean(axis=0)))
    radii = tuple(min(ROI_RADIUS, max(1, n // 2 - 1)) for n in mask.shape)
    inside = np.where(mask[..., None], data, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is none is said below
        bundle = mask_for_response_ssst(
            gradients, inside, roi_center=centre, roi_radii=radii, fa_thr=ROI_FA
        )
    if not (bundle.astype(bool) & mask).any():
        raise InputError(
            f"no voxel within {ROI_RADIUS} of the brain's middle has an FA above {ROI_FA}, so CSD "
            "has no response; give the model dti only"
        )
    response, _ = response_from_mask_ssst(gradients, inside, bundle)
    return response


def _model(
    name: str, bvals: np.ndarray, bvecs: np.ndarray, response: tuple[np.ndarray, float] | None
) -> Any:
    """DIPY's model for these gradients."""
    from dipy.reconst.csdeconv import ConstrainedSphericalDeconvModel
    from dipy.reconst.dti import TensorModel

    gradients = gradients_of(bvals, bvecs)
    if name == "dti":
        return TensorModel(gradients, fit_method="WLS")
    n_dwi = int(np.sum(bvals > B0_MAX))
    order = max(o for o, n in CSD_COEFFICIENTS.items() if n <= n_dwi)
    return ConstrainedSphericalDeconvModel(gradients, response, sh_order_max=order)


def refuse_folds(folds: int) -> None:
    """Raise InputError for a number of folds that holds nothing out."""
    if folds < 2:
        raise InputError(f"{folds} folds hold nothing out; give 2 or more", 2)


def _refuse(model: str, bvals: np.ndarray, folds: int) -> None:
    """Raise InputError where there is no such model, or a fold can't be fitted or predicted."""
    if model not in MODELS:
        raise InputError(f"there is no model called {model}; give {' or '.join(MODELS)}", 2)
    refuse_folds(folds)
    n_b0 = int(np.sum(bvals <= B0_MAX))
    n_dwi = len(bvals) - n_b0
    fitted, least = n_dwi - -(-n_dwi // folds), LEAST_DIRECTIONS[model]
    if n_b0 == 0 or fitted < least:
        raise InputError(
            f"cross-validation of {model} needs a b=0 and {least} directions in every fit; here "
            f"are {n_b0} and {fitted} of {n_dwi}: give more directions or more folds"
        )
