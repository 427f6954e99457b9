"""Bad MRtrix images: one sentence each, no traceback, no memory for what is not there."""

import contextlib
import gzip
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import write_mif
from quell.mif import MifError, MifImage
from quell.mif.header import LONGEST, parse, read_text
from quell.series import InputError, load

GOOD = {
    "dim": "3,4,2,5", "vox": "2,2,2,1", "layout": "+0,+1,+2,+3", "datatype": "Float32LE",
    "transform": "1,0,0,0\ntransform: 0,1,0,0\ntransform: 0,0,1,0", "file": ". 400",
}  # fmt: skip
SIZE = 3 * 4 * 2 * 5 * 4


def write(path, end="END\n", first="mrtrix image", n_bytes=SIZE, **changed):
    """A .mif file with some keys changed, or left out where they are None."""
    lines = [f"{k}: {v}" for k, v in {**GOOD, **changed}.items() if v is not None]
    text = "\n".join([first, *lines, end]).encode()
    voxels = np.resize(np.arange(SIZE // 4, dtype="<f4").view(np.uint8), n_bytes).tobytes()
    path.write_bytes(text.ljust(400, b"\0") + voxels)
    return path


def complaint(path):
    with pytest.raises(InputError) as caught:
        load(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 400
    return sentence


def test_the_file_that_is_changed_is_good(tmp_path):
    assert load(write(tmp_path / "in.mif")).data.shape == (3, 4, 2, 5)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"first": "mrtrix tracks"}, "is no MRtrix image"),
        ({"first": "\x1f\x8b"}, "is no MRtrix image"),
        ({"end": "EN"}, "a header without END"),
        ({"end": "ENDING\n"}, "a header without END"),
        ({"dim": None}, "lacks 'dim'"),
        ({"datatype": ""}, "lacks 'datatype'"),
        ({"file": None}, "lacks 'file'"),
        ({"dim": "3,4,x,5"}, "a size that is none"),
        ({"dim": "3,-4,2,5"}, "a size that is none"),
        ({"dim": "3,4,2,0"}, "no voxels"),
        ({"dim": ",".join("1" * 99)}, "a size that is none"),
        ({"dim": "3,4,2," + "9" * 5000}, "a size that is none"),
        ({"dim": "3,4,2,999999999999999"}, "cut short"),
        ({"dim": "999999999,999999999,999999999,9"}, "cut short"),
        ({"dim": "3,4,2,6"}, "cut short"),
        ({"dim": "12,10", "layout": "+0,+1"}, "single slice"),
        ({"dim": "3,4,2,5,1", "layout": "+0,+1,+2,+3,+4"}, "5 dimensions"),
        ({"vox": "2,2"}, "voxel sizes that are none"),
        ({"vox": "2,2,0,1"}, "voxel sizes that are none"),
        ({"vox": "nan,2,2,1"}, "voxel sizes that are none"),
        ({"layout": "+0,+1,+2"}, "orders no 4 axes"),
        ({"layout": "+0,+1,+1,+3"}, "orders no 4 axes"),
        ({"layout": "+1,+2,+3,+4"}, "orders no 4 axes"),
        ({"layout": "0;1;2;3"}, "orders no 4 axes"),
        ({"datatype": "Float80"}, "a datatype that is not known"),
        ({"transform": "1,0,0,0"}, "three rows of four numbers"),
        ({"transform": "1,0,0\ntransform: 0,1,0\ntransform: 0,0,1"}, "three rows of four"),
        (
            {"transform": "0,0,0,0\ntransform: 0,1,0,0\ntransform: 0,0,1,0"},
            "puts the image nowhere",
        ),
        ({"transform": "nan,0,0,0\ntransform: 0,1,0,0\ntransform: 0,0,1,0"}, "nowhere"),
        ({"scaling": "1"}, "a scaling that is not"),
        ({"scaling": "0,inf"}, "a scaling that is not"),
        ({"file": ". 10"}, "inside of its header"),
        ({"file": ". 401"}, "cut short"),
        ({"file": ". 999999999999"}, "cut short"),
        ({"file": "."}, "inside of its header"),
        ({"file": ". -4"}, "is not there"),
        ({"file": "../dwi.dat 0"}, "its data elsewhere"),
        ({"file": "../../etc/passwd"}, "its data elsewhere"),
        ({"file": "/etc/passwd 0"}, "its data elsewhere"),
        ({"file": "..\\dwi.dat"}, "its data elsewhere"),
        ({"file": ".. 0"}, "its data elsewhere"),
        ({"file": "gone.dat 0"}, "is not there"),
        ({"n_bytes": SIZE - 1}, "cut short"),
        ({"dw_scheme": "0,0,0,0"}, "dw_scheme"),
        ({"dw_scheme": "\ndw_scheme: ".join(["a,b,c,d"] * 5)}, "dw_scheme"),
        ({"dw_scheme": "\ndw_scheme: ".join(["0,0,1,-9"] * 5)}, "dw_scheme"),
    ],
)
@pytest.mark.parametrize("name", ["in.mif", "in.mif.gz"])
def test_it_is_refused_in_a_sentence(tmp_path, name, changed, words):
    path = write(tmp_path / "in.mif", **changed)
    if name.endswith(".gz"):
        path = path.rename(tmp_path / name)
        path.write_bytes(gzip.compress(path.read_bytes()))
        words = "packed" if "file" in changed and words == "is not there" else words
    assert words in complaint(path)


def test_data_of_another_folder_are_not_read(tmp_path):
    (tmp_path / "secret.dat").write_bytes(bytes(SIZE))
    (tmp_path / "folder").mkdir()
    for place in ("../secret.dat", str(tmp_path / "secret.dat")):
        assert "elsewhere" in complaint(write(tmp_path / "folder" / "in.mih", file=place))
    os.mkfifo(tmp_path / "folder" / "pipe")
    assert "is not there" in complaint(write(tmp_path / "folder" / "in.mih", file="pipe"))


def test_a_long_header_without_end_is_left_soon(tmp_path):
    path = tmp_path / "in.mif"
    with open(path, "wb") as file:
        file.write(b"mrtrix image\n")
        file.truncate(10**9)  # a hole: it takes no disk
    start = time.monotonic()
    assert "without END" in complaint(path)
    assert time.monotonic() - start < 10
    packed = tmp_path / "in.mif.gz"
    packed.write_bytes(gzip.compress(b"mrtrix image\n" + bytes(2 * LONGEST), 1))
    assert "without END" in complaint(packed)


def test_a_packed_file_that_breaks_off_is_refused(tmp_path):
    whole = gzip.compress(write_mif(tmp_path / "in.mif", np.ones((9, 9, 9, 9), "f4")).read_bytes())
    path = tmp_path / "in.mif.gz"
    for damaged in (whole[:-4], whole[: len(whole) // 2], whole[:-8] + b"12345678", whole[:5], b""):
        path.write_bytes(damaged)
        assert complaint(path)


def test_the_command_ends_with_status_one(quell, tmp_path):
    ran = quell("check", write(tmp_path / "in.mif", dim="3,4,2,6"))
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith("quell: ")
    assert ran.err.count("\n") == 1


# ---- whatever a header may hold

KEYS = st.sampled_from([*GOOD, "scaling", "dw_scheme", "EchoTime", "#", "DIM", "END", ""])
NUMBERS = st.lists(
    st.one_of(
        st.integers(-(10**20), 10**20), st.integers(0, 5), st.floats(), st.sampled_from(["+0", "x"])
    ),
    max_size=6,
).map(lambda found: ",".join(map(str, found)))
VALUES = st.one_of(
    NUMBERS,
    st.text(max_size=30),
    st.sampled_from([*GOOD.values(), "Bit", ". 1", ".. 9", "CFloat64"]),
)
LINES = st.lists(st.tuples(KEYS, VALUES), max_size=12)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(LINES)
def test_any_header_is_understood_or_refused(lines):
    text = "\n".join(f"{key}: {value}" for key, value in [*GOOD.items(), *lines])
    with contextlib.suppress(MifError):
        header = parse(text, Path("in.mif"))
        assert sorted(header.shape) == sorted(header.dim)
        assert np.isfinite(header.affine).all()
        assert "/" not in header.file


@settings(
    max_examples=40, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(LINES, st.binary(max_size=40), st.integers(0, 400))
def test_any_file_is_read_or_refused(tmp_path, lines, noise, cut):
    path = write(tmp_path / "in.mif", **{k: v for k, v in lines if k in GOOD})
    raw = path.read_bytes()
    path.write_bytes(raw[:cut] + noise + raw[cut + len(noise) :])
    with contextlib.suppress(MifError):
        np.asarray(MifImage(path).dataobj)


def _reader(pieces):
    left = iter(pieces)
    return lambda _: next(left, b"")


def test_the_end_is_found_wherever_a_piece_ends(tmp_path):
    text = b"mrtrix image\n" + b"a: " + b"x" * 500 + b"\nEND\n" + bytes(50)
    for size in (1, 2, 3, 7, 505, 519, 520, 521):
        pieces = [text[:16], *[text[i : i + size] for i in range(16, len(text), size)]]
        found, end = read_text(_reader(pieces), tmp_path)
        assert (len(found), text[:end][-5:]) == (504, b"\nEND\n")
