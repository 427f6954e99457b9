"""Voxel sizes of a raw scan, from its ISMRMRD header where there is one.

Paper   Inati et al. 2017, Magn Reson Med 77:411 (the ISMRMRD format and its XML header).
Here    Only the first encoding is read: matrix and field of view, as encoded and as reconstructed.
Differs The XML header has no orientation (ISMRMRD keeps it with every readout, which the fastMRI
        and M4Raw files leave out). So voxels have their true size and lie around the origin, and
        both NIfTI codes are 0: where the patient lies in the scanner is not claimed.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nibabel as nib
import numpy as np

from ..series import InputError
from ..series.scan import first_line

HEADER_MAX = 2**24  # characters; real ones have some thousands
NO_SIZES = "voxel sizes are not known and taken as 1 mm"
NO_ORIENTATION = "the header does not say how the patient lay: left and right are not known"


@dataclass(frozen=True)
class Geometry:
    """Voxels of the images that come of a raw scan."""

    voxel_mm: tuple[float, float, float]
    image_size: tuple[int, int]  # voxels along x and y that are kept; the rest is oversampling
    is_true: bool  # whether voxel_mm comes from the scan
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Encoding:
    """Matrix and field of view (mm) along x, y, z, as encoded and as reconstructed."""

    matrix: tuple[float, ...]
    fov: tuple[float, ...]
    recon_matrix: tuple[float, ...]
    recon_fov: tuple[float, ...]


def unknown_geometry(size: tuple[int, int], why: str) -> Geometry:
    """Voxels of 1 mm and no cropping, with the reason as a note."""
    return Geometry((1.0, 1.0, 1.0), size, False, (f"{why}: {NO_SIZES}",))


def geometry_of(header: Any, size: tuple[int, int], path: Path) -> Geometry:
    """Voxels of the images, from an ISMRMRD header.

    header  XML, str or bytes; None where there is none
    size    samples of k-space along x and y

    An axis is cropped to the field of view that was to be reconstructed: that takes off the
    oversampling of the readout, and of the phase encoding where there is any.

    Raises InputError for a header that declares a DOCTYPE.
    """
    encoding, why = _encoding_of(header, path)
    if encoding is None:
        return unknown_geometry(size, why)
    notes, voxels, kept = [NO_ORIENTATION], [], []
    for axis, n in enumerate(size):
        if n not in (encoding.matrix[axis], encoding.recon_matrix[axis]):
            notes.append(f"the header's matrix along {'xy'[axis]} is not that of k-space ({n})")
        is_cropped = n == encoding.recon_matrix[axis] != encoding.matrix[axis]
        fov = (encoding.recon_fov if is_cropped else encoding.fov)[axis]
        voxels.append(fov / n)
        kept.append(max(1, min(n, round(encoding.recon_fov[axis] / voxels[axis]))))
    voxels.append(encoding.fov[2] / encoding.matrix[2])
    notes.append("the header has no slice gap: slices are taken to touch")
    if encoding.matrix[2] > 1:
        notes.append("the header says 3-D: slices are taken to be transformed along z already")
    return Geometry(
        (voxels[0], voxels[1], voxels[2]), (kept[0], kept[1]), is_true=True, notes=tuple(notes)
    )


def image_geometry(header: Any, size: tuple[int, int], path: Path) -> Geometry:
    """Voxels of images that are reconstructed already: nothing is cropped.

    header  XML, str or bytes; None where there is none
    size    voxels along x and y
    """
    encoding, why = _encoding_of(header, path)
    if encoding is None:
        return unknown_geometry(size, why)
    x, y, z = (f / n for f, n in zip(encoding.recon_fov, encoding.recon_matrix, strict=True))
    return Geometry((x, y, z), size, is_true=True, notes=(NO_ORIENTATION,))


def _encoding_of(header: Any, path: Path) -> tuple[Encoding | None, str]:
    """Matrix and field of view of the first encoding; None and why, where they can't be had."""
    if header is None:
        return None, "there is no header"
    try:
        text = header.decode("utf-8-sig") if isinstance(header, bytes) else str(header)
        _refuse_entities(text, path)
        encoding = ElementTree.fromstring(text).find("{*}encoding")
    except (ElementTree.ParseError, UnicodeError) as error:
        return None, f"the header is not readable XML ({first_line(error)})"
    parts = [
        () if encoding is None else _numbers(encoding, f"{{*}}{space}/{{*}}{what}")
        for space in ("encodedSpace", "reconSpace")
        for what in ("matrixSize", "fieldOfView_mm")
    ]
    if not all(parts):
        return None, "the header does not give the field of view"
    return Encoding(*parts), ""


def _refuse_entities(text: str, path: Path) -> None:
    """Raise InputError for a header that could make a reader expand or fetch what is not in it."""
    # Entities come in a DOCTYPE only. The text is Unicode here: no encoding can hide one.
    if "<!doctype" in text.lower() or "<!entity" in text.lower():
        raise InputError(
            f"{path}: its ismrmrd_header declares a DOCTYPE, which no ISMRMRD header does; "
            "get the file from its source again"
        )
    if len(text) > HEADER_MAX:
        raise InputError(
            f"{path}: its ismrmrd_header is {len(text)} letters long, which no header is; "
            "get the file from its source again"
        )


def _numbers(encoding: ElementTree.Element, place: str) -> tuple[float, ...]:
    """x, y and z below a place of the header; () unless all three are positive numbers."""
    found = [encoding.findtext(f"{place}/{{*}}{axis}") for axis in "xyz"]
    try:
        numbers = tuple(float(text or "nan") for text in found)
    except ValueError:
        return ()
    return numbers if all(math.isfinite(n) and n > 0 for n in numbers) else ()


def nifti_header(shape: tuple[int, ...], voxel_mm: tuple[float, ...], is_true: bool) -> Any:
    """A NIfTI-1 header for images of known voxel size and unknown orientation.

    shape     (X, Y, Z, V)
    voxel_mm  edges of a voxel
    is_true   whether those are the scan's; the unit is left open if not

    qform and sform codes are 0, "orientation unknown", so that no viewer writes left or right at
    an image of which nobody knows. Readers then take the voxel sizes and centre the grid, with x
    running from right to left: `centred_affine` is that same grid.
    """
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_zooms((*voxel_mm, *(1.0,) * (len(shape) - 3)))
    header.set_xyzt_units("mm" if is_true else "unknown", "unknown")
    return header


def centred_affine(shape: tuple[int, ...], voxel_mm: tuple[float, ...]) -> np.ndarray:
    """(4, 4) mm: a grid around the origin, as NIfTI readers lay it where both codes are 0."""
    return np.asarray(nifti_header(shape, voxel_mm, True).get_base_affine(), dtype=float)
