"""Reading: NIfTI-1 and -2, FSL gradients and the BIDS sidecar; a bad file is refused in words."""

import gzip
import json
import math
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from .phase import complex_of, radians
from .scan import B0_MAX, InputError, Series, first_line, stem

GRID_TOLERANCE = 1e-3  # largest difference between two affines of one grid, mm
GZIP_MAX_RATIO = 1100  # deflate cannot pack tighter than about 1032 : 1
UNREADABLE = (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError)


def load(
    path: str | Path,
    bval: str | Path | None = None,
    bvec: str | Path | None = None,
    mask: str | Path | None = None,
    phase: str | Path | None = None,
    sidecar: str | Path | None = None,
) -> Series:
    """Read a scan and whatever stands beside it (bval, bvec, json).

    path     NIfTI file, 4-D, or 3-D for one image
    bval     FSL b-values;   default: beside the scan, under its name or as `bvals`
    bvec     FSL directions; default: beside the scan, under its name or as `bvecs`
    mask     NIfTI file, 3-D, on the scan's grid: where to estimate and measure
    phase    NIfTI file, 4-D, on the scan's grid, radians or scanner units: makes the magnitude in
             `path` complex
    sidecar  BIDS json;    default: beside the scan, under its name

    Raises InputError with one sentence for everything that cannot be used.
    """
    path = Path(path)
    image = _open(path)
    _refuse_shape(path, image.shape)
    _refuse_damaged(path)
    data, bad, n_bad = _read_volumes(path, image)
    if phase is not None:
        angle, lacks_phase, n_without = _read_phase(Path(phase), path, image)
        data = complex_of(data, angle, path)
        data[lacks_phase] = 0
        bad, n_bad = bad | lacks_phase, n_bad + n_without
    bval_path = Path(bval) if bval else _beside(path, "bval", data.shape[3])
    bvec_path = Path(bvec) if bvec else _beside(path, "bvec", data.shape[3])
    bvals = None if bval_path is None else _read_bvals(bval_path, data.shape[3])
    bvecs = None if bvec_path is None else _read_bvecs(bvec_path, data.shape[3], bvals)
    return Series(
        data=data,
        affine=np.asarray(image.affine, dtype=float),
        header=image.header,
        bvals=bvals,
        bvecs=bvecs,
        mask=None if mask is None else _read_mask(Path(mask), image, bad),
        path=path,
        sidecar=_read_sidecar(
            Path(sidecar) if sidecar else stem(path).with_name(stem(path).name + ".json")
        ),
        n_nonfinite=n_bad,
        stored_dtype=image.header.get_data_dtype().name,
        bval_path=bval_path,
        bvec_path=bvec_path,
        nonfinite=bad if n_bad else None,
        is_one_image=len(image.shape) == 3,
    )


def open_scan(path: str | Path) -> Any:  # nibabel declares no type for what it returns here
    """The NIfTI image of a scan, (X, Y, Z) or (X, Y, Z, V), its voxels not yet read.

    Raises InputError with one sentence for everything that cannot be used.
    """
    image = _open(Path(path))
    _refuse_shape(Path(path), image.shape)
    return image


def bvals_of(path: str | Path, n_volumes: int, bval: str | Path | None = None) -> np.ndarray | None:
    """(V,) s/mm² from `bval` or the file beside the scan, None if there is none."""
    bval_path = Path(bval) if bval else _beside(Path(path), "bval", n_volumes)
    return None if bval_path is None else _read_bvals(bval_path, n_volumes)


def _open(path: Path) -> Any:  # nibabel declares no type for what it returns here
    """The NIfTI image, its voxels not yet read."""
    if not path.exists():
        raise InputError(f"{path} does not exist; check the path")
    if not path.is_file():
        raise InputError(f"{path} is a folder; give one NIfTI file (.nii or .nii.gz)")
    try:
        # one open file for all volumes: gzip then only ever reads forwards
        image = nib.load(path, keep_file_open=True)
    except PermissionError:
        raise InputError(f"{path} may not be read by this user; change its permissions") from None
    except UNREADABLE as error:
        raise InputError(
            f"{path} is not a readable NIfTI file ({first_line(error)}); give a .nii or .nii.gz"
        ) from error
    if not isinstance(image, nib.Nifti1Image | nib.Nifti2Image):
        raise InputError(
            f"{path} is not NIfTI but {type(image).__name__}; convert it to .nii or .nii.gz"
        )
    if image.header.get_data_dtype().kind not in "iufc":
        raise InputError(f"{path} holds colours, not intensities; give the scan itself")
    _refuse_short(path, image)
    return image


def _refuse_short(path: Path, image: Any) -> None:
    """Raise InputError if the file cannot hold the voxels its header promises."""
    needed = math.prod(image.shape) * image.header.get_data_dtype().itemsize
    present = path.stat().st_size
    if path.name.lower().endswith(".gz"):
        present *= GZIP_MAX_RATIO
    if present < needed:
        raise InputError(
            f"{path} is cut short: its header promises {needed} bytes of voxels, the file cannot "
            "hold them; copy or convert it again"
        )


def _refuse_damaged(path: Path) -> None:
    """Raise InputError if a .gz file ends early or fails its checksum, which stands at its end."""
    if not path.name.lower().endswith(".gz"):
        return
    try:
        with gzip.open(path) as file:
            while file.read(2**22):
                pass
    except UNREADABLE as error:
        raise InputError(
            f"{path} is damaged or cut short ({first_line(error)}); copy or convert it again"
        ) from error


def _refuse_shape(path: Path, shape: tuple[int, ...]) -> None:
    """Raise InputError unless the scan is (X, Y, Z, V), or one image (X, Y, Z)."""
    size = " x ".join(map(str, shape))
    if math.prod(shape) == 0:
        raise InputError(f"{path} holds no voxels ({size}); convert the scan again")
    if len(shape) < 3:
        raise InputError(
            f"{path} is a single slice ({size}); save it as a volume of one slice ({size} x 1)"
        )
    if len(shape) > 4:
        raise InputError(
            f"{path} has {len(shape)} dimensions ({size}); give a 4-D file, one volume per entry "
            "of the 4th axis"
        )


def _read_volumes(path: Path, image: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """Data (X, Y, Z, V), where a voxel is NaN/Inf in some volume (X, Y, Z), and how many values."""
    is_complex = image.header.get_data_dtype().kind == "c"
    n_volumes = image.shape[3] if len(image.shape) == 4 else 1
    dtype = np.complex64 if is_complex else np.float32
    data = np.empty((*image.shape[:3], n_volumes), dtype=dtype)
    bad, n_bad, is_constant = np.zeros(image.shape[:3], dtype=bool), 0, True
    for v in range(n_volumes):  # one volume at a time: slope and intercept give float64
        try:
            with np.errstate(over="ignore"):
                data[..., v] = image.dataobj[..., v] if len(image.shape) == 4 else image.dataobj
        except UNREADABLE as error:
            raise InputError(
                f"{path} breaks off at volume {v} of {n_volumes} ({first_line(error)}); "
                "copy or convert it again"
            ) from error
        bad_here = ~np.isfinite(data[..., v])
        if bad_here.any():
            n_bad += int(bad_here.sum())
            data[bad_here, v] = 0
            bad |= bad_here
        is_constant = is_constant and bool(np.all(data[..., v] == data[0, 0, 0, 0]))
    if n_bad == data.size:
        raise InputError(f"{path} holds no numbers, every voxel is NaN or Inf; convert it again")
    if is_constant:
        value = data[0, 0, 0, 0]
        raise InputError(f"{path} is empty, every voxel is {value:g}; convert the scan again")
    return data, bad, n_bad


def _read_phase(path: Path, scan: Path, image: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """Radians (X, Y, Z, V), where they are NaN/Inf in some volume (X, Y, Z), and how many."""
    phase = _open(path)
    if phase.shape != image.shape:
        raise InputError(
            f"phase {path} is {' x '.join(map(str, phase.shape))} and the magnitude "
            f"{' x '.join(map(str, image.shape))}; give the phase of this scan"
        )
    off = float(np.abs(phase.affine - image.affine).max())
    if not off <= GRID_TOLERANCE:
        raise InputError(
            f"phase {path} lies elsewhere than {scan} (affines differ by {off:.3g}); "
            "give the phase of this scan"
        )
    _refuse_damaged(path)
    values, bad, n_bad = _read_volumes(path, phase)
    return radians(values, path), bad, n_bad


def load_map(path: str | Path, like: Series) -> np.ndarray:
    """(X, Y, Z) float32 of a NIfTI map on the grid of a series, such as a noise map.

    Raises InputError for a map on another grid.
    """
    return _read_on_grid(Path(path), like.data.shape, like.affine, "map").astype(np.float32)


def _read_mask(path: Path, scan: Any, bad: np.ndarray) -> np.ndarray:
    """(X, Y, Z) bool: the mask file above one half, without the scan's NaN/Inf voxels."""
    mask = (_read_on_grid(path, scan.shape, scan.affine, "mask") > 0.5) & ~bad
    if not mask.any():
        raise InputError(f"mask {path} is empty; give one that holds the brain, or none at all")
    return mask


def _read_on_grid(path: Path, scan: tuple[int, ...], affine: np.ndarray, what: str) -> np.ndarray:
    """(X, Y, Z) of a file that must be one 3-D image on the scan's grid."""
    image = _open(path)
    shape = image.shape[:3] if image.shape[3:] == (1,) else image.shape
    if len(shape) != 3:
        raise InputError(f"{what} {path} has {len(shape)} dimensions; a {what} is one 3-D image")
    if shape != scan[:3]:
        raise InputError(
            f"{what} {path} is {' x '.join(map(str, shape))} and the scan "
            f"{' x '.join(map(str, scan[:3]))}; make the {what} on the scan's grid"
        )
    off = float(np.abs(image.affine - affine).max())
    if not off <= GRID_TOLERANCE:
        raise InputError(
            f"{what} {path} lies elsewhere than the scan (affines differ by {off:.3g}); "
            f"make the {what} on the scan's grid"
        )
    try:
        return np.asarray(image.dataobj).reshape(shape)
    except UNREADABLE as error:
        raise InputError(f"{what} {path} cannot be read ({first_line(error)})") from error


def _beside(path: Path, kind: str, n_volumes: int) -> Path | None:
    """The gradient file of `kind` ("bval" or "bvec") that belongs to the scan, if there is one."""
    own = stem(path)
    for ending in (f".{kind}", f".{kind}s"):
        if (found := own.with_name(own.name + ending)).is_file():
            return found
    shared = [p for name in (kind, f"{kind}s") if (p := path.parent / name).is_file()]
    if len(shared) != 1:
        return None
    n_numbers = n_volumes * (1 if kind == "bval" else 3)
    is_own = _read_numbers(shared[0]).size == n_numbers  # a folder's file may be another scan's
    return shared[0] if is_own else None


def _read_numbers(path: Path) -> np.ndarray:
    """(rows, columns) of a text file of numbers, split by blanks, tabs or commas."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; check the path")
    try:
        lines = path.read_text(encoding="utf-8-sig").replace(",", " ").splitlines()
        rows = [[float(word) for word in line.split()] for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is not a text file of numbers ({first_line(error)}); give FSL bval and bvec"
        ) from error
    if not rows or len({len(row) for row in rows}) != 1:
        raise InputError(f"{path} has no rows, or rows of unequal length; give FSL bval and bvec")
    return np.array(rows)


def _read_bvals(path: Path, n_volumes: int) -> np.ndarray:
    """(V,) s/mm², written as a row or a column."""
    bvals = _read_numbers(path)
    if 1 not in bvals.shape or bvals.size != n_volumes:
        raise InputError(
            f"{path} holds {bvals.size} b-values and the scan {n_volumes} volumes; "
            "give the file of this scan"
        )
    if not np.all(np.isfinite(bvals)) or bvals.min() < 0:
        raise InputError(f"{path} holds a b-value that is negative or not a number; correct it")
    return bvals.ravel()


def _read_bvecs(path: Path, n_volumes: int, bvals: np.ndarray | None) -> np.ndarray:
    """(V, 3) directions, written 3 x V or V x 3; b0 volumes have none and get zeros."""
    bvecs = _read_numbers(path)
    if bvecs.shape == (3, n_volumes):
        bvecs = bvecs.T
    if bvecs.shape != (n_volumes, 3):
        rows, columns = bvecs.shape
        raise InputError(
            f"{path} is {rows} x {columns} and the scan has {n_volumes} volumes; "
            f"3 x {n_volumes} is needed: give the file of this scan"
        )
    if bvals is not None:
        bvecs = np.where((bvals <= B0_MAX)[:, None], 0.0, bvecs)
    if not np.all(np.isfinite(bvecs)):
        raise InputError(f"{path} holds a direction that is not a number; correct it")
    return bvecs


def _read_sidecar(path: Path) -> dict[str, Any]:
    """The json beside the scan, {} if there is none."""
    if not path.is_file():
        return {}
    try:
        sidecar = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not readable JSON ({first_line(error)}); correct it or move it away"
        ) from error
    if not isinstance(sidecar, dict):
        raise InputError(f"{path} is not a BIDS sidecar (an object with keys); move it away")
    return sidecar
