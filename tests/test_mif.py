"""MRtrix images, byte by byte: files built here by the format's own words, without MRtrix."""

import gzip
import itertools
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from conftest import write_mif
from quell.mif import Layout, gradients_of, scheme_of
from quell.mif.header import KINDS
from quell.series import copy_gradients, load, load_map, stem, write_image

DIM = (3, 4, 2, 5)
LAYOUTS = [
    ",".join(f"{sign}{rank}" for sign, rank in zip(signs, ranks, strict=True))
    for ranks in itertools.permutations(range(4))
    for signs in ("++++", "-++-", "+--+")
]
SCHEME = ("0,0,0,0", "0.1808651964,0.9346599335,-0.3061022533,1000", "0,0,1,2000")


def values(dim=DIM, dtype=np.float32):
    return np.arange(1, 1 + np.prod(dim)).reshape(dim).astype(dtype)


def raw_of(path):
    """The voxels of a .mif file as they lie in it."""
    raw = path.read_bytes()
    return raw[int(raw.split(b"file: . ")[1].split(b"\n")[0]) :]


def header_of(path):
    return path.read_bytes().split(b"\nEND\n")[0].decode().splitlines()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_and_written_to_the_byte(tmp_path, layout):
    path = write_mif(tmp_path / "in.mif", values(), layout=layout)
    scan = load(path)
    write_image(tmp_path / "out.mif", scan.data, scan)
    assert raw_of(tmp_path / "out.mif") == raw_of(path)
    assert f"layout: {layout}" in header_of(tmp_path / "out.mif")
    for voxel in ((0, 0, 0, 0), (2, 1, 0, 3), (1, 3, 1, 4)):  # each in its place in space
        place = np.linalg.inv(scan.affine) @ [*2.0 * np.array(voxel[:3]), 1]
        i, j, k = np.round(place[:3]).astype(int)
        assert scan.data[i, j, k, voxel[3]] == values()[voxel]


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"bit"}))
@pytest.mark.parametrize("order", ["LE", "BE"])
def test_every_kind_of_number_is_read(tmp_path, name, order):
    expected = values(dtype=np.dtype(KINDS[name]))
    assert np.array_equal(
        load(write_mif(tmp_path / "in.mif", expected, name + order)).data, expected
    )


@pytest.mark.parametrize("layout", ["+0,+1,+2,+3", "-2,+0,-1,+3", "+1,+2,+3,+0"])
def test_bits_are_read(tmp_path, layout):
    expected = np.random.default_rng(0).random((3, 5, 3, 7)) > 0.5
    scan = load(write_mif(tmp_path / "in.mif", expected, "Bit", layout))
    assert np.array_equal(scan.data, Layout.parse(layout, 4).array(
        Layout.parse(layout, 4).stored(_as_array(expected, layout)), expected.shape
    ))  # fmt: skip
    assert scan.data.sum() == expected.sum()


def _as_array(own, layout):
    """An array of the header's axes, turned as the layout says, one axis after the other."""
    order = Layout.parse(layout, own.ndim)
    turned = own
    for axis in range(3):
        turned = turned if order.is_forward[axis] else np.flip(turned, axis)
    return np.transpose(turned, order.axes)


def test_a_mask_of_bits_in_another_order_than_the_scan_is_that_mask(tmp_path):
    scan = write_mif(tmp_path / "dwi.mif", values(), layout="-2,-0,+3,+1")
    own = np.zeros(DIM[:3], bool)
    own[0, 1:3, 1] = True
    for layout in ("+0,+1,+2", "+1,-2,-0"):
        mask = load(scan, mask=write_mif(tmp_path / "mask.mif", own, "Bit", layout)).mask
        assert np.array_equal(mask, _as_array(own, "-1,-0,+2"))


def test_values_are_scaled(tmp_path):
    path = write_mif(tmp_path / "in.mif", values(dtype=np.int16), "Int16BE", scaling="-1.5,0.5")
    scan = load(path)
    assert np.array_equal(scan.data, -1.5 + 0.5 * values())
    write_image(tmp_path / "out.mif", scan.data, scan)
    assert not [line for line in header_of(tmp_path / "out.mif") if line.startswith("scaling")]


def test_complex_data_stay_complex(tmp_path):
    expected = (values() + 1j * values()[::-1]).astype(np.complex64)
    scan = load(write_mif(tmp_path / "in.mif", expected, "CFloat32LE", "-1,-0,+2,+3"))
    write_image(tmp_path / "out.mif", scan.data, scan)
    assert raw_of(tmp_path / "out.mif") == raw_of(tmp_path / "in.mif")
    assert "datatype: CFloat32LE" in header_of(tmp_path / "out.mif")


def test_packed_files_are_read_and_written(tmp_path):
    plain = write_mif(tmp_path / "in.mif", values())
    (tmp_path / "in.mif.gz").write_bytes(gzip.compress(plain.read_bytes()))
    scan = load(tmp_path / "in.mif.gz")
    assert np.array_equal(scan.data, load(plain).data)
    write_image(tmp_path / "out.mif", scan.data, scan)
    for name in ("a.mif.gz", "b.mif.gz"):
        write_image(tmp_path / name, scan.data, scan)
    assert (
        gzip.decompress((tmp_path / "a.mif.gz").read_bytes()) == (tmp_path / "out.mif").read_bytes()
    )
    assert (tmp_path / "a.mif.gz").read_bytes() == (tmp_path / "b.mif.gz").read_bytes()


def test_a_header_and_its_data_may_be_two_files(tmp_path):
    scan = load(write_mif(tmp_path / "in.mif", values(), layout="+1,+2,+3,+0"))
    write_image(tmp_path / "out.mih", scan.data, scan)
    assert (tmp_path / "out.dat").read_bytes() == raw_of(tmp_path / "in.mif")
    assert (tmp_path / "out.mih").read_text().endswith("file: out.dat\n")
    assert np.array_equal(load(tmp_path / "out.mih").data, scan.data)


def test_every_other_line_of_the_header_is_kept(tmp_path):
    own = ["EchoTime: 0.08", "comments: as exported", "comments: two", "command_history: a  (v)"]
    path = write_mif(tmp_path / "in.mif", values(), more=[*own, "mrtrix_version: 3.0.3"])
    scan = load(path)
    write_image(tmp_path / "out.mif", scan.data, scan, "quell denoise 'a b'\n x")
    before, after = header_of(path), header_of(tmp_path / "out.mif")
    added = [line for line in after if line not in before and not line.startswith("file")]
    assert added == [f"command_history: quell denoise 'a b' x  (version={_version()})"]
    assert after.index(added[0]) == after.index(own[-1]) + 1
    assert [x for x in after if x in before] == [x for x in before if not x.startswith("file")]


def _version():
    from quell import __version__

    return __version__


def test_a_map_of_a_series_has_three_axes_and_no_gradients(tmp_path):
    more = [f"dw_scheme: {line}" for line in (*SCHEME, *SCHEME[:2])]
    scan = load(write_mif(tmp_path / "in.mif", values(), layout="+1,-2,+3,+0", more=more))
    write_image(tmp_path / "map.mif", scan.data[..., 0], scan)
    lines = header_of(tmp_path / "map.mif")
    assert {"dim: 3,4,2", "vox: 2,2,2", "layout: +0,-1,+2"} <= set(lines)
    assert not [line for line in lines if line.startswith("dw_scheme")]
    assert np.array_equal(load_map(tmp_path / "map.mif", scan), scan.data[..., 0])


# ---- gradients: the numbers are those of `mrinfo -export_grad_fsl` of MRtrix 3.0.3

TRANSFORM = (
    "0.998752338840731, 0.0473513752049817, 0, 2",
    "-0.049937617686165, 0.994378819329427, 0.0797452234636297, -4.6",
    "-0, -0.0947027504099635, 0.996815278441666, 3",
)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("-0,+1,+2,+3", [-0.13466886822374, 0.965462725727795, -0.223038160851382]),
        ("-1,-0,+2,+3", [-0.965462725727795, -0.13466886822374, -0.223038160851382]),
        ("+1,+2,+3,+0", [-0.13466886822374, 0.965462725727795, -0.223038160851382]),
    ],
)
def test_directions_are_those_of_fsl(tmp_path, layout, expected):
    more = [f"dw_scheme: {line}" for line in SCHEME]
    own = values((3, 4, 2, 3))
    scan = load(write_mif(tmp_path / "in.mif", own, layout=layout, more=more, transform=TRANSFORM))
    np.testing.assert_allclose(scan.bvecs[1], expected, atol=1e-6)
    assert scan.bvals.tolist() == [0, 1000, 2000]


@pytest.mark.parametrize("flip", [1, -1])
def test_a_scheme_survives_the_way_through_fsl(flip):
    rng = np.random.default_rng(1)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] @ np.diag([2.0, 2.5, 3.0 * flip])
    directions = rng.normal(size=(7, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    bvals = np.linspace(500, 3000, 7)
    b, found = gradients_of(scheme_of(bvals, directions, affine), affine)
    np.testing.assert_allclose(found, directions, atol=1e-9)
    np.testing.assert_allclose(b, bvals)


def test_lengths_of_directions_scale_the_b_values():
    lines = ["0,0,0,3000", "0,0,0.5,4000", "1,0,0,4000"]
    bvals, bvecs = gradients_of(lines, np.diag([-2.0, 2, 2, 1]))
    assert bvals.tolist() == [0, 1000, 4000]
    assert np.linalg.norm(bvecs, axis=1).tolist() == [0, 1, 1]


def test_gradients_of_files_come_before_those_of_the_header(tmp_path):
    more = [f"dw_scheme: {line}" for line in SCHEME]
    path = write_mif(tmp_path / "in.mif", values((3, 4, 2, 3)), more=more)
    (tmp_path / "in.bval").write_text("5 6 7\n")  # beside the scan, of whatever
    assert load(path).bvals.tolist() == [0, 1000, 2000]
    given = tmp_path / "given.bval"
    given.write_text("0 700 800\n")
    (tmp_path / "given.bvec").write_text("0 1 0\n0 0 1\n0 0 0\n")
    scan = load(path, given, tmp_path / "given.bvec")
    assert scan.bvals.tolist() == [0, 700, 800]
    write_image(tmp_path / "out.mif", scan.data, scan)
    assert load(tmp_path / "out.mif").bvals.tolist() == [0, 700, 800]


def test_a_nifti_result_has_its_gradients_beside_it(tmp_path):
    more = [f"dw_scheme: {line}" for line in SCHEME]
    scan = load(write_mif(tmp_path / "in.mif", values((3, 4, 2, 3)), more=more))
    write_image(tmp_path / "out.nii", scan.data, scan)
    assert [p.name for p in copy_gradients(scan, tmp_path / "out.nii")] == ["out.bval", "out.bvec"]
    again = load(tmp_path / "out.nii")
    np.testing.assert_allclose(again.bvecs, scan.bvecs, atol=1e-9)
    assert np.array_equal(again.data, scan.data)


# ---- between the formats


@pytest.mark.parametrize("axes", [(1, 2, 3), (-1, 2, 3), (-2, 1, -3), (3, -1, 2)])
def test_a_nifti_scan_as_mif_lies_where_it_lay(tmp_path, axes):
    affine = np.zeros((4, 4))
    affine[:, 3] = 5, -3, 2, 1
    for place, axis in enumerate(axes):
        affine[abs(axis) - 1, place] = np.sign(axis) * (2.0 + place)
    image = nib.Nifti1Image(values(), affine)
    nib.save(image, tmp_path / "in.nii")
    scan = load(tmp_path / "in.nii")
    write_image(tmp_path / "out.mif", scan.data, scan)
    again = load(tmp_path / "out.mif")
    assert np.array_equal(again.data, scan.data)
    np.testing.assert_allclose(again.affine, scan.affine, atol=1e-6)
    rows = [line for line in header_of(tmp_path / "out.mif") if line.startswith("transform")]
    assert rows[0].startswith("transform: 1, 0, 0, ")  # the header's axes point right, ...


def test_the_header_of_mrtrix_counts_as_a_sidecar(tmp_path):
    more = [
        "EchoTime: 0.08", "ImageType: ORIGINAL", "SliceTiming: 0,0.5", "PhaseEncodingDirection: j-",
        "SliceEncodingDirection: k",
    ]  # fmt: skip
    sidecar = load(write_mif(tmp_path / "a.mif", values(), layout="+2,+0,-1,+3", more=more)).sidecar
    assert sidecar == {
        "EchoTime": 0.08, "ImageType": "ORIGINAL", "SliceTiming": [0, 0.5],
        "PhaseEncodingDirection": "i-", "SliceEncodingDirection": "j-",
    }  # fmt: skip


def test_without_a_transform_the_middle_is_the_origin(tmp_path):
    scan = load(write_mif(tmp_path / "in.mif", values(), transform=()))
    np.testing.assert_allclose(scan.affine[:3, 3], [-2, -3, -1])


def test_one_image_stays_one(tmp_path):
    scan = load(write_mif(tmp_path / "in.mif", values((3, 4, 2)), layout="-0,+1,+2"))
    assert scan.is_one_image
    write_image(tmp_path / "out.mif", scan.data, scan)
    assert raw_of(tmp_path / "out.mif") == raw_of(tmp_path / "in.mif")
    write_image(tmp_path / "two.mif", scan.data, replace(scan, is_one_image=False))
    assert "dim: 3,4,2,1" in header_of(tmp_path / "two.mif")


def test_names_lose_their_ending(tmp_path):
    assert [stem(tmp_path / f"a.b{e}").name for e in (".mif", ".MIF.gz", ".mih")] == ["a.b"] * 3
