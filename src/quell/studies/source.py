"""What is scanned: a phantom, or a clean scan of one's own."""

from dataclasses import dataclass, replace

import numpy as np

from ..series import InputError, Series, load, mask_of
from ..simulate.phantom import phantom
from .study import Study


@dataclass(frozen=True)
class Source:
    """What is scanned.

    clean   without noise, with its mask
    name    in words
    signal  what an SNR counts in: of white matter at b=0 in a phantom; of one's own scan the mean
            in the mask, at b=0 where there is any
    tissue  (X, Y, Z) of a phantom
    """

    clean: Series
    name: str
    signal: float
    tissue: np.ndarray | None = None

    @staticmethod
    def of(study: Study) -> "Source":
        """Make it or read it. Raises InputError for a scan that can't be used."""
        return _phantom(study) if study.scan is None else _own(study)


def _phantom(study: Study) -> Source:
    made = phantom(study.phantom)
    clean = chosen(made.clean, study)
    return Source(clean, f"phantom {study.phantom}", made.white_matter_b0, made.tissue)


def _own(study: Study) -> Source:
    assert study.scan is not None
    scan = load(study.scan, study.bval, study.bvec, study.mask)
    if np.iscomplexobj(scan.data):
        raise InputError(f"{study.scan} is complex; give its magnitude")
    if scan.data.min() < 0 and study.noise_law != "gaussian":
        raise InputError(
            f"{study.scan} has negative values, so it is no magnitude; give --law gaussian"
        )
    clean = chosen(replace(scan, mask=mask_of(scan)), study)
    counted = clean.data[..., clean.is_b0] if clean.is_b0.any() else clean.data
    signal = float(counted[clean.where].mean(dtype=np.float64))
    if study.amount.snr is not None and not signal > 0:
        raise InputError(f"{study.scan} has a mean of {signal:g} in its mask; give --sigma")
    return Source(clean, study.scan.name, signal)


def chosen(clean: Series, study: Study) -> Series:
    """All volumes, or one of them as often as it is to be repeated, without its gradient."""
    if study.repetitions is None:
        return clean
    volume, n = study.volume or 0, clean.n_volumes
    if not 0 <= volume < n:
        raise InputError(f"there is no volume {volume}; give one of 0 to {n - 1}", 2)
    if not np.ptp(clean.data[..., volume]) > 0:
        raise InputError(f"volume {volume} is empty; give another --volume")
    data = np.repeat(clean.data[..., volume : volume + 1], study.repetitions, axis=3)
    return replace(
        clean, data=data, fourth_axis="repetitions", is_one_image=False,
        bvals=None, bvecs=None, bval_path=None, bvec_path=None,
    )  # fmt: skip
