"""Each check speaks on a scan made to break it, and all are silent on a good one."""

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from quell.checks import CHECKS, Finding, check, header, refuse
from quell.methods import make
from quell.series import InputError, Series

SHAPE, N_B0, N_DWI, SIGMA = (64, 64, 8), 3, 16, 12.0
GOOD_SIDECAR = {"CoilCombinationMethod": "Adaptive Combine", "EchoTime": 0.1}


def disc():
    x, y = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE[:2]), indexing="ij")
    return np.repeat(((x / 0.8) ** 2 + (y / 0.9) ** 2 < 1)[..., None], SHAPE[2], axis=2)


def directions():
    rng = np.random.default_rng(5)
    g = rng.normal(size=(N_DWI, 3))
    return np.vstack([np.zeros((N_B0, 3)), g / np.linalg.norm(g, axis=1, keepdims=True)])


def tissue():
    """A head with fibres: (X, Y, Z, V), noise-free, whose contrast follows the direction."""
    rng = np.random.default_rng(3)
    fibre = np.stack([ndimage.gaussian_filter(rng.normal(size=SHAPE), 4) for _ in range(3)], -1)
    fibre /= np.linalg.norm(fibre, axis=-1, keepdims=True)
    b0 = 800 + 4000 * ndimage.gaussian_filter(rng.normal(size=SHAPE), 2)
    decay = np.exp(-0.4 - 1.2 * (fibre @ directions()[N_B0:].T) ** 2)
    b0s = np.repeat(b0[..., None], N_B0, axis=-1)
    return np.concatenate([b0s, b0[..., None] * decay], axis=-1) * disc()[..., None]


@pytest.fixture(scope="module")
def clean_scan():
    return tissue()


@pytest.fixture(scope="module")
def good(clean_scan):
    rng = np.random.default_rng(4)
    real, imaginary = rng.normal(0, SIGMA, (2, *clean_scan.shape))
    data = np.hypot(clean_scan + real, imaginary).astype(np.float32)
    return Series(
        data=data,
        affine=np.diag([2.0, 2, 2, 1]),
        header=nib.Nifti1Header(),
        bvals=np.array([0.0] * N_B0 + [1000.0] * N_DWI),
        bvecs=directions(),
        path=Path("sub-01_dwi.nii.gz"),
        sidecar=GOOD_SIDECAR,
    )


def changed(series, **sidecar):
    return replace(series, sidecar={**GOOD_SIDECAR, **sidecar})


def with_data(series, function):
    data = series.data.copy()
    new = function(data)
    return replace(series, data=data if new is None else new.astype(new.dtype))


def first(series, keep):
    keep = np.asarray(keep)
    return replace(
        series, data=series.data[..., keep], bvals=series.bvals[keep], bvecs=series.bvecs[keep]
    )


def zero_filled(data, axis=1, keep=0.8):
    k = np.fft.fft(data, axis=axis)
    outer = np.abs(np.fft.fftfreq(data.shape[axis])) > keep / 2
    k[(slice(None),) * axis + (outer,)] = 0
    return np.abs(np.fft.ifft(k, axis=axis)).astype(np.float32)


def dark_slice(data):
    data[:, :, 3, 7] *= 0.3


def louder_volume(data):
    data[..., 9] *= 2


def copied(data):
    data[..., 6] = data[..., 5]


def moved(data, by=1):
    data[..., 8] = np.roll(data[..., 8], by, axis=1)


def emptied(data):
    noise = np.random.default_rng(7).normal(0, SIGMA, (2, *data.shape[:3]))
    data[..., 7] = np.hypot(*noise)


def hollow(data):
    data[28:36, 28:36] = 0


def long_vectors(series):
    return replace(series, bvecs=series.bvecs * 1.2)


def at_floor(series):
    rng = np.random.default_rng(6)
    noise = rng.normal(0, 500, (2, *series.data.shape))
    return replace(series, data=np.hypot(series.data + noise[0], noise[1]).astype(np.float32))


CASES = [
    ("no-bvals", "note", lambda s: replace(s, bvals=None, bvecs=None)),
    ("gradient-count", "error", lambda s: replace(s, bvals=s.bvals[:-1])),
    ("gradient-count", "error", lambda s: replace(s, bvecs=s.bvecs[:-1])),
    ("bvec-norm", "error", long_vectors),
    ("no-bvecs", "note", lambda s: replace(s, bvecs=None)),
    ("no-b0", "warning", lambda s: first(s, range(N_B0, N_B0 + N_DWI))),
    ("few-volumes", "warning", lambda s: first(s, range(9))),
    ("few-volumes", "warning", lambda s: first(s, range(11))),
    ("single-b0", "note", lambda s: first(s, range(N_B0 - 1, N_B0 + N_DWI))),
    ("thin-shell", "warning", lambda s: replace(s, bvals=np.append(s.bvals[:-1], 2000.0))),
    ("processed", "note", lambda s: changed(s, Interpolation2D=1)),
    ("processed", "note", lambda s: changed(s, AcquisitionMatrixPE=48, ReconMatrixPE=64)),
    ("processed", "warning", lambda s: changed(s, GeneratedBy=[{"Name": "other"}])),
    ("processed", "note", lambda s: changed(s, ImageType=["ORIGINAL", "DIS2D"])),
    ("processed", "note", lambda s: changed(s, NonlinearGradientCorrection=True)),
    ("processed", "warning", lambda s: changed(s, ImageTypeText=["DEEP_RESOLVE"])),
    ("processed", "warning", lambda s: replace(s, path=Path("sub-01_desc-preproc_dwi.nii"))),
    ("protocol", "note", lambda s: changed(s, PartialFourier=0.75, MultibandAccelerationFactor=3)),
    ("empty-k-space", "note", lambda s: with_data(s, zero_filled)),
    ("smooth-noise", "note",
     lambda s: with_data(s, lambda d: ndimage.gaussian_filter(d, (0.8, 0.8, 0.8, 0)))),
    ("complex", "note", lambda s: with_data(s, lambda d: d.astype(np.complex64))),
    ("phase", "error", lambda s: with_data(s, lambda d: (d / d.max() - 0.5) * 2 * math.pi)),
    ("phase", "error", lambda s: replace(s, path=Path("sub-01_part-phase_dwi.nii.gz"))),
    ("negative", "warning", lambda s: with_data(s, lambda d: d - 30)),
    ("noise-floor", "note", at_floor),
    ("coils-unknown", "note", lambda s: replace(at_floor(s), sidecar={})),
    ("clipped", "warning", lambda s: with_data(s, lambda d: d.clip(max=900))),
    ("coarse-steps", "warning",
     lambda s: replace(with_data(s, lambda d: np.round(d / 50) * 50), stored_dtype="int16")),
    ("zero-background", "note", lambda s: with_data(s, lambda d: d * disc()[..., None])),
    ("zeros-in-mask", "warning", lambda s: with_data(s, hollow)),
    ("nonfinite", "note", lambda s: replace(s, n_nonfinite=3)),
    ("dark-slices", "warning", lambda s: with_data(s, dark_slice)),
    ("empty-volume", "warning", lambda s: with_data(s, emptied)),
    ("volume-scale", "warning", lambda s: with_data(s, louder_volume)),
    ("b-unit", "warning", lambda s: replace(s, bvals=s.bvals / 1000)),
    ("duplicates", "warning", lambda s: with_data(s, copied)),
    ("motion", "note", lambda s: with_data(s, moved)),
    ("motion", "warning", lambda s: with_data(s, lambda d: moved(d, by=4))),
]  # fmt: skip


def test_a_good_scan_gets_no_word(good):
    assert check(good, disc(), method=make("joint")) == []


@pytest.mark.parametrize(
    ("code", "level", "spoil"), CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)]
)
def test_a_spoilt_scan_is_named(good, code, level, spoil):
    found = check(spoil(good), disc(), method=make("joint"))
    (finding,) = [f for f in found if f.code == code]
    assert finding.level == level
    assert finding.advice


@pytest.mark.parametrize(("free_gib", "level"), [(0.7, "warning"), (0.1, "error")])
def test_too_little_memory_is_named_with_the_numbers(good, monkeypatch, free_gib, level):
    monkeypatch.setattr(header, "available_memory", lambda: int(free_gib * 2**30))
    (finding,) = check(good, disc())
    assert (finding.code, finding.level) == ("memory", level)
    assert f"{free_gib} GiB" in finding.sentence


def test_memory_is_known_here():
    assert header.available_memory() > 2**20


def test_the_dark_slice_is_the_one_named(good):
    (finding,) = check(with_data(good, dark_slice), disc())
    assert finding.sentence == "slice 3 of volume 7 lost more than 40 % of the signal"
    assert (finding.slices, finding.is_fault) == (((7, 3),), True)


def test_a_slice_without_signal_is_named_also_where_its_noise_is_high(good):
    rng = np.random.default_rng(8)
    noise = rng.normal(0, 120, (2, *good.data.shape))
    data = np.hypot(good.data + noise[0], noise[1])
    data[:, :, 3, 7] = np.hypot(*rng.normal(0, 120, (2, *SHAPE[:2])))
    level = data[:, :, 3, 7][disc()[:, :, 3]].mean() / data[:, :, 3, 8][disc()[:, :, 3]].mean()
    assert level > 0.25  # of a floor alone, as at b = 2000
    found = check(replace(good, data=data.astype(np.float32)), disc())
    (finding,) = [f for f in found if f.code == "dark-slices"]
    assert finding.sentence == "slice 3 of volume 7 has no signal"


@pytest.mark.parametrize("volumes", [[0], [0, 1]])
def test_an_empty_slice_of_a_b0_that_no_other_is_like_is_named(good, volumes):
    scan = first(good, [*volumes, *range(N_B0, N_B0 + N_DWI)])
    assert "dark-slices" not in {f.code for f in check(scan, disc())}
    noise = np.random.default_rng(9).normal(0, SIGMA, (2, *SHAPE[:2]))
    scan.data[:, :, 4, 0] = np.hypot(*noise)
    (finding,) = [f for f in check(scan, disc()) if f.code == "dark-slices"]
    assert finding.sentence == "slice 4 of volume 0 has no signal"


def test_a_head_that_moved_and_stayed_is_no_dropout(good):
    def tilted(data, volumes):
        data[:, :, 6, volumes] *= 0.5

    found = {f.code: f for f in check(with_data(good, lambda d: tilted(d, slice(9, 12))), disc())}
    assert "dark-slices" not in found
    assert found["moved-slices"].level == "note"
    assert "slice 6 shows another place in volumes 9, 10, 11" in found["moved-slices"].sentence
    for apart in ([9, 12, 15], [9, 10]):  # as often, but not one after the other; too short
        found = {f.code for f in check(with_data(good, partial(tilted, volumes=apart)), disc())}
        assert "dark-slices" in found
        assert "moved-slices" not in found


def test_a_slice_inside_the_head_that_stays_empty_is_lost_not_moved(good):
    def lost(data):
        data[:, :, 4, 9:13] *= 0.05

    (finding,) = check(with_data(good, lost), disc())
    assert finding.code == "dark-slices"
    assert finding.slices == tuple((v, 4) for v in range(9, 13))


def test_only_lines_that_were_not_acquired_can_have_been_filled_in(good):
    scan = with_data(good, zero_filled)
    for lines, words in ((48, "zero-filled"), (64, "all 64 lines were acquired")):
        known = replace(scan, sidecar={**GOOD_SIDECAR, "AcquisitionMatrixPE": lines,
                                       "ReconMatrixPE": 64, "PartialFourier": 0.75})  # fmt: skip
        (finding,) = [f for f in check(known, disc()) if f.code == "empty-k-space"]
        assert words in finding.sentence


@pytest.mark.parametrize(("method", "level"), [("joint", "note"), ("ascm", "warning")])
def test_provenance_is_a_warning_only_where_the_noise_is_taken_to_be_white(good, method, level):
    scan = changed(with_data(good, zero_filled), AcquisitionMatrixPE=48, ReconMatrixPE=64)
    found = {f.code: f for f in check(scan, disc(), method=make(method))}
    assert found["processed"].level == found["empty-k-space"].level == level
    assert (method in found["processed"].advice) == (level == "warning")


@pytest.mark.parametrize("name", ["joint", "wiener", "mppca", "patch2self", "ddm2", "difusion"])
def test_the_least_number_of_volumes_is_the_methods_own_everywhere(good, name):
    method = make(name)
    n = method.best_volumes
    assert f"{n}" in method.needs
    enough, fewer = (check(first(good, range(m)), disc(), method=method) for m in (n, n - 1))
    assert "few-volumes" not in {f.code for f in enough}
    (finding,) = [f for f in fewer if f.code == "few-volumes"]
    assert f"{name} is at its best from {n} on" in finding.sentence


@pytest.mark.parametrize(("axis", "name"), [(0, "x"), (1, "y")])
def test_the_empty_axis_of_k_space_is_the_one_named(good, axis, name):
    found = check(with_data(good, lambda d: zero_filled(d, axis)), disc())
    (finding,) = [f for f in found if f.code == "empty-k-space"]
    assert f"along {name} of" in finding.sentence


def test_a_contrast_that_follows_the_direction_is_not_motion(clean_scan, good):
    scan = replace(good, data=clean_scan.astype(np.float32))
    assert "motion" not in {f.code for f in check(scan, disc())}


def test_a_known_noise_map_decides_the_floor(good):
    codes = {f.code for f in check(good, disc(), sigma=np.full(SHAPE, 400.0))}
    assert "noise-floor" in codes


def filled(scan):
    """The scan with tissue also where the disc leaves air: brighter than noise, and steady."""
    x = np.linspace(0.5, 1.5, SHAPE[0])[:, None, None, None]
    rest = np.where(disc()[..., None], 0, 300 * x)
    return replace(scan, data=(scan.data + rest).astype(np.float32), bvals=None, bvecs=None)


def test_a_computed_mask_that_may_leave_tissue_out_is_named(good):
    (finding,) = [f for f in check(filled(good), disc()) if f.code == "mask-uncertain"]
    assert finding.level == "warning"
    assert "--mask" in finding.advice
    given = replace(filled(good), mask=disc())
    assert "mask-uncertain" not in {f.code for f in check(given, disc())}


def test_a_field_of_view_without_air_is_named(good):
    inside = replace(good, data=good.data[16:48, 16:48])
    everything = np.ones(inside.data.shape[:3], bool)
    assert "no-air" in {f.code for f in check(inside, everything)}
    assert "no-air" not in {f.code for f in check(replace(inside, mask=everything), everything)}


def test_errors_come_first_and_the_first_is_raised(good):
    found = check(changed(long_vectors(good), PartialFourier=0.75), disc())
    assert [f.level for f in found] == ["error", "note"]
    with pytest.raises(InputError, match="not of length 1"):
        refuse(found)


def test_notes_and_warnings_refuse_nothing(good):
    scan = changed(first(good, range(9)), PartialFourier=0.75)
    refuse(check(scan, disc(), method=make("joint")))


def test_an_empty_mask_is_refused(good):
    with pytest.raises(InputError, match="empty"):
        check(good, np.zeros(SHAPE, bool))


@pytest.mark.parametrize("value", ["x" * 10_000, "\x1b[31m<script>", {"a": [1] * 1000}, [None]])
def test_whatever_a_sidecar_holds_is_quoted_short_and_plain(good, value):
    keys = ("GeneratedBy", "ImageType", "PartialFourier", "Interpolation2D", "AcquisitionMatrixPE")
    for finding in check(changed(good, **dict.fromkeys(keys, value)), disc()):
        assert len(finding.sentence) < 200
        assert finding.sentence.isprintable()


def test_the_scan_is_left_as_it_was(good):
    before = good.data.copy()
    check(good, disc())
    np.testing.assert_array_equal(good.data, before)


@pytest.mark.parametrize("shape", [(5, 4, 1, 2), (1, 1, 1, 2), (40, 3, 2, 5)])
def test_tiny_scans_are_judged_without_a_crash(good, shape):
    data = np.random.default_rng(0).random(shape, dtype=np.float32) + 1
    tiny = replace(good, data=data, bvals=None, bvecs=None)
    assert "few-volumes" in {
        f.code for f in check(tiny, np.ones(shape[:3], bool), None, make("joint"))
    }


def test_a_finding_is_plain_text_for_json():
    finding = Finding("few-volumes", "note", "a", "b")
    assert json.loads(json.dumps(finding.to_dict()))["code"] == "few-volumes"


def test_every_check_says_what_it_is_about():
    assert all(one.__doc__ for one in CHECKS)
