"""Results: what a contestant wrote, read and refused where it is not the scan, denoised."""

from pathlib import Path

import numpy as np

from ..series import InputError, Series, open_scan


def read_result(path: Path, scan: Series) -> np.ndarray:
    """What a contestant wrote, (X, Y, Z, V); InputError where it is not this scan, denoised."""
    if not path.is_file():
        raise InputError("it wrote no result")
    try:
        image = open_scan(path)
        data = np.asarray(image.dataobj, dtype=np.float32)
    except Exception as error:  # nibabel has many
        raise InputError(f"its result can't be read ({type(error).__name__})") from None
    if data.ndim == 3:
        data = data[..., None]
    if data.shape != scan.data.shape or not np.allclose(image.affine, scan.affine, atol=1e-3):
        raise InputError(
            f"its result is {data.shape} and the scan {scan.data.shape}, or lies elsewhere"
        )
    bad = int(np.count_nonzero(~np.isfinite(data[scan.where])))
    if bad:
        raise InputError(f"its result holds {bad} values in the mask that are not numbers")
    return np.nan_to_num(data, copy=False)
