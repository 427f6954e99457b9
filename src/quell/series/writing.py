"""Writing: float32 on the input's grid, whole or not at all, and gradients byte for byte."""

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np

from ..mif import MIF_ENDINGS, header_for, packed, scheme_of
from .scan import NIFTI_ENDINGS, InputError, Series, first_line, stem


def write_image(path: Path, array: np.ndarray, like: Series, command: str = "") -> None:
    """Write an array on the grid of a series as NIfTI or for MRtrix, by the ending of the name.

    command  what made it, for the history in an MRtrix header

    The rest as `write_nifti`.
    """
    is_mif = Path(path).name.lower().endswith(MIF_ENDINGS)
    _write_mif(Path(path), array, like, command) if is_mif else write_nifti(path, array, like)


def parts_of(path: Path) -> list[Path]:
    """The files of an image: one, or the .mih and the .dat that holds its voxels."""
    is_two = path.name.lower().endswith(".mih")
    return [path.with_name(path.name[:-4] + ".dat"), path] if is_two else [path]


def _write_mif(path: Path, array: np.ndarray, like: Series, command: str) -> None:
    """Axes, order of the voxels and all lines of the header as the series has them."""
    if like.is_one_image and array.shape[3:] == (1,):
        array = array[..., 0]
    header = header_for(array.shape, like.affine, like.mif, float(like.header["pixdim"][4]))
    scheme = None
    is_whole = array.shape[3:] == like.data.shape[3:]
    if is_whole and like.bvals is not None and like.bvecs is not None:
        is_own = like.mif is not None and like.bval_path is None and like.bvec_path is None
        scheme = None if is_own else scheme_of(like.bvals, like.bvecs, like.affine)
    data, place = parts_of(path)[0], path
    text, voxels = packed(header, array, scheme, command, "" if data == place else data.name)
    if data != place:
        with replacing(data) as file:
            file.write(voxels)
        voxels = b""
    with replacing(place) as file:
        if path.name.lower().endswith(".gz"):
            with gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as stream:
                stream.write(text)
                stream.write(voxels)
        else:
            file.write(text)
            file.write(voxels)


def write_nifti(path: Path, array: np.ndarray, like: Series) -> None:
    """Write an array on the grid of a series, whole or not at all.

    path   .nii or .nii.gz
    array  (X, Y, Z) or (X, Y, Z, V), written as float32 with slope 1 (complex64 when complex)
    like   the series whose affine, qform, sform, codes, units, TR and intent are kept

    Raises InputError if the file cannot be written; nothing is left behind then.
    """
    path = Path(path)
    if not path.name.lower().endswith(NIFTI_ENDINGS):
        raise InputError(f"{path} must end in .nii or .nii.gz", status=2)
    if array.ndim not in (3, 4) or array.shape[:3] != like.data.shape[:3]:
        raise ValueError(f"array {array.shape} is not on the grid of {like.data.shape}")
    if like.is_one_image and array.shape[3:] == (1,):
        array = array[..., 0]
    _write(path, array, like, np.complex64 if np.iscomplexobj(array) else np.float32)


def write_mask(path: Path, mask: np.ndarray, like: Series) -> None:
    """Write a mask (X, Y, Z) on the grid of a series as 0 and 1, whole or not at all.

    Raises InputError if the file cannot be written; nothing is left behind then.
    """
    _write(Path(path), mask.astype(np.uint8), like, np.uint8)


def _write(path: Path, array: np.ndarray, like: Series, dtype: type[np.generic]) -> None:
    header = like.header.copy()
    header.set_data_dtype(dtype)
    header.set_slope_inter(1, 0)
    is_nifti2 = isinstance(like.header, nib.Nifti2Header)
    kind = nib.Nifti2Image if is_nifti2 else nib.Nifti1Image
    image = kind(np.asarray(array, dtype=dtype), like.affine, header)
    image.header["pixdim"][4:] = like.header["pixdim"][4:]  # the TR, which nibabel drops in 3-D
    with replacing(path) as file:
        if path.name.lower().endswith(".gz"):  # no name, no time: same array, same bytes
            with gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(file)


def copy_gradients(series: Series, path: Path) -> list[Path]:
    """Copy the scan's .bval and .bvec byte for byte beside `path`; return what was written.

    Those of an MRtrix header are written as FSL has them.
    """
    written = []
    for source, rows, ending in (
        (series.bval_path, series.bvals, ".bval"),
        (series.bvec_path, series.bvecs, ".bvec"),
    ):
        target = stem(path).with_name(stem(path).name + ending)
        if source is not None:
            with replacing(target) as file:
                file.write(source.read_bytes())
        elif rows is not None and series.mif is not None:
            with replacing(target) as file:
                np.savetxt(file, np.atleast_2d(rows.T), fmt="%.10g")
        else:
            continue
        written.append(target)
    return written


@contextmanager
def replacing(path: Path) -> Iterator[io.BufferedWriter]:
    """A file that appears under `path` only once it is complete and on disk."""
    # short, whatever the length of the file's own name
    name = f".quell-{os.getpid()}-{zlib.crc32(os.fsencode(path.name)):08x}.part"
    temporary = path.with_name(name)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise InputError(
            f"{path} cannot be written ({reason}); free space or choose another place"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
