"""Raw files: k-space or finished images of fastMRI and M4Raw, and arrays whose axes are named.

Paper   Zbontar et al. 2018, arXiv:1811.08839 (fastMRI); Lyu et al. 2023, Sci Data 10:264 (M4Raw):
        one HDF5 file a scan, `kspace` as slices x coils x readout x phase.
Here    Whatever is wrong with a file is said here in one sentence, before any work is done.
"""

from pathlib import Path
from typing import Any

import numpy as np

from ..series import InputError, Series
from .acquisition import AXES, KSpace
from .contents import (
    HDF5_ENDINGS,
    MATLAB_ENDINGS,
    choose_dataset,
    opened_hdf5,
    read_dataset,
    read_matlab,
    read_numpy,
    refuse_path,
)
from .coverage import refuse_gaps
from .geometry import (
    centred_affine,
    geometry_of,
    image_geometry,
    nifti_header,
)

FASTMRI_AXES = {3: "z,x,y", 4: "z,coil,x,y"}  # by the number of dimensions
IMAGES = ("reconstruction_rss", "reconstruction_esc")


def load_kspace(path: str | Path, axes: str | None = None, key: str | None = None) -> KSpace:
    """Read a fully sampled Cartesian raw scan.

    path  HDF5 as fastMRI and M4Raw write it (.h5), MATLAB (.mat) or NumPy (.npy)
    axes  what the axes of the array are, in order, such as "x,coil,y": each of x (readout),
          y (phase), z (slice), coil and repetition once, x and y always; default: that of fastMRI
    key   name of the array in the file; default: `kspace`, or the only complex array

    Along x and y the array is k-space with its centre in the middle; slices are slices already.

    Raises InputError with one sentence for everything that cannot be used.
    """
    path = Path(path)
    refuse_path(path)
    header = mask = None
    if path.name.lower().endswith(HDF5_ENDINGS):
        array, header, mask, has_known_axes = _read_hdf5(path, key)
    else:
        is_matlab = path.name.lower().endswith(MATLAB_ENDINGS)
        array, has_known_axes = read_matlab(path, key) if is_matlab else read_numpy(path), False
    _refuse_real(array, path)
    data = _arranged(array, _axes_of(array, axes, has_known_axes, path))
    del array  # a scan may take half of the memory
    _refuse_values(data, path)
    lines = _lines(mask, data.shape[1], path)
    notes = refuse_gaps(data, lines, path)
    geometry = geometry_of(header, data.shape[:2], path)
    shape = (*geometry.image_size, data.shape[2])
    return KSpace(
        data=data,
        affine=centred_affine(shape, geometry.voxel_mm),
        is_affine_true=geometry.is_true,
        image_size=geometry.image_size,
        mask=lines,
        path=path,
        notes=notes + geometry.notes,
    )


def load_images(path: str | Path) -> Series:
    """Read the reconstructed images of a fastMRI or M4Raw file: one magnitude volume.

    path  HDF5 (.h5) with `reconstruction_rss` or `reconstruction_esc`, slices x readout x phase

    Raises InputError with one sentence for everything that cannot be used.
    """
    path = Path(path)
    refuse_path(path)
    with opened_hdf5(path) as file:
        name = next((name for name in IMAGES if name in file), IMAGES[0])
        array = np.asarray(read_dataset(file, name, path))
        header = read_dataset(file, "ismrmrd_header", path) if "ismrmrd_header" in file else None
    if array.ndim != 3 or array.dtype.kind not in "iuf":
        raise InputError(
            f"{path} has {array.ndim} dimensions of {array.dtype} in {name}, and slices x readout "
            "x phase of magnitudes are needed; give a file as fastMRI writes it"
        )
    _refuse_values(array, path)
    data = np.ascontiguousarray(array.transpose(1, 2, 0)[..., None], dtype=np.float32)
    geometry = image_geometry(_scalar(header), data.shape[:2], path)
    return Series(
        data=data,
        affine=centred_affine(data.shape[:3], geometry.voxel_mm),
        header=nifti_header(data.shape, geometry.voxel_mm, geometry.is_true),
        fourth_axis="repetitions",
        path=path,
        sidecar={"Notes": list(geometry.notes)},
        stored_dtype=array.dtype.name,
    )


def _read_hdf5(path: Path, key: str | None) -> tuple[np.ndarray, Any, Any, bool]:
    """The array, its header, the mask of its lines, and whether its axes are fastMRI's."""
    with opened_hdf5(path) as file:
        name = choose_dataset(file, path, key)
        array = np.asarray(read_dataset(file, name, path))
        header, mask = (
            read_dataset(file, extra, path) if extra in file else None
            for extra in ("ismrmrd_header", "mask")
        )
    return array, _scalar(header), mask, name == "kspace"


def _scalar(value: Any) -> Any:
    """The text of a header, which some writers put into an array of one."""
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else None
    return value if value is None or isinstance(value, bytes) else str(value)


def _axes_of(array: np.ndarray, axes: str | None, has_known_axes: bool, path: Path) -> list[str]:
    """The name of each axis, as given or as fastMRI has them."""
    size = " x ".join(map(str, array.shape))
    if axes is None and has_known_axes:
        axes = FASTMRI_AXES.get(array.ndim)
    if axes is None:
        raise InputError(
            f"{path} has {array.ndim} axes ({size}) that no name goes with; "
            f"name them with --axes, each once out of {', '.join(AXES)}, such as --axes x,coil,y",
            2,
        )
    names = [name.strip().lower() for name in axes.split(",")]
    if unknown := [name for name in names if name not in AXES]:
        raise InputError(f"no axis is called '{unknown[0]}'; use {', '.join(AXES)}", 2)
    if len(set(names)) != len(names):
        raise InputError(f"the axes {axes} name one twice; name each once", 2)
    if not {"x", "y"} <= set(names):
        raise InputError(f"the axes {axes} lack x (readout) or y (phase); name both", 2)
    if len(names) != array.ndim:
        raise InputError(
            f"{path} has {array.ndim} axes ({size}) and {axes} names {len(names)}; "
            "name each of them once",
            2,
        )
    return names


def _arranged(array: np.ndarray, names: list[str]) -> np.ndarray:
    """(X, Y, Z, N, V) complex64, axes that are not there having one entry."""
    present = [name for name in AXES if name in names]
    array = array.transpose([names.index(name) for name in present])
    missing = [i for i, name in enumerate(AXES) if name not in names]
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
        return np.ascontiguousarray(np.expand_dims(array, missing), dtype=np.complex64)


def _refuse_real(array: np.ndarray, path: Path) -> None:
    if array.dtype.kind != "c":
        what = "real numbers" if array.dtype.kind in "iufb" else f"no numbers ({array.dtype})"
        raise InputError(
            f"{path} holds {what}, and k-space is complex; give the raw data, not an image or its "
            "magnitude"
        )


def _refuse_values(array: np.ndarray, path: Path) -> None:
    if array.size == 0:
        size = " x ".join(map(str, array.shape))
        raise InputError(f"{path} holds no samples ({size}); export the scan again")
    if not np.all(np.isfinite(array)):
        raise InputError(f"{path} holds values that are NaN or infinite; export the scan again")
    if not np.any(array):
        raise InputError(f"{path} is empty, every sample is 0; export the scan again")


def _lines(mask: Any, n_lines: int, path: Path) -> np.ndarray | None:
    """(Y,) bool: the lines that were measured, by the mask of the file."""
    if mask is None:
        return None
    mask = np.asarray(mask)
    if mask.size != n_lines or mask.dtype.kind not in "biuf":
        size = " x ".join(map(str, mask.shape))
        raise InputError(
            f"{path} has a mask of {size} and {n_lines} lines of k-space; give a file as fastMRI "
            "writes it"
        )
    return mask.ravel() != 0
