"""Raw files: axes, voxels and contents come back; what can't be used is refused in words."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from quell.kspace import join, load_images, load_kspace
from quell.series import InputError

X, Y, Z, N, V = 24, 20, 3, 2, 4


def header(encoded=(48, 20, 1), fov=(480, 200, 5), recon=(24, 20, 1), recon_fov=(240, 200, 5)):
    """The part of an ISMRMRD header that fastMRI and M4Raw files share."""

    def space(name, matrix, mm):
        size, length = (
            "".join(f"<{a}>{v}</{a}>" for a, v in zip("xyz", values, strict=True))
            for values in (matrix, mm)
        )
        return (
            f"<{name}><matrixSize>{size}</matrixSize>"
            f"<fieldOfView_mm>{length}</fieldOfView_mm></{name}>"
        )

    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>'
        f"{space('encodedSpace', encoded, fov)}{space('reconSpace', recon, recon_fov)}"
        "<trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"
    )


def samples(*shape):
    rng = np.random.default_rng(0)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


WHOLE = samples(Z, N, 2 * X, Y)
HEADER = header()


def raw(path: Path, kspace=WHOLE, ismrmrd_header=HEADER, **more) -> Path:
    """A file as fastMRI writes it: slices x coils x readout x phase, 2 x oversampled."""
    contents = {"kspace": kspace, "ismrmrd_header": ismrmrd_header, **more}
    with h5py.File(path, "w") as file:
        for name, value in contents.items():
            if value is not None:
                file[name] = value
    return path


def complaint(function, *args, **kwargs):
    with pytest.raises(InputError) as caught:
        function(*args, **kwargs)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert not sentence.endswith(".")
    return sentence


def test_each_axis_of_a_fastmri_file_finds_its_place(tmp_path):
    array = samples(Z, N, 2 * X, Y)
    kspace = load_kspace(raw(tmp_path / "a.h5", array))
    assert kspace.data.shape == (2 * X, Y, Z, N, 1)
    assert kspace.data.dtype == np.complex64
    assert kspace.data[5, 7, 2, 1, 0] == array[2, 1, 5, 7]


def test_a_single_coil_file_has_no_axis_for_coils(tmp_path):
    array = samples(Z, 2 * X, Y)
    kspace = load_kspace(raw(tmp_path / "a.h5", array))
    assert kspace.n_coils == 1
    assert kspace.data[5, 7, 2, 0, 0] == array[2, 5, 7]


@pytest.mark.parametrize("kind", [str, str.encode, lambda text: np.array([text.encode()])])
def test_voxels_and_field_of_view_come_from_the_header(tmp_path, kind):
    kspace = load_kspace(raw(tmp_path / "a.h5", ismrmrd_header=kind(header())))
    assert kspace.is_affine_true
    assert kspace.image_size == (X, Y)  # half of the readout was oversampling
    np.testing.assert_allclose(np.abs(np.diag(kspace.affine)), [10, 10, 5, 1])
    middle = kspace.affine @ [(X - 1) / 2, (Y - 1) / 2, (Z - 1) / 2, 1]
    np.testing.assert_allclose(middle, [0, 0, 0, 1], atol=1e-5)


def test_the_phase_axis_is_cropped_to_its_field_of_view_too(tmp_path):
    text = header(fov=(480, 200, 5), recon=(24, 16, 1), recon_fov=(240, 160, 5))
    kspace = load_kspace(raw(tmp_path / "a.h5", ismrmrd_header=text))
    assert kspace.image_size == (X, 16)
    np.testing.assert_allclose(np.abs(np.diag(kspace.affine))[:2], 10)


def test_k_space_without_its_oversampling_is_not_cropped_again(tmp_path):
    kspace = load_kspace(raw(tmp_path / "a.h5", samples(Z, N, X, Y)))
    assert kspace.image_size == (X, Y)
    np.testing.assert_allclose(np.abs(np.diag(kspace.affine))[:2], 10)


@pytest.mark.parametrize("text", [None, "<a>", "", header().replace("480", "0"), "<a></a>"])
def test_without_a_field_of_view_voxels_are_1_mm_and_that_is_said(tmp_path, text):
    kspace = load_kspace(raw(tmp_path / "a.h5", ismrmrd_header=text))
    assert not kspace.is_affine_true
    assert kspace.image_size == (2 * X, Y)
    np.testing.assert_array_equal(np.abs(np.diag(kspace.affine)), 1)
    assert any("taken as 1 mm" in note for note in kspace.notes)


def test_a_header_that_could_expand_or_fetch_is_refused(tmp_path):
    bomb = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>' + header().split("\n")[1]
    assert "DOCTYPE" in complaint(load_kspace, raw(tmp_path / "a.h5", ismrmrd_header=bomb))


@pytest.mark.parametrize("as_v73", [False, True])
def test_axes_of_a_matlab_file_are_those_that_are_named(tmp_path, as_v73):
    array, path = samples(X, Y, Z, V).astype(np.complex128), tmp_path / "a.mat"
    if as_v73:  # a header of 512 bytes, axes from the other end, real and imaginary parts apart
        pair = np.empty(array.T.shape, dtype=[("real", "f8"), ("imag", "f8")])
        pair["real"], pair["imag"] = array.T.real, array.T.imag
        with h5py.File(path, "w", userblock_size=512) as file:
            file["ksp"], file["dose"] = pair, np.ones(3)
        content = bytearray(path.read_bytes())
        content[:128] = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
        path.write_bytes(bytes(content))
    else:
        savemat(path, {"ksp": array, "dose": np.ones(3)})
    kspace = load_kspace(path, "x,y,z,repetition")
    assert kspace.data.shape == (X, Y, Z, 1, V)
    np.testing.assert_array_equal(kspace.data[..., 0, :], array.astype(np.complex64))


def test_axes_of_a_numpy_file_are_those_that_are_named(tmp_path):
    array = samples(X, N, Y)
    np.save(tmp_path / "a.npy", array)
    kspace = load_kspace(tmp_path / "a.npy", " x, coil ,Y")
    np.testing.assert_array_equal(kspace.data[:, :, 0, :, 0], array.transpose(0, 2, 1))


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        (None, "3 axes (24 x 2 x 20)"),
        ("x,y", "3 axes (24 x 2 x 20) and x,y names 2"),
        ("x,coil,coil", "name one twice"),
        ("x,coil,z", "lack x (readout) or y"),
        ("x,coil,phase", "'phase'"),
    ],
)
def test_axes_that_do_not_fit_are_refused(tmp_path, axes, words):
    np.save(tmp_path / "a.npy", samples(X, N, Y))
    assert words in complaint(load_kspace, tmp_path / "a.npy", axes)


def test_one_of_several_arrays_is_asked_for(tmp_path):
    savemat(tmp_path / "a.mat", {"a": samples(X, Y), "b": 2 * samples(X, Y), "c": np.ones(2)})
    assert "a, b" in complaint(load_kspace, tmp_path / "a.mat", "x,y")
    kspace = load_kspace(tmp_path / "a.mat", "x,y", "b")
    np.testing.assert_array_equal(kspace.data[:, :, 0, 0, 0], 2 * samples(X, Y))
    assert "holds a, b, c" in complaint(load_kspace, tmp_path / "a.mat", "x,y", "d")


def spoil_missing(path):
    path.unlink()


def spoil_text(path):
    path.write_text("not raw data")


def spoil_empty(path):
    path.write_bytes(b"")


def spoil_header(path):
    path.write_bytes(path.read_bytes().replace(b"{'descr'", b"{('descr")[:-1])


def spoil_cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


@pytest.mark.parametrize("spoil", [spoil_missing, spoil_text, spoil_empty, spoil_cut])
@pytest.mark.parametrize("name", ["a.h5", "a.mat", "a.npy"])
def test_a_broken_file_is_named(tmp_path, spoil, name):
    path = tmp_path / name
    if name == "a.h5":
        raw(path)
    elif name == "a.mat":
        savemat(path, {"ksp": samples(X, Y)})
    else:
        np.save(path, samples(X, Y))
    spoil(path)
    assert name in complaint(load_kspace, path, None if name == "a.h5" else "x,y")


def test_a_damaged_numpy_header_is_named(tmp_path):
    np.save(tmp_path / "a.npy", samples(X, Y))
    spoil_header(tmp_path / "a.npy")
    assert "a.npy is not a readable .npy" in complaint(load_kspace, tmp_path / "a.npy", "x,y")


def test_a_folder_and_another_kind_of_file_are_refused(tmp_path):
    assert "is a folder" in complaint(load_kspace, tmp_path)
    (tmp_path / "a.dat").write_text("x")
    assert ".h5" in complaint(load_kspace, tmp_path / "a.dat")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"kspace": None, "reconstruction_rss": np.ones((Z, X, Y))}, "only ismrmrd_header, recon"),
        ({"kspace": np.ones((Z, N, X, Y), np.float32)}, "real numbers"),
        ({"kspace": np.zeros((Z, N, X, Y), np.complex64)}, "every sample is 0"),
        ({"kspace": np.zeros((Z, 0, X, Y), np.complex64)}, "no samples"),
        ({"kspace": np.full((Z, N, X, Y), np.nan + 0j)}, "NaN"),
        ({"kspace": np.full((Z, N, X, Y), 1e300 + 0j)}, "infinite"),
        ({"kspace": samples(X, Y)}, "2 axes"),
        ({"mask": np.ones(7)}, "mask of 7 and 20 lines"),
    ],
)
def test_contents_that_are_no_k_space_are_refused(tmp_path, more, words):
    assert words in complaint(load_kspace, raw(tmp_path / "a.h5", **more))


def test_nothing_in_a_file_can_run_or_lead_to_another_file(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "a.npy" in complaint(load_kspace, tmp_path / "a.npy", "x,y")
    raw(tmp_path / "other.h5")
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["kspace"] = h5py.ExternalLink("other.h5", "kspace")
    assert "link" in complaint(load_kspace, tmp_path / "link.h5")
    (tmp_path / "secret").write_bytes(bytes(8 * X * Y))
    with h5py.File(tmp_path / "out.h5", "w") as file:
        file.create_dataset(
            "kspace", (1, X, Y), np.complex64, external=[(tmp_path / "secret", 0, 8 * X * Y)]
        )
    assert "in other files" in complaint(load_kspace, tmp_path / "out.h5")


def test_hdf5_without_its_reader_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "a.h5").write_text("x")
    assert "install quell[raw]" in complaint(load_kspace, tmp_path / "a.h5")


def test_zero_lines_at_the_edges_are_taken_with_a_note(tmp_path):
    array = samples(Z, N, 2 * X, Y)
    array[..., :3] = array[..., -1:] = 0
    array[:, :, :5] = 0
    notes = load_kspace(raw(tmp_path / "a.h5", array)).notes
    assert any(note.startswith("4 of 20 lines along y") for note in notes)
    assert any(note.startswith("5 of 48 lines along x") for note in notes)


@pytest.mark.parametrize("where", [np.s_[..., 6], np.s_[:, :, 9], np.s_[1, :, :, 6]])
def test_zero_lines_inside_are_refused(tmp_path, where):
    array = samples(Z, N, 2 * X, Y)
    array[where] = 0
    said = complaint(load_kspace, raw(tmp_path / "a.h5", array))
    assert "1 lines inside" in said
    assert "elsewhere first" in said


def test_scattered_zeros_are_refused_but_for_the_few_of_chance(tmp_path):
    array = samples(Z, N, 2 * X, Y)
    array[:, :, 3, 4] = 0  # as integer data may have
    load_kspace(raw(tmp_path / "a.h5", array))
    array[:, :, np.random.default_rng(1).random((2 * X, Y)) < 0.1] = 0
    assert "of the samples inside" in complaint(load_kspace, raw(tmp_path / "a.h5", array))


def test_a_mask_says_what_was_measured(tmp_path):
    mask = np.ones(Y, bool)
    load_kspace(raw(tmp_path / "a.h5", mask=mask))
    mask[[0, 1, -1]] = False
    notes = load_kspace(raw(tmp_path / "a.h5", mask=mask)).notes
    assert any(note.startswith("3 of 20 lines along y") for note in notes)
    mask[8] = False
    assert "undersampled" in complaint(load_kspace, raw(tmp_path / "a.h5", mask=mask))
    assert "mask" in complaint(load_kspace, raw(tmp_path / "a.h5", mask=0 * mask))


def test_what_is_mostly_zero_filled_is_refused(tmp_path):
    array = samples(Z, N, 2 * X, Y)
    array[..., :11] = 0
    assert "mostly zero-filled" in complaint(load_kspace, raw(tmp_path / "a.h5", array))


def test_an_empty_slice_is_named(tmp_path):
    array = samples(Z, N, 2 * X, Y)
    array[1] = 0
    assert "slice 1 of repetition 0" in complaint(load_kspace, raw(tmp_path / "a.h5", array))


@pytest.mark.parametrize("name", ["reconstruction_rss", "reconstruction_esc"])
def test_finished_images_are_one_magnitude_volume(tmp_path, name):
    images = np.abs(samples(Z, X, Y))
    series = load_images(raw(tmp_path / "a.h5", **{name: images}))
    assert series.data.shape == (X, Y, Z, 1)
    assert series.data.dtype == np.float32
    assert series.data[5, 7, 2, 0] == images[2, 5, 7]
    np.testing.assert_allclose(series.voxel_mm, (10, 10, 5))


def test_a_file_without_finished_images_lists_what_it_has(tmp_path):
    assert "it holds ismrmrd_header, kspace" in complaint(load_images, raw(tmp_path / "a.h5"))


def test_files_of_one_protocol_become_repetitions(tmp_path):
    arrays = [samples(Z, N, 2 * X, Y) * factor for factor in (1, 2)]
    scans = [load_kspace(raw(tmp_path / f"{i}.h5", a)) for i, a in enumerate(arrays)]
    both = join(scans)
    assert both.data.shape == (2 * X, Y, Z, N, 2)
    np.testing.assert_array_equal(both.data[..., 1], 2 * both.data[..., 0])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"kspace": samples(Z, N + 1, 2 * X, Y)}, "48 x 20 x 3 x 3"),
        ({"ismrmrd_header": header(fov=(480, 200, 6), recon_fov=(240, 200, 6))}, "other voxels"),
        ({"ismrmrd_header": None}, "b.h5"),
    ],
)
def test_files_of_two_protocols_are_refused(tmp_path, more, words):
    scans = [load_kspace(raw(tmp_path / "a.h5")), load_kspace(raw(tmp_path / "b.h5", **more))]
    assert words in complaint(join, scans)
