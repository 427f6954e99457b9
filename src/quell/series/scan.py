"""What a scan is, and how a bad one is spoken of."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ..mif import MIF_ENDINGS, Header

B0_MAX = 50.0  # s/mm²; volumes at or below it count as b=0
FOURTH_AXES = ("directions", "repetitions", "contrasts", "echoes")
NIFTI_ENDINGS = (".nii.gz", ".nii")
IMAGE_ENDINGS = (*MIF_ENDINGS, *NIFTI_ENDINGS)


class InputError(ValueError):
    """What is wrong, where, and what to do, in one sentence; the command line exits with status."""

    def __init__(self, sentence: str, status: int = 1) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Series:
    """One scan: volumes on a common grid, and what is known about them."""

    data: np.ndarray  # (X, Y, Z, V) float32, complex64 when complex
    affine: np.ndarray  # (4, 4) mm
    header: nib.Nifti1Header | nib.Nifti2Header  # the input's own, or one of the same grid
    bvals: np.ndarray | None = None  # (V,) s/mm²
    bvecs: np.ndarray | None = None  # (V, 3), zeros for b0
    mask: np.ndarray | None = None  # (X, Y, Z) bool, where to estimate and measure
    fourth_axis: str = "directions"  # what the 4th axis means: one of FOURTH_AXES
    path: Path | None = None
    sidecar: dict[str, Any] = field(default_factory=dict)  # BIDS json, untrusted text
    n_nonfinite: int = 0  # NaN/Inf values of the file, set to 0 in data
    stored_dtype: str = "float32"  # on disk
    bval_path: Path | None = None
    bvec_path: Path | None = None
    nonfinite: np.ndarray | None = None  # (X, Y, Z) bool, NaN/Inf in any volume; None: nowhere
    parts: np.ndarray | None = None  # (V,) 0 real, 1 imaginary: of demodulated complex data
    is_one_image: bool = False  # the file is 3-D: V = 1, and what is written is 3-D, too
    contrasts: np.ndarray | None = None  # (X, Y, Z, K) of the same anatomy, shown, not denoised
    mif: Header | None = None  # of a file of MRtrix

    @property
    def n_volumes(self) -> int:
        """V."""
        return int(self.data.shape[3])

    @property
    def is_b0(self) -> np.ndarray:
        """(V,) bool; all False when the b-values are not known."""
        if self.bvals is None:
            return np.zeros(self.n_volumes, dtype=bool)
        return np.asarray(self.bvals <= B0_MAX)

    @property
    def where(self) -> np.ndarray:
        """(X, Y, Z) bool, the mask; everywhere when there is none."""
        return np.ones(self.data.shape[:3], dtype=bool) if self.mask is None else self.mask

    @property
    def voxel_mm(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel, mm."""
        x, y, z = nib.affines.voxel_sizes(self.affine)
        return float(x), float(y), float(z)


def stem(path: Path) -> Path:
    """The path without its .nii, .nii.gz, .mif, .mif.gz or .mih ending."""
    path = Path(path)
    for ending in IMAGE_ENDINGS:
        if path.name.lower().endswith(ending) and len(path.name) > len(ending):
            return path.with_name(path.name[: -len(ending)])
    return path


def first_line(error: BaseException) -> str:
    """The beginning of another library's message, on one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]
