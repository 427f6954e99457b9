"""The law of the noise: what is known, what can't be, and what a scan shows of it."""

import numpy as np

from ..background import coils_of_background
from ..scaling import LAWS, N_COILS_RANGE
from ..series import InputError, Series


def refuse_law(law: str, n_coils: float | None) -> None:
    """Raise InputError (status 2) for a law, or a number of coils, that noise can't have."""
    low, high = N_COILS_RANGE
    if law not in ("auto", *LAWS):
        known = ", ".join(("auto", *LAWS))
        raise InputError(f"noise law {law!r} is not known; choose from {known}", 2)
    if n_coils is None:
        return
    if not low <= n_coils <= high:  # NaN fails too
        raise InputError(f"{n_coils:g} coils can't be; give a number from {low:g} to {high:g}", 2)
    if law in ("gaussian", "rician") and n_coils != 1:
        raise InputError(f"{law} noise has no number of coils; leave it out or say nc-chi", 2)


def law_of(
    series: Series, mask: np.ndarray, law: str, n_coils: float | None
) -> tuple[str, float, str]:
    """Distribution and N, and in words what the background added."""
    refuse_law(law, n_coils)
    if law in ("rician", "nc-chi") and series.parts is not None:
        raise InputError(
            f"complex data have Gaussian noise and no {law} one; leave --noise-law out", 2
        )
    if law == "auto":
        is_signed = np.iscomplexobj(series.data) or bool(
            (series.data.min(axis=(0, 1, 2)) < 0).any()
        )
        law = "gaussian" if is_signed else "rician" if n_coils in (None, 1) else "nc-chi"
    if law == "gaussian":
        return law, 1.0, ""
    if law == "rician" or n_coils is not None:
        return law, 1.0 if law == "rician" else float(n_coils or 1), ""
    coils = coils_of_background(series.data, mask)
    if coils is None:
        raise InputError(
            "the number of coils can't be read from the background of this scan; "
            "give --coils, or --noise-law rician"
        )
    return law, coils, f"; N = {coils:.1f} from the background"
