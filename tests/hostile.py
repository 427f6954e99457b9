"""Hostile inputs for the fuzz test: headers, gradients, sidecars, names, links and records.

Here    Every choice comes from the `random.Random` that is handed in, so a seed is a case. What is
        made lies in a box: `in` is read, `out` may be written, `around` must stay as it is.
"""

import gzip
import json
import os
import random
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

MARK = "<img src=x onerror=alert(1)>"  # must never reach a page as it is
NAMES = (
    MARK, "a\nb", "a\r\x1b[2Jb", "';rm -rf ~;'", '"', "..", "...", "~", "-x", "--help", "é",
    "\udcff", "\u202e", "%2e%2e%2f", "$(id)", "`id`", " ", "*", "a" * 200, "{0}%s", "a\tb",
    "sub-01_dwi", "sub-01_sub-02_dwi", "sub-_dwi", "sub-01_ses-.._dwi", "sub-01_desc-denoised_dwi",
    "sub-01_part-phase_dwi", "sub-01_part-mag_dwi", "sub-01_acq-a_acq-b_dwi", "sub-02_dwi",
    "sub-01_run-" + "1" * 230 + "_dwi", "sub-01_part-real_dwi", "SUB-01_dwi", "sub-01_DWI",
)  # fmt: skip
PATHS = ("../../around", "/", "/etc/passwd", "01/../..", "..", "", ".", "\n", MARK, "01", "02", "é")
WORDS = (
    "nan", "inf", "-inf", "-1", "1e400", "1e-400", "0x10", "1_000", "١", "", "1,2", "abc", "\0",
    MARK, "9" * 400, "0", "50", "51", "1e38", "1000000", "-0", "3.4e38", "1;2",
)  # fmt: skip
KEYS = (
    "ImageType", "ImageTypeText", "CoilCombinationMethod", "Interpolation2D", "AcquisitionMatrixPE",
    "ReconMatrixPE", "NonlinearGradientCorrection", "DeepLearning", "Sources", "Denoising",
    "EchoTime", "RepetitionTime", "SpatialReference", "GeneratedBy", "Name", "DatasetDOI",
    "DatasetLinks", "SourceDatasets", "BIDSVersion", "Description", "SkullStripped", "Units",
    "PartialFourier", "ParallelReductionFactorInPlane", "PhaseEncodingDirection", "", MARK,
)  # fmt: skip
INTS = (0, 1, -1, 2, 3, 4, 5, 7, 8, 9, 16, 64, 256, 512, 1024, 32767, -32768, 2304, 128, 1000)
FLOATS = (
    0.0, 1.0, -1.0, 2.0, float("nan"), float("inf"), float("-inf"), 1e38, -1e38, 1e-38, 1e-45,
    352.0, 353.0, 16.0, 1e9, -352.0, 0.5,
)  # fmt: skip
# offset of a field in a NIfTI-1 header, its type, how many
FIELDS = (
    (0, "i", 1), (40, "h", 8), (68, "h", 1), (70, "h", 1), (72, "h", 1), (76, "f", 8),
    (108, "f", 1), (112, "f", 1), (116, "f", 1), (123, "b", 1), (252, "h", 1), (254, "h", 1),
    (256, "f", 6), (280, "f", 12),
)  # fmt: skip

Mutation = Callable[[random.Random, Path], None]


# ---- files -------------------------------------------------------------------------------------


def image(rng: random.Random, good: bytes) -> bytes:
    """A NIfTI file, not packed, with something wrong; rarely nothing."""
    raw = bytearray(good)
    for _ in range(rng.randint(0, 3)):
        offset, kind, n = rng.choice(FIELDS)
        at = offset + struct.calcsize(kind) * rng.randrange(n)
        value = rng.choice(FLOATS) if kind == "f" else rng.choice(INTS)
        if kind == "b":
            value = rng.randrange(-128, 128)
        struct.pack_into(f"<{kind}", raw, at, value)
    what = rng.randrange(12)
    if what == 0:
        raw[344:352] = rng.randbytes(8)  # magic and the flag of extensions
    elif what == 1:
        for _ in range(rng.randint(1, 20)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
    elif what == 2:
        raw = raw[: rng.randrange(len(raw))]
    elif what == 3:
        raw += rng.randbytes(rng.randrange(1, 5000))
    elif what == 4:
        start = rng.randrange(352, len(raw))
        raw[start:] = rng.choice((b"\0", b"\xff", b"\x7f")) * (len(raw) - start)
    elif what == 5:  # values that are all alike, or extreme
        value = struct.pack("<f", rng.choice(FLOATS))
        raw[352:] = value * ((len(raw) - 352) // 4)
    return bytes(raw)


def packed(rng: random.Random, raw: bytes) -> bytes:
    """As .gz, sometimes damaged."""
    whole = bytearray(gzip.compress(raw, 1, mtime=0))
    what = rng.randrange(10)
    if what == 0:
        whole = whole[: rng.randrange(len(whole))]
    elif what == 1:
        whole[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
    elif what == 2:
        whole += bytes(whole) if rng.random() < 0.5 else rng.randbytes(50)
    return bytes(whole)


def numbers(rng: random.Random, good: str) -> bytes:
    """A bval or bvec with something wrong; rarely nothing."""
    rows = [line.split() for line in good.splitlines()] or [["0"]]
    for _ in range(rng.randint(0, 3)):
        row = rng.choice(rows)
        what = rng.randrange(8)
        if what < 3 and row:
            row[rng.randrange(len(row))] = rng.choice(WORDS)
        elif what == 3 and row:
            del row[rng.randrange(len(row))]
        elif what == 4:
            row += rng.choices(WORDS, k=rng.randint(1, 3))
        elif what == 5:
            rows.append(list(row))
        elif what == 6:
            row[:] = [rng.choice(WORDS)] * len(row)
        else:
            row[:] = row[:99] * rng.choice((0, 2, 1000))
    text = rng.choice(("\n", "\n", "\r\n", "\r", "\u2028")).join(map(" ".join, rows))
    raw = text.encode("utf-8", "surrogateescape")
    wide = raw.decode("utf-8", "replace").encode("utf-16")
    kinds = (raw, raw, raw, b"\xef\xbb\xbf" + raw, raw.replace(b" ", b","), b"", wide)
    return rng.choice((*kinds, raw + rng.randbytes(9)))


def anything(rng: random.Random, depth: int = 0) -> object:
    """A value of JSON."""
    if depth < 3 and rng.random() < 0.3:
        n = rng.randrange(4)
        if rng.random() < 0.5:
            return [anything(rng, depth + 1) for _ in range(n)]
        return {rng.choice(KEYS): anything(rng, depth + 1) for _ in range(n)}
    return rng.choice((
        None, True, False, 0, -1, 10**400, 1e308, float("nan"), float("inf"), "", MARK, "\ud800",
        "../../around/precious.txt", "a" * 5000, "a\nb\0c", "DERIVED", ["ORIGINAL", "NORM", MARK],
    ))  # fmt: skip


def sidecar(rng: random.Random) -> bytes:
    """The text of a .json, good or not."""
    what = rng.randrange(10)
    if what == 0:
        return rng.choice((b"", b"{", b"[]", b"null", b"\xff\xfe", b"{'a': 1}", b"1" * 5000, b"\0"))
    if what == 1:
        deep = rng.choice((100, 900, 100_000))
        return b'{"a": ' + b"[" * deep + b"]" * deep + b"}"
    said = {rng.choice(KEYS): anything(rng) for _ in range(rng.randrange(6))}
    raw = json.dumps(said, ensure_ascii=rng.random() < 0.8).encode("utf-8", "surrogatepass")
    return b"\xef\xbb\xbf" + raw if what == 2 else raw


# ---- places ------------------------------------------------------------------------------------


def surroundings(box: Path) -> None:
    """What links may lead to, and must stay as it is."""
    (box / "around" / "folder").mkdir(parents=True)
    for name in ("precious.txt", "folder/precious.txt", "dwi.json", "group.html"):
        (box / "around" / name).write_text("precious")
    for name in ("out", "here", "tmp"):
        (box / name).mkdir(exist_ok=True)


def link(rng: random.Random, path: Path, box: Path) -> None:
    """A link in place of whatever stands there."""
    target = rng.choice((
        box / "around", box / "around" / "folder", box / "around" / "precious.txt", "nowhere",
        path.name, "..", "../..", ".", "/dev/null", "/dev/zero", "/etc/passwd", box / "in",
    ))  # fmt: skip
    remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def below(root: Path) -> list[Path]:
    """Everything below a folder, in an order that does not depend on the disk; links unfollowed."""
    found = []
    for folder, folders, files in os.walk(root):
        found += [Path(folder, name) for name in (*folders, *files)]
    return sorted(found)


# ---- a dataset, and what an earlier run left -----------------------------------------------------


def renamed(rng: random.Random, box: Path) -> None:
    path = rng.choice(below(box / "in"))
    ending = rng.choice(("", ".nii.gz", ".nii", ".json", ".bval", ".NII.GZ", ".nii.gz.nii.gz"))
    name = rng.choice(NAMES)
    if name not in ("..", ".") and not path.with_name(name + ending).exists():
        path.rename(path.with_name(name + ending))


def linked(rng: random.Random, box: Path) -> None:
    link(rng, rng.choice(below(box / "in")), box)


def piped(rng: random.Random, box: Path) -> None:
    path = rng.choice([p for p in below(box / "in") if not p.is_dir()] or [box / "in" / "pipe"])
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def lost(rng: random.Random, box: Path) -> None:
    remove(rng.choice(below(box / "in")))


def copied(rng: random.Random, box: Path) -> None:
    """The same file under another name: metadata with equal rights, scans that stand twice."""
    path = rng.choice([p for p in below(box / "in") if p.is_file()] or [box / "around/dwi.json"])
    folder = rng.choice([p for p in below(box / "in") if p.is_dir()] or [box / "in"])
    ending = "".join(path.suffixes)
    name = rng.choice((*NAMES, "dwi", "run-1_dwi", "sub-01_run-1_dwi")) + ending
    target = folder / name
    if not target.exists() and len(os.fsencode(name)) < 255:
        shutil.copy(path, target)


def spoilt(rng: random.Random, box: Path) -> None:
    """One file of the dataset with something wrong in it."""
    path = rng.choice([p for p in below(box / "in") if p.is_file()] or [box / "in" / "dwi.json"])
    if path.is_symlink():
        return
    if path.name.endswith(".json"):
        path.write_bytes(sidecar(rng))
    elif path.name.endswith((".bval", ".bvec")):
        path.write_bytes(numbers(rng, path.read_text("utf-8", "surrogateescape") or "0"))
    elif path.name.endswith(".nii.gz"):
        try:
            raw = gzip.decompress(path.read_bytes())
        except (OSError, EOFError):
            return
        path.write_bytes(packed(rng, image(rng, raw)))


def out_linked(rng: random.Random, box: Path) -> None:
    inside = [p.relative_to(box / "out").as_posix() for p in below(box / "out")]
    names = ("logs", "logs/sub-01_dwi.log", "logs/sub-01_dwi.json", "group.html", "group.tsv",
             "sub-01", "sub-01.html", "sub-01/dwi", "sub-01/figures", ".quell", ".quell/new",
             ".quell/sub-01_dwi", "README.md", "dataset_description.json", "models",
             "logs/CITATION.md", ".quell/new/sub-01_dwi", ".bidsignore", *inside)  # fmt: skip
    link(rng, box / "out" / rng.choice(names), box)


def out_lost(rng: random.Random, box: Path) -> None:
    if found := below(box / "out"):
        remove(rng.choice(found))


def out_forged(rng: random.Random, box: Path) -> None:
    """A record, or the description, that no run of quell wrote."""
    records = sorted((box / "out" / "logs").glob("*.json"))
    path = rng.choice([*records, box / "out" / "dataset_description.json"])
    if not path.is_file() or path.is_symlink() or rng.random() < 0.2:
        if path.parent.is_dir() and not path.is_dir() and not path.is_symlink():
            path.write_bytes(sidecar(rng))
        return
    try:
        said = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return
    if not isinstance(said, dict) or not said:
        return
    for _ in range(rng.randint(1, 3)):
        key = rng.choice(sorted(said))
        said[key] = rng.choice((
            anything(rng), {"../around/precious.txt": 8}, {str(box / "around/precious.txt"): 8},
            [["../around/precious.txt", 8]], "../../around/precious.txt", "failed", "done",
            {MARK: 1}, {"gain": MARK}, {"gain": "nan", "snr": 10**400}, [MARK],
        ))  # fmt: skip
    path.write_text(json.dumps(said))


MUTATIONS: tuple[Mutation, ...] = (
    renamed, renamed, linked, linked, piped, lost, copied, copied, spoilt, spoilt, spoilt,
    out_linked, out_linked, out_lost, out_forged, out_forged,
)  # fmt: skip


def mutate(rng: random.Random, box: Path, ways: Sequence[Mutation] = MUTATIONS) -> list[str]:
    """Some of them, one after the other; what they are called."""
    chosen = rng.choices(ways, k=rng.randint(1, 4))
    for way in chosen:
        if below(box / "in"):
            way(rng, box)
    return [way.__name__ for way in chosen]
