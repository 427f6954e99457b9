"""Reading: NIfTI, MRtrix, FSL gradients, the BIDS sidecar; a bad file is refused in words."""

import gzip
import math
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from ..mif import MIF_ENDINGS, MifError, MifImage, gradients_of
from .beside import beside, read_bvals, read_bvecs, read_sidecar
from .phase import complex_of, radians
from .scan import B0_MAX, InputError, Series, first_line, stem

GRID_TOLERANCE = 1e-3  # largest difference between two affines of one grid, mm
LARGEST = 1e15  # of a value: the sum of the squares of a scan stays a float32
GZIP_MAX_RATIO = 1100  # deflate cannot pack tighter than about 1032 : 1
VOLUMES_AT_ONCE, VALUES_AT_ONCE = 16, 1 << 23  # 16 float32 fill what memory moves at a time
UNREADABLE = (
    OSError, EOFError, ValueError, OverflowError, zlib.error, ImageFileError, HeaderDataError,
)  # fmt: skip


def load(
    path: str | Path,
    bval: str | Path | None = None,
    bvec: str | Path | None = None,
    mask: str | Path | None = None,
    phase: str | Path | None = None,
    sidecar: str | Path | None = None,
) -> Series:
    """Read a scan and whatever stands beside it (bval, bvec, json).

    path     NIfTI or MRtrix file, 4-D, or 3-D for one image
    bval     FSL b-values;   default: beside the scan, under its name or as `bvals`
    bvec     FSL directions; default: beside the scan, under its name or as `bvecs`
    mask     file, 3-D, on the scan's grid: where to estimate and measure
    phase    file, 4-D, on the scan's grid, radians or scanner units: makes the magnitude in `path`
             complex
    sidecar  BIDS json;      default: beside the scan, under its name

    The gradients in the header of an MRtrix file come before those in files beside it.

    Raises InputError with one sentence for everything that cannot be used.
    """
    path = Path(path)
    image = _open(path)
    _refuse_shape(path, image.shape)
    if not np.all(np.isfinite(image.affine)):
        raise InputError(f"the header of {path} says no place in space; convert the scan again")
    _refuse_damaged(path)
    data, bad, n_bad = _read_volumes(path, image)
    if phase is not None:
        angle, lacks_phase, n_without = _read_phase(Path(phase), path, image)
        data = complex_of(data, angle, path)
        data[lacks_phase] = 0
        bad, n_bad = bad | lacks_phase, n_bad + n_without
    return Series(
        data=data,
        affine=np.asarray(image.affine, dtype=float),
        header=image.header,
        mask=None if mask is None else _read_mask(Path(mask), image, bad),
        path=path,
        sidecar=getattr(image, "sidecar", {})
        | read_sidecar(
            Path(sidecar) if sidecar else stem(path).with_name(stem(path).name + ".json")
        ),
        n_nonfinite=n_bad,
        stored_dtype=image.header.get_data_dtype().name,
        nonfinite=bad if n_bad else None,
        is_one_image=len(image.shape) == 3,
        mif=getattr(image, "mif", None),
        **_gradients(path, image, bval, bvec),
    )


def open_scan(path: str | Path) -> Any:  # nibabel declares no type for what it returns here
    """The image of a scan, (X, Y, Z) or (X, Y, Z, V), its voxels not yet read.

    Raises InputError with one sentence for everything that cannot be used.
    """
    image = _open(Path(path))
    _refuse_shape(Path(path), image.shape)
    return image


def sources_of(path: Path) -> list[Path]:
    """The files that a scan is read from: the file itself, and the one an .mih names."""
    if not path.name.lower().endswith(".mih"):
        return [path]
    with suppress(MifError, OSError):
        return [path, path.with_name(MifImage(path).mif.file)]
    return [path]


def bvals_of(path: str | Path, n_volumes: int, bval: str | Path | None = None) -> np.ndarray | None:
    """(V,) s/mm² from `bval` or the file beside the scan, None if there is none."""
    if not bval and Path(path).name.lower().endswith(MIF_ENDINGS):
        own = _own_gradients(Path(path), _open(Path(path)))
        if own is not None:
            return own[0]
    bval_path = Path(bval) if bval else beside(Path(path), "bval", n_volumes)
    return None if bval_path is None else read_bvals(bval_path, n_volumes)


def _gradients(
    path: Path, image: Any, bval: str | Path | None, bvec: str | Path | None
) -> dict[str, Any]:
    """What is known of the gradients, as the fields of a Series."""
    own = None if bval or bvec else _own_gradients(path, image)
    if own is not None:
        return {"bvals": own[0], "bvecs": own[1]}
    n_volumes = image.shape[3] if len(image.shape) == 4 else 1
    bval_path = Path(bval) if bval else beside(path, "bval", n_volumes)
    bvec_path = Path(bvec) if bvec else beside(path, "bvec", n_volumes)
    bvals = None if bval_path is None else read_bvals(bval_path, n_volumes)
    bvecs = None if bvec_path is None else read_bvecs(bvec_path, n_volumes, bvals)
    return {"bvals": bvals, "bvecs": bvecs, "bval_path": bval_path, "bvec_path": bvec_path}


def _own_gradients(path: Path, image: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """b-values and FSL directions out of an MRtrix header, if it has them."""
    lines = image.mif.lines("dw_scheme") if isinstance(image, MifImage) else []
    if not lines:
        return None
    n_volumes = image.shape[3] if len(image.shape) == 4 else 1
    if len(lines) != n_volumes and n_volumes == 1:
        return None  # of the series that the image was made from
    found = gradients_of(lines, image.affine)
    if found is None or len(lines) != n_volumes or found[0].min() < 0:
        raise InputError(
            f"the dw_scheme of {path} is not {n_volumes} rows of x, y, z and b; correct it, or "
            "give --bval and --bvec"
        )
    bvals, bvecs = found
    return bvals, np.where((bvals <= B0_MAX)[:, None], 0.0, bvecs)


def _open(path: Path) -> Any:  # nibabel declares no type for what it returns here
    """The image, its voxels not yet read."""
    if not path.exists():
        raise InputError(f"{path} does not exist; check the path")
    if not path.is_file():
        raise InputError(f"{path} is a folder; give one NIfTI file (.nii or .nii.gz)")
    try:
        if path.name.lower().endswith(MIF_ENDINGS):
            return MifImage(path)
        # one open file for all volumes: gzip then only ever reads forwards
        image = nib.load(path, keep_file_open=True)
    except PermissionError:
        raise InputError(f"{path} may not be read by this user; change its permissions") from None
    except MifError as error:
        raise InputError(str(error)) from error
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
    if min(shape, default=0) < 1:
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
    bad, n_bad, is_constant, most = np.zeros(image.shape[:3], dtype=bool), 0, True, 0.0
    n_at_once = min(VOLUMES_AT_ONCE, max(1, VALUES_AT_ONCE // data[..., 0].size))
    for v in range(0, n_volumes, n_at_once):  # not all: slope and intercept give float64
        block = data[..., v : v + n_at_once]
        try:
            with np.errstate(over="ignore"):
                if len(image.shape) == 4:
                    block[...] = image.dataobj[..., v : v + n_at_once]
                else:
                    block[..., 0] = image.dataobj
        except UNREADABLE as error:
            raise InputError(
                f"{path} breaks off after volume {v} of {n_volumes} ({first_line(error)}); "
                "copy or convert it again"
            ) from error
        bad_here = ~np.isfinite(block)
        if bad_here.any():
            n_bad += int(bad_here.sum())
            block[bad_here] = 0
            bad |= bad_here.any(axis=3)
        most = max(most, float(np.abs(block).max()))
        is_constant = is_constant and bool(np.all(block == data[0, 0, 0, 0]))
    if n_bad == data.size:
        raise InputError(f"{path} holds no numbers, every voxel is NaN or Inf; convert it again")
    if most > LARGEST:
        raise InputError(
            f"{path} holds values up to {most:.2g}, which no scanner measures; its type or its "
            "scaling is wrong: convert it again"
        )
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
    """(X, Y, Z) float32 of a map on the grid of a series, such as a noise map.

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
    image = _as_the_scan(_open(path), affine)
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


def _as_the_scan(image: Any, affine: np.ndarray) -> Any:
    """The image, its axes turned into the order and direction of a scan's where they differ.

    MRtrix takes both for a matter of storage: its tools write a mask in another order than the
    scan's.
    """
    if len(image.shape) < 3 or not np.all(np.isfinite(image.affine)):
        return image
    axes = [nib.orientations.io_orientation(one) for one in (image.affine, affine)]
    if np.isnan(axes).any() or np.array_equal(*axes):
        return image
    turn = nib.orientations.ornt_transform(*axes)
    values = nib.orientations.apply_orientation(np.asarray(image.dataobj), turn)
    turned = image.affine @ nib.orientations.inv_ornt_aff(turn, image.shape[:3])
    return nib.Nifti1Image(values, turned, dtype=values.dtype)
