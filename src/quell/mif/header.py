"""Header: the text at the start of an MRtrix image, and what it says of the voxels.

Here    A header is untrusted: it ends within `LONGEST`, its numbers are looked at before memory is
        asked for, and its data lie behind it or in a file of the same folder. Lines that MRtrix
        does not ask for are kept as they stand.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .layout import N_SPACE, Layout

FIRST = b"mrtrix image"
END = re.compile(rb"\nEND[ \t\r]{0,8}\n")
LAST = re.compile(rb"\nEND[ \t\r]{0,8}\Z")  # where nothing comes behind it
OVERLAP = 16  # bytes of END that may stand in two pieces
LONGEST = 2**24  # bytes; a scheme of a thousand directions takes 2^16
PIECE = 2**16
MOST_AXES = 16
GRID = ("dim", "vox", "layout", "datatype", "transform", "scaling", "file")  # MRtrix's own keys
KINDS = {
    "bit": "?", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4",
    "uint32": "u4", "int64": "i8", "uint64": "u8", "float16": "f2", "float32": "f4",
    "float64": "f8", "cfloat32": "c8", "cfloat64": "c16",
}  # fmt: skip


class MifError(ValueError):
    """What is wrong with a file, and what to do, in one sentence."""


@dataclass(frozen=True)
class Header:
    """What the text says.

    entries  all its lines, key and value, in order, without `file`
    """

    dim: tuple[int, ...]  # of its own axes
    vox: tuple[float, ...]  # mm, then whatever the others are in
    layout: Layout
    dtype: np.dtype  # with its byte order; bool: eight voxels a byte
    transform: np.ndarray  # (3, 4) directions and the place of voxel 0, mm
    scaling: tuple[float, float]  # value = offset + scale * what is stored
    entries: tuple[tuple[str, str], ...]
    file: str  # "." or a name in the same folder
    offset: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return tuple(self.dim[axis] for axis in self.layout.axes)

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) mm, of the array."""
        own = np.eye(4)
        own[:3] = self.transform
        own[:3, :3] *= [*self.vox[:N_SPACE], *[1.0] * N_SPACE][:N_SPACE]
        return self.layout.affine(own, self.dim)

    @property
    def n_bytes(self) -> int:
        """Of all voxels."""
        n = math.prod(self.dim)
        return (n + 7) // 8 if self.dtype.kind == "b" else n * self.dtype.itemsize

    def lines(self, key: str) -> list[str]:
        """The values of a key that may stand in many lines."""
        return [value for name, value in self.entries if name == key]


def read_text(read: Callable[[int], bytes], path: Path) -> tuple[str, int]:
    """The lines between the first and END, and where END ends.

    read  the next bytes of the file, up to so many
    """
    raw, end = bytearray(), None
    may_lack = path.name.lower().endswith(".mih")  # as MRtrix writes them
    while end is None:
        piece, seen = read(PIECE), max(0, len(raw) - OVERLAP)
        raw += piece
        if raw[: len(FIRST)] != FIRST:
            raise MifError(f"{path} is no MRtrix image, whatever its name says; give another file")
        end = (END if piece else LAST).search(raw, seen)
        if end is None and not piece and may_lack:
            return raw[len(FIRST) :].decode("utf-8", "surrogateescape"), len(raw)
        if end is None and (not piece or len(raw) > LONGEST):
            raise MifError(f"{path} has a header without END; it is damaged, copy it again")
    body = raw[len(FIRST) : end.start()]
    return body.decode("utf-8", "surrogateescape"), end.end()


def parse(text: str, path: Path) -> Header:
    """What the lines of a header say.

    Raises MifError for a header that can't be meant.
    """
    entries = [
        (key.strip(), value.strip())
        for key, colon, value in (line.partition(":") for line in text.split("\n"))
        if colon and key.strip() and value.strip() and not key.lstrip().startswith("#")
    ]
    own = {key.lower(): value.partition("#")[0].strip() for key, value in entries}
    for key in ("dim", "vox", "layout", "datatype", "file"):
        if not own.get(key):
            raise _wrong(path, f"lacks {key!r}")
    dim = _sizes(own["dim"], path)
    vox = _numbers(own["vox"])
    if len(vox) < min(N_SPACE, len(dim)) or not all(0 < v < math.inf for v in vox[:N_SPACE]):
        raise _wrong(path, f"has voxel sizes that are none ({own['vox'][:40]!r})")
    layout = Layout.parse(own["layout"], len(dim))
    if layout is None:
        raise _wrong(path, f"has a layout that orders no {len(dim)} axes ({own['layout'][:40]!r})")
    rows = [value.partition("#")[0] for key, value in entries if key.lower() == "transform"]
    file, offset = _place(own["file"], path)
    return Header(
        dim,
        tuple(vox),
        layout,
        _dtype(own["datatype"], path),
        _transform(rows, dim, vox, path),
        _scaling(own.get("scaling"), path),
        tuple(entry for entry in entries if entry[0].lower() != "file"),
        file,
        offset,
    )


def _sizes(text: str, path: Path) -> tuple[int, ...]:
    words = text.split(",")
    if len(words) > MOST_AXES or not all(re.fullmatch(r"\s*[0-9]{1,18}\s*", w) for w in words):
        raise _wrong(path, f"has a size that is none (dim {text[:40]!r})")
    dim = tuple(map(int, words))
    if 0 in dim:
        raise _wrong(path, f"has no voxels (dim {text[:40]!r})")
    return dim


def _dtype(text: str, path: Path) -> np.dtype:
    """Of a name such as Int16BE; without an order, this machine's own."""
    name, order = text.lower(), ""
    if name.endswith(("le", "be")):
        name, order = name[:-2], "<" if name.endswith("le") else ">"
    if name not in KINDS:
        raise _wrong(path, f"has a datatype that is not known ({text[:40]!r})")
    return np.dtype(order + KINDS[name])


def _transform(rows: list[str], dim: tuple[int, ...], vox: list[float], path: Path) -> np.ndarray:
    """(3, 4); without one the middle of the image is the origin, as MRtrix has it."""
    if not rows:
        middle = [-0.5 * (n - 1) * v for n, v in zip(dim, vox, strict=False)][:N_SPACE]
        return np.c_[np.eye(3), np.array([*middle, 0.0, 0.0, 0.0])[:3]]
    numbers = [_numbers(row) for row in rows[:3]]
    if len(numbers) < 3 or any(len(row) != 4 for row in numbers):
        raise _wrong(path, "has a transform that is not three rows of four numbers")
    found = np.array(numbers)
    if not np.all(np.abs(found) < 1e12) or abs(np.linalg.det(found[:, :3])) < 1e-6:
        raise _wrong(path, "has a transform that puts the image nowhere")
    return found


def _scaling(text: str | None, path: Path) -> tuple[float, float]:
    if text is None:
        return 0.0, 1.0
    numbers = _numbers(text)
    if len(numbers) != 2 or not np.all(np.isfinite(numbers)):
        raise _wrong(path, f"has a scaling that is not offset and scale ({text[:40]!r})")
    return numbers[0], numbers[1]


def _place(text: str, path: Path) -> tuple[str, int]:
    """Name and offset of the data: ". 748", "dwi.dat" or "dwi.dat 0"."""
    name, blank, number = text.rpartition(" ")
    if not blank or not re.fullmatch(r"[0-9]{1,18}", number):
        name, number = text, "0"
    name = name.strip()
    if name in ("", "..") or re.search(r"[/\\\0]", name):
        raise _wrong(path, f"has its data elsewhere ({text[:60]!r}), not in a file beside it")
    return name, int(number)


def _numbers(text: str) -> list[float]:
    """Numbers parted by commas; [] where one is none."""
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        return []


def _wrong(path: Path, what: str) -> MifError:
    return MifError(f"the header of {path} {what}; correct it or convert the scan again")
