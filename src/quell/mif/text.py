"""Text: the header of an MRtrix image that is written, as its scan's where that is one, too."""

from collections.abc import Sequence
from importlib.metadata import version

import nibabel as nib
import numpy as np

from .header import FIRST, GRID, Header
from .layout import N_SPACE, Layout

OF_VOLUMES = ("dw_scheme", "pe_scheme")  # one line a volume
HISTORY = "command_history"
ALIGNED = 4  # bytes that the offset of the data is a multiple of
ROOM = 32  # bytes for "file: . ", the offset and END


def header_for(
    shape: tuple[int, ...], affine: np.ndarray, like: Header | None, tr: float = 1.0
) -> Header:
    """The header of an array on the grid of a scan.

    shape   (X, Y, Z) or (X, Y, Z, V)
    affine  (4, 4) mm, of the array
    like    of the scan, whose axes, order and other lines are kept; None where that is NIfTI: its
            axes then point right, forwards and upwards as nearly as they can, as MRtrix has it
    tr      what lies between two volumes; 0 where it is not known
    """
    if like is None:
        return _upright(shape, affine, tr)
    layout = like.layout.of_axes(len(shape))
    dim = [0] * len(shape)
    for size, axis in zip(shape, layout.axes, strict=True):
        dim[axis] = size
    vox = (*like.vox, *(1.0 for _ in shape))[: len(shape)]
    is_whole = len(shape) == len(like.dim) and tuple(dim) == like.dim
    entries = [e for e in like.entries if e[0].lower() not in GRID]
    if not is_whole:
        entries = [e for e in entries if e[0] not in OF_VOLUMES]
    return Header(
        tuple(dim), vox, layout, np.dtype("<f4"), like.transform, (0.0, 1.0),
        (*_own(like, is_whole), *entries), ".", 0,
    )  # fmt: skip


def _own(like: Header, is_whole: bool) -> list[tuple[str, str]]:
    """The scan's own lines on the grid, to the letter."""
    kept = {"transform", "vox"} if is_whole else {"transform"}
    return [(k.lower(), v) for k, v in like.entries if k.lower() in kept]


def _upright(shape: tuple[int, ...], affine: np.ndarray, tr: float) -> Header:
    """Axes that point right, forwards and upwards; the layout says how they lie in the file."""
    ornt = nib.orientations.io_orientation(affine)
    ranks, forward, dim = list(range(len(shape))), [True] * len(shape), list(shape)
    own = np.eye(4)
    own[:, 3] = affine[:, 3]
    for place in range(N_SPACE):
        axis = int(ornt[place, 0])
        ranks[axis], forward[axis], dim[axis] = place, bool(ornt[place, 1] > 0), shape[place]
        own[:3, axis] = affine[:3, place] * ornt[place, 1]
        if ornt[place, 1] < 0:
            own[:3, 3] += affine[:3, place] * (shape[place] - 1)
    vox = np.linalg.norm(own[:3, :3], axis=0)
    transform = own[:3].copy()
    transform[:, :3] /= vox
    return Header(
        tuple(dim), (*map(float, vox), *([tr or np.nan] if len(shape) > N_SPACE else [])),
        Layout(tuple(ranks), tuple(forward)), np.dtype("<f4"), transform, (0.0, 1.0), (), ".", 0,
    )  # fmt: skip


def packed(
    header: Header, array: np.ndarray, scheme: Sequence[str] | None, command: str, data: str = ""
) -> tuple[bytes, bytes]:
    """The text and the voxels of a file.

    array    (X, Y, Z) or (X, Y, Z, V), written as float32 (complex64 when complex)
    scheme   lines instead of the header's own; None: its own
    command  added to the history; "": nothing is
    data     name of the file that will hold the voxels; "": behind the text
    """
    is_complex = np.iscomplexobj(array)
    lines = _lines(header, "CFloat32LE" if is_complex else "Float32LE", scheme, command)
    said = "".join(f"{key}: {value}\n" for key, value in lines)
    text = FIRST + b"\n" + said.encode("utf-8", "surrogateescape")
    stored = header.layout.stored(array.astype("<c8" if is_complex else "<f4", copy=False))
    if data:
        return text + f"file: {data}\n".encode(), stored.tobytes()
    offset = len(text) + ROOM
    offset += -offset % ALIGNED
    return (text + f"file: . {offset}\nEND\n".encode()).ljust(offset, b"\0"), stored.tobytes()


def _lines(
    header: Header, datatype: str, scheme: Sequence[str] | None, command: str
) -> list[tuple[str, str]]:
    """Keys and values, in the order that MRtrix writes."""
    own = [value for key, value in header.entries if key == "vox"]
    rows = [value for key, value in header.entries if key == "transform"]
    rest = [e for e in header.entries if e[0] not in GRID]
    if scheme is not None:
        rest = [e for e in rest if e[0] != "dw_scheme"]
    return [
        ("dim", ",".join(map(str, header.dim))),
        ("vox", own[0] if own else ",".join(f"{v:.9g}" for v in header.vox)),
        ("layout", str(header.layout)),
        ("datatype", datatype),
        *(("transform", row) for row in rows or _rows(header.transform)),
        *with_history(rest, command),
        *(("dw_scheme", line) for line in scheme or ()),
    ]


def _rows(transform: np.ndarray) -> list[str]:
    return [", ".join(f"{v:.15g}" for v in row + 0.0) for row in transform]  # no -0


def with_history(entries: Sequence[tuple[str, str]], command: str) -> list[tuple[str, str]]:
    """The lines with a command behind those that made the scan."""
    if not command:
        return list(entries)
    line = HISTORY, f"{' '.join(command.split())}  (version={version('quell')})"
    last = max((i for i, (key, _) in enumerate(entries) if key == HISTORY), default=-1)
    place = last + 1 if last >= 0 else len(entries)
    return [*entries[:place], line, *entries[place:]]
