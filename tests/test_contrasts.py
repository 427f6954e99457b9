"""Contrasts: which images may be shown beside a scan, and that showing them helps."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

import quell as package
from quell.contrasts import load_contrasts, refuse_made_from, shared_noise
from quell.series import InputError, Series, load, write_nifti
from quell.simulate import corrupt

SIGMA = 30.0
SMALL = {"channels": 16, "patch": 24, "threads": 1}
WORDS = ("--method", "c2s", "--set", "steps=2", "--set", "channels=8", "--set", "patch=16",
         "--threads", "1", "--no-report")  # fmt: skip


def noisy(clean: np.ndarray, seed: int, sigma: float = SIGMA, **law) -> np.ndarray:
    return corrupt(clean, sigma, np.random.default_rng(seed), **{"law": "rician", **law})


@pytest.fixture(scope="module")
def scan(brain) -> Series:
    """12 magnitude volumes."""
    return replace(brain.clean, data=noisy(brain.clean.data, 0))


@pytest.fixture
def files(scan, tmp_path):
    """files(name, array) writes an image beside two volumes of the scan."""

    def write(name: str, array: np.ndarray, **sidecar: object):
        write_nifti(tmp_path / f"{name}.nii.gz", array, scan)
        if sidecar:
            (tmp_path / f"{name}.json").write_text(json.dumps(sidecar))
        return tmp_path / f"{name}.nii.gz"

    write("scan", scan.data[..., :2])
    return write


def ghosted(clean: np.ndarray, strength: float) -> np.ndarray:
    """With the ghost of an echo-planar image, half a field of view away."""
    return clean + strength * np.roll(clean, clean.shape[1] // 2, axis=1)


# ---- what is refused ---------------------------------------------------------------------------


def test_another_grid_is_refused(scan, files, tmp_path):
    other = noisy(scan.data[..., :1], 5)
    path = files("smaller", other)
    nib.save(nib.Nifti1Image(other[:-1], scan.affine), path)
    with pytest.raises(InputError, match="not on the grid of"):
        load_contrasts([path], scan)
    moved = scan.affine.copy()
    moved[0, 3] += 1
    nib.save(nib.Nifti1Image(other, moved), path)
    with pytest.raises(InputError, match="not on the grid of"):
        load_contrasts([path], scan)


SOURCES = [
    "scan.nii.gz",
    "sub-01/dwi/scan.nii.gz",
    "bids::sub-01/dwi/scan.nii.gz",
    "C:\\a\\scan.nii.gz",
]


@pytest.mark.parametrize("source", SOURCES)
def test_a_sidecar_that_names_the_scan_is_refused(brain, files, tmp_path, source):
    path = files("b", noisy(brain.clean.data[..., :1], 9), Sources=["other.nii", source])
    with pytest.raises(InputError, match="says its sidecar"):
        load_contrasts([path], load(tmp_path / "scan.nii.gz"))


@pytest.mark.parametrize(
    "sources", [["my_scan.nii.gz"], ["scan.nii.gz.bak"], "scan.nii.gz", [], [3], None]
)
def test_a_sidecar_that_names_other_files_is_not(brain, files, tmp_path, sources):
    path = files("b", noisy(brain.clean.data[..., :1], 9), Sources=sources)
    assert load_contrasts([path], load(tmp_path / "scan.nii.gz")).shape[3] == 1


MADE_FROM_THE_SCAN = {
    "a volume": lambda y: y[..., [3]],
    "a scaled volume": lambda y: 0.1 * y[..., [3]] + 7,
    "a smoothed volume": lambda y: ndimage.gaussian_filter(y[..., [0]], (1, 1, 1, 0)),
    "the mean of all": lambda y: y.mean(axis=3, keepdims=True),
    "the mean of some": lambda y: y[..., 3:9].mean(axis=3, keepdims=True),
    "a difference": lambda y: y[..., [0]] - y[..., [1]],
    "one of several": lambda y: (
        np.stack([noisy(0 * y[..., 0], 4), y[..., 2]], axis=3)
        if y.ndim == 3
        else np.concatenate([noisy(0 * y[..., :1], 4), y[..., [2]]], axis=3)
    ),
}


@pytest.mark.parametrize("what", MADE_FROM_THE_SCAN)
def test_what_was_computed_from_the_scan_is_refused(scan, what):
    made = MADE_FROM_THE_SCAN[what](scan.data).astype(np.float32)
    with pytest.raises(InputError, match="acquired by"):
        refuse_made_from(scan, made, {}, what)


def test_the_mean_of_very_many_volumes_is_refused(brain):
    """Each of them has a tenth of the mean's noise only."""
    data = noisy(np.repeat(brain.clean.data[..., :1], 100, axis=3), 3)
    scan = replace(brain.clean, data=data, bvals=None, bvecs=None)
    assert shared_noise(data, data.mean(axis=3, keepdims=True), brain.clean.mask) > 0.4
    with pytest.raises(InputError, match="shares its noise"):
        refuse_made_from(scan, data.mean(axis=3, keepdims=True), {}, "mean")


@pytest.mark.parametrize("method", ["patch2self", "c2s", "joint"])
def test_a_denoised_copy_is_refused_without_a_sidecar(scan, method):
    one = replace(scan, data=scan.data[..., :1], bvals=None, bvecs=None)
    few = {"threads": 1} if method == "patch2self" else {"steps": 20, **SMALL}
    given = scan if method == "patch2self" else one
    result = package.denoise(given, method=method, **few)
    for v in range(result.denoised.shape[3]):
        with pytest.raises(InputError, match="shares its noise"):
            refuse_made_from(scan, result.denoised[..., [v]], {}, "denoised")


def test_the_scan_itself_is_refused_even_without_air(scan):
    zeroed = replace(scan, data=np.where(scan.mask[..., None], scan.data, 0))
    with pytest.raises(InputError, match="is a volume of the scan itself"):
        refuse_made_from(zeroed, zeroed.data[..., [4]], {}, "copy")


def test_a_magnitude_made_from_a_complex_scan_is_refused(scan):
    rng = np.random.default_rng(2)
    n = rng.standard_normal((2, *scan.data[..., :1].shape)) * SIGMA
    data = (scan.data[..., :1] + n[0] + 1j * n[1]).astype(np.complex64)
    one = replace(scan, data=data, bvals=None, bvecs=None)
    with pytest.raises(InputError, match="a volume of the scan"):
        refuse_made_from(one, np.abs(data), {}, "magnitude")
    with pytest.raises(InputError, match="shares its noise"):
        refuse_made_from(one, ndimage.gaussian_filter(np.abs(data), 0.6), {}, "smoothed")


# ---- what is accepted --------------------------------------------------------------------------


@pytest.mark.parametrize("ghost", [0.0, 0.03, 0.1])
@pytest.mark.parametrize("correlation", [None, (0.5, 0.6, 0.2)])
def test_the_same_anatomy_with_its_own_noise_is_accepted(brain, ghost, correlation):
    """Of the same contrast, averaged, with the same ghost: nothing but the noise differs."""
    clean = ghosted(brain.clean.data, ghost)
    scan = replace(brain.clean, data=noisy(clean, 0, correlation=correlation))
    for seed, sigma in ((11, SIGMA), (12, SIGMA / 3), (13, 2 * SIGMA)):
        other = noisy(clean[..., [0, 5]], seed, sigma, correlation=correlation)
        refuse_made_from(scan, other, {}, "independent")
        assert shared_noise(scan.data, other, scan.mask) < 0.12


def test_little_air_and_many_volumes_are_no_reason(brain):
    """With 160 voxels of air and 60 volumes, chance alone correlates some by a quarter."""
    clean = np.repeat(brain.clean.data[..., :1], 60, axis=3)
    scan = replace(brain.clean, data=noisy(clean, 0), bvals=None, bvecs=None)
    mask = np.ones(scan.data.shape[:3], bool)
    mask[:8, :8] = False
    scan = replace(scan, mask=mask)
    refuse_made_from(scan, noisy(clean[..., :1], 6), {}, "independent")


@pytest.mark.parametrize("zeroed", ["scan", "contrast", "both"])
def test_zeroed_air_tells_nothing(scan, brain, zeroed, recwarn):
    """As most anatomical images come; 12 volumes with air hide the zeros of one without."""
    mine, other = scan.data, noisy(brain.clean.data[..., :1], 8)
    if zeroed != "contrast":
        mine = np.where(scan.mask[..., None], mine, 0)
    if zeroed != "scan":
        other = np.where(scan.mask[..., None], other, 0)
    assert shared_noise(mine, other, scan.mask) == 0
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_complex_contrasts_are_shown_as_magnitudes(scan, brain, files):
    clean = brain.clean.data[..., :1]
    n = SIGMA * np.random.default_rng(8).standard_normal((2, *clean.shape))
    other = clean * np.exp(1j) + n[0] + 1j * n[1]
    path = files("complex", other.astype(np.complex64))
    shown = load_contrasts([path], scan)[..., 0]
    assert shown.dtype == np.float32
    np.testing.assert_allclose(shown, np.abs(other)[..., 0], rtol=1e-4)


def test_voxels_that_are_no_numbers_are_shown_as_0(brain, files, quell, tmp_path):
    other = noisy(brain.clean.data[..., :1], 7)
    other[30:34, 30:34, 5] = np.nan
    path = files("holes", other)
    ran = quell(
        "denoise", tmp_path / "scan.nii.gz", tmp_path / "out.nii.gz", "--contrast", path, *WORDS
    )
    assert ran.status == 0, ran.err
    assert np.isfinite(np.asarray(nib.load(tmp_path / "out.nii.gz").dataobj)).all()


def test_a_3d_file_is_a_contrast_too(brain, files, scan):
    other = noisy(brain.clean.data[..., :1], 7)
    paths = [files("flat", other[..., 0]), files("deep", other)]
    shown = load_contrasts(paths, scan)
    assert shown.shape == (*scan.data.shape[:3], 2)
    np.testing.assert_array_equal(shown[..., 0], shown[..., 1])


# ---- what they are for -------------------------------------------------------------------------


def test_methods_that_take_none_say_so(scan, brain, files, quell, tmp_path):
    path = files("t2", noisy(brain.clean.data[..., :1], 7))
    for method in ("joint", "patch2self", "ddm2", "difusion", "noise2noise"):
        words = ("--contrast", path, "--method", method)
        ran = quell("denoise", tmp_path / "scan.nii.gz", tmp_path / "out.nii.gz", *words)
        assert ran.status == 2
        assert f"{method} takes no other contrasts; use --method c2s" in ran.err
        assert not (tmp_path / "out.nii.gz").exists()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(lambda c: c[:-1], "not on the grid"), (lambda c: c * np.float32(np.nan), "NaN or Inf")],
)
def test_contrasts_that_do_not_fit_are_refused_from_python(scan, spoil, words):
    spoiled = replace(scan, contrasts=spoil(scan.data[..., :1].copy()))
    with pytest.raises(InputError, match=words):
        package.denoise(spoiled, method="c2s", steps=1, **SMALL)


def test_doubles_are_contrasts_too(scan, brain):
    beside = replace(scan, contrasts=brain.clean.data[..., :1].astype(np.float64))
    result = package.denoise(beside, method="c2s", steps=1, **SMALL)
    assert result.denoised.dtype == np.float32


@pytest.fixture(scope="module")
def low_signal(brain):
    """error(contrast): of one noisy diffusion-weighted image, denoised beside another image."""
    clean = brain.clean.data[:, :, 3:7, [5]]
    known = {"mask": brain.clean.mask[:, :, 3:7], "bvals": None, "bvecs": None}
    scan = replace(brain.clean, data=noisy(clean, 0, 150.0, law="gaussian"), **known)

    def error(contrast: np.ndarray | None) -> float:
        beside = replace(scan, contrasts=contrast)
        few = {**SMALL, "steps": 50, "patch": 16}
        result = package.denoise(beside, method="c2s", **few)
        return float(np.mean((result.denoised - clean)[scan.mask] ** 2))

    return error


def test_a_clean_contrast_helps_a_noisy_image_and_mere_noise_does_no_harm(brain, low_signal):
    b0 = brain.clean.data[:, :, 3:7, :1]
    alone = low_signal(None)
    assert low_signal(noisy(b0, 1, 10.0)) < 0.92 * alone
    assert low_signal(noisy(0 * b0, 1, 10.0)) < 1.1 * alone


def test_a_model_is_used_with_as_many_contrasts_as_it_saw(brain, files, quell, tmp_path):
    path = files("t2", noisy(brain.clean.data[..., :1], 7))
    scan, model = tmp_path / "scan.nii.gz", tmp_path / "m.safetensors"
    ran = quell(
        "denoise", scan, tmp_path / "a.nii.gz", "--contrast", path, "--model-out", model, *WORDS
    )
    assert ran.status == 0, ran.err
    words = ("--model", model, "--no-report", "--threads", "1")
    ran = quell("denoise", scan, tmp_path / "b.nii.gz", *words)
    assert ran.status == 1
    assert "was learned with 1 other contrasts and 0 are given" in ran.err
    ran = quell("denoise", scan, tmp_path / "b.nii.gz", "--contrast", path, *words)
    assert ran.status == 0, ran.err
    a, b = (np.asarray(nib.load(tmp_path / f"{n}.nii.gz").dataobj) for n in "ab")
    np.testing.assert_array_equal(a, b)


def test_a_contrast_is_never_written(scan, brain, files, quell, tmp_path):
    path = files("t2", noisy(brain.clean.data[..., :1], 7))
    words = ("--contrast", path, "--force", *WORDS)
    ran = quell("denoise", tmp_path / "scan.nii.gz", path, *words)
    assert ran.status == 2
    assert "belongs to an input" in ran.err
