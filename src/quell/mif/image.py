"""Image: an MRtrix file that is read, with the attributes of nibabel's images."""

import gzip
import json
import mmap
import zlib
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

import nibabel as nib
import numpy as np

from .header import GRID, LONGEST, Header, MifError, parse, read_text

TIGHTEST = 1100  # deflate cannot pack more than about 1032 : 1
OF_AXES = ("PhaseEncodingDirection", "SliceEncodingDirection")  # i, j or k, with - for backwards
NO_SIDECAR = {*GRID, "dw_scheme", "prior_dw_scheme", "command_history", "mrtrix_version"}
LETTERS = "ijk"


class MifArray:
    """The voxels, read from disk where they are asked for."""

    def __init__(self, values: np.ndarray, scaling: tuple[float, float]) -> None:
        self.values, self.scaling = values, scaling
        self.shape, self.ndim = values.shape, values.ndim

    def __getitem__(self, index: Any) -> np.ndarray:
        found = self.values[index]
        if self.scaling == (0.0, 1.0):
            return np.array(found, dtype=found.dtype.newbyteorder("="))
        return np.asarray(self.scaling[0] + self.scaling[1] * np.asarray(found, _wide(found)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        found = self[...]
        return found if dtype is None else found.astype(dtype)


class MifImage:
    """One file.

    mif      its header
    shape    of the array: space in the order of the file, then volumes
    affine   (4, 4) mm
    dataobj  the voxels
    header   NIfTI, of the same grid and data type
    """

    def __init__(self, path: Path) -> None:
        """Raises MifError with one sentence for everything that can't be used."""
        is_packed = path.name.lower().endswith(".gz")
        with gzip.open(path) if is_packed else open(path, "rb") as opened:
            file = cast(IO[bytes], opened)
            text, end = _reading(path, lambda: read_text(file.read, path))
            self.mif = parse(text, path)
            if self.mif.file == "." and self.mif.offset < end:
                raise MifError(f"{path} has its data inside of its header; convert it again")
            stored = _unpacked(path, self.mif) if is_packed else _mapped(path, self.mif)
        self.dataobj = MifArray(self.mif.layout.array(stored, self.mif.dim), self.mif.scaling)
        self.shape, self.affine = self.mif.shape, self.mif.affine
        self.header = nifti_header(self.mif)

    @property
    def sidecar(self) -> dict[str, Any]:
        """What the header says beyond the grid, as a BIDS sidecar has it."""
        found: dict[str, Any] = {}
        for key in {key: None for key, _ in self.mif.entries if key.lower() not in NO_SIDECAR}:
            found[key] = _value("\n".join(self.mif.lines(key)))
        for key in OF_AXES:
            if key in found and (turned := self._along_array(str(found[key]))):
                found[key] = turned
        return found

    def _along_array(self, direction: str) -> str | None:
        """A direction such as j- of the header's axes, in the array's."""
        letter, sign = direction[:1], direction[1:]
        if letter not in LETTERS[: len(self.shape)] or not letter or sign not in ("", "-"):
            return None
        layout, axis = self.mif.layout, LETTERS.index(letter)
        is_forward = (sign == "") == layout.is_forward[axis]
        return LETTERS[layout.axes.index(axis)] + ("" if is_forward else "-")


def nifti_header(mif: Header) -> nib.Nifti1Header | nib.Nifti2Header:
    """A NIfTI header of the same grid."""
    header = nib.Nifti1Header() if max(mif.shape) < 2**15 else nib.Nifti2Header()
    if len(mif.shape) <= 7:
        header.set_data_shape(mif.shape)
    lacking = {"bool": "uint8", "float16": "float32"}  # which NIfTI does not have
    header.set_data_dtype(lacking.get(mif.dtype.name, mif.dtype.name))
    header.set_xyzt_units("mm", "sec")
    if len(mif.shape) >= 3:
        header.set_qform(mif.affine, 1)
        header.set_sform(mif.affine, 1)
    if len(mif.vox) > 3 and np.isfinite(mif.vox[3]):
        header["pixdim"][4] = mif.vox[3]
    return header


def _mapped(path: Path, mif: Header) -> np.ndarray:
    """(n,) the stored values, on disk."""
    place = path if mif.file == "." else path.with_name(mif.file)
    if not place.is_file():
        raise MifError(f"{path} has its data in {place}, which is not there; copy both files")
    if place.stat().st_size < mif.offset + mif.n_bytes:
        raise _short(path, mif, place)
    try:
        with open(place, "rb") as file:
            raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise MifError(f"{place} cannot be read ({error}); check its permissions") from None
    return _values(memoryview(raw)[mif.offset : mif.offset + mif.n_bytes], mif)


def _unpacked(path: Path, mif: Header) -> np.ndarray:
    """(n,) the stored values of a packed file, which is read to its end, where its checksum is."""
    if mif.file != ".":
        raise MifError(f"{path} is packed and has its data elsewhere; convert it again")
    if path.stat().st_size * TIGHTEST < mif.offset + mif.n_bytes:
        raise _short(path, mif, path)

    def read() -> bytes:
        with gzip.open(path) as file:
            file.seek(mif.offset)
            raw = file.read(mif.n_bytes)
            while file.read(2**22):
                pass
        return raw

    raw = _reading(path, read)
    if len(raw) < mif.n_bytes:
        raise _short(path, mif, path)
    return _values(raw, mif)


def _values(raw: bytes | memoryview, mif: Header) -> np.ndarray:
    if mif.dtype.kind != "b":
        return np.frombuffer(raw, dtype=mif.dtype)
    n = int(np.prod(mif.dim))
    return np.unpackbits(np.frombuffer(raw, dtype=np.uint8), count=n)  # the highest bit first


def _reading(path: Path, read: Any) -> Any:
    """What `read` gives; damage of a packed file in words."""
    try:
        return read()
    except PermissionError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise MifError(
            f"{path} is damaged or cut short ({str(error)[:80]}); copy or convert it again"
        ) from None


def _short(path: Path, mif: Header, place: Path) -> MifError:
    return MifError(
        f"{path} is cut short: its header promises {mif.n_bytes} bytes of voxels behind byte "
        f"{mif.offset}, which {place.name} does not hold; copy or convert it again"
    )


def _wide(values: np.ndarray) -> type:
    return complex if values.dtype.kind == "c" else float


def _value(text: str) -> Any:
    """A number, numbers with commas, true or false; else the text itself."""
    if len(text) > LONGEST // 16 or "\n" in text:
        return text
    for candidate in (text, f"[{text}]"):
        with suppress(ValueError, RecursionError):
            value = json.loads(candidate, parse_constant=lambda _: None)
            if isinstance(value, int | float | list | dict):
                return value
    return text
