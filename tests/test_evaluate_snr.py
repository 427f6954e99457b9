"""SNR of the corpus callosum: what DDM2's figure falls for, and the honest one does not."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from conftest import write_scan
from quell.evaluate import (
    air_around,
    change_of,
    corpus_callosum,
    ddm2_snr,
    flattened,
    snr_of_air,
    snr_of_errors,
    weighted_volumes,
)
from quell.simulate import PhantomSettings, corrupt, phantom

SIGMA = 40.0


@pytest.fixture(scope="module")
def head():
    """A phantom with room for air that is ten voxels from the brain, and pure fibres."""
    wide = PhantomSettings(
        (60, 64, 10), 4.0, 2, ((1000.0, 12),), seed=3, supersample=3, gyrus_mm=14.0, slab_mm=6.0
    )
    return phantom(wide)


@pytest.fixture(scope="module")
def scan(head):
    """The head with Rician noise, one better result, and where the judge looks."""
    clean = head.clean
    noisy = corrupt(clean.data, SIGMA, np.random.default_rng(0), "rician")
    second = corrupt(clean.data, SIGMA, np.random.default_rng(1), "rician")
    callosum = corpus_callosum(noisy, clean.bvals, clean.bvecs, clean.mask, clean.affine)
    return {
        "noisy": noisy,
        "second": second,
        "better": (clean.data + 0.4 * (noisy - clean.data)).astype(np.float32),
        "callosum": callosum,
        "air": air_around(clean.mask),
        "volumes": weighted_volumes(clean.bvals),
        "mask": clean.mask,
    }


def honest(scan: dict, head, data: np.ndarray) -> tuple[float, float]:
    kept = scan["volumes"]
    return snr_of_errors(
        data[..., kept], head.clean.data[..., kept], scan["callosum"], scan["mask"]
    )


def test_the_callosum_is_found_where_the_phantom_has_it(scan, head):
    found = scan["callosum"]
    assert found.sum() > 20
    assert head.fractions[found, 0].mean() > 0.6  # of voxels, what is callosum
    x = np.argwhere(found)[:, 0]
    assert x.min() >= 15  # in the middle half of the head
    assert x.max() < 45


def test_it_is_found_in_a_scan_whose_axes_are_turned(scan, head):
    """Left to right along the second axis: the same voxels, turned."""
    clean = head.clean
    turn = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    turned = corpus_callosum(
        scan["noisy"].swapaxes(0, 1), clean.bvals, clean.bvecs[:, [1, 0, 2]],
        clean.mask.swapaxes(0, 1), clean.affine @ turn,
    )  # fmt: skip
    np.testing.assert_array_equal(turned.swapaxes(0, 1), scan["callosum"])


def test_snr_of_air_is_signal_over_noise_of_each_volume():
    rng = np.random.default_rng(0)
    data = rng.normal(5, 2, (20, 20, 4, 3)) * np.array([1.0, 1, 3])
    callosum = np.zeros((20, 20, 4), bool)
    callosum[:4] = True
    air = ~callosum
    data[callosum] += 95 * np.array([1.0, 1, 3])
    snr, cnr = snr_of_air(data, callosum, air, np.array([0, 2]))
    np.testing.assert_allclose(snr, 50, rtol=0.06)
    np.testing.assert_allclose(cnr, 47.5, rtol=0.06)
    np.testing.assert_allclose(*snr_of_air(data[..., 1:2], callosum, air, np.array([0])), rtol=0.1)


def test_emptying_the_air_changes_the_honest_snr_by_nothing(scan, head):
    better, air = scan["better"], scan["air"]
    emptied = np.where(air[..., None], 0, better)
    assert honest(scan, head, emptied) == honest(scan, head, better)
    # the published figure soars, and the figure against air is not given
    given = (scan["callosum"], air, scan["volumes"])
    published = [ddm2_snr(data, *given)[0].mean() for data in (scan["noisy"], better, emptied)]
    assert published[2] > 1000 * published[1] > 1000 * published[0]
    assert np.isinf(snr_of_air(emptied, *given)[0]).all()
    assert "% of the air is 0" in flattened(scan["noisy"], emptied, air)


def test_flattened_air_is_refused_and_denoised_air_is_not(scan):
    noisy, air = scan["noisy"], scan["air"]
    mean = noisy[air].mean()
    flat = np.where(air[..., None], mean + 0.03 * (noisy - mean), noisy)
    assert "the air was flattened, to 0.03" in flattened(noisy, flat, air)
    assert flattened(noisy, scan["better"], air) == ""
    assert flattened(noisy, noisy, air) == ""
    assert "0 % of the air" not in flattened(noisy, noisy, air)
    assert "less than 10 voxels of air" in flattened(noisy, noisy, np.zeros_like(air))


def test_removing_one_bright_outlier_moves_the_published_snr_only(scan, head):
    spiked = scan["better"].copy()
    callosum, air = scan["callosum"], scan["air"]
    z = int(np.argwhere(callosum)[:, 2].mean())  # a plane that holds much of the callosum
    x, y = np.argwhere((scan["mask"] & ~callosum)[..., z])[0]
    spiked[x, y, z, 5] = 10 * spiked[..., 5].max()
    before, after = (
        ddm2_snr(data, callosum, air, np.array([5]))[1][0] for data in (spiked, scan["better"])
    )
    assert after > 1.05 * before
    assert honest(scan, head, spiked)[0] == honest(scan, head, scan["better"])[0]
    of_air = [snr_of_air(data, callosum, air, np.array([5]))[0][0] for data in
              (spiked, scan["better"])]  # fmt: skip
    assert of_air[0] == of_air[1]


def test_the_honest_snr_ranks_blank_lowest_and_less_noise_highest(scan, head):
    clean = head.clean.data
    blank = honest(scan, head, np.zeros_like(clean))
    smooth = np.broadcast_to(clean.mean(axis=3, keepdims=True), clean.shape)
    order = [blank, honest(scan, head, smooth), honest(scan, head, scan["better"])]
    assert blank[0] == 0
    assert order == sorted(order)
    assert honest(scan, head, scan["better"])[0] > 2 * honest(scan, head, scan["noisy"])[0]
    assert np.isnan(honest(scan, head, clean)).all()  # no error at all


def test_a_second_acquisition_gives_the_truths_snr(scan, head):
    rng = np.random.default_rng(5)
    clean, kept = head.clean.data[..., scan["volumes"]], scan["volumes"]
    second = clean + SIGMA * rng.standard_normal(clean.shape)
    given = (scan["callosum"], scan["mask"])
    by_repeat = snr_of_errors(scan["better"][..., kept], second, *given, variance=SIGMA**2)
    by_truth = snr_of_errors(scan["better"][..., kept], clean, *given)
    np.testing.assert_allclose(by_repeat, by_truth, rtol=0.35)  # few voxels
    none_known = snr_of_errors(scan["better"][..., kept], second, *given)
    assert none_known[0] < 0.6 * by_truth[0]


def test_changes_are_paired_and_tested():
    rng = np.random.default_rng(0)
    before = rng.normal(5, 2, 30)
    after = before + 0.5 + 0.2 * rng.standard_normal(30)
    change = change_of(before, after)
    assert change.mean == pytest.approx(0.5, abs=0.15)
    assert change.worst < change.mean < change.best
    assert change.sd == pytest.approx(0.2, rel=0.4)
    assert change.p == stats.ttest_1samp(after - before, 0).pvalue < 1e-8
    # not paired, it would be lost in what the volumes differ by
    assert stats.ttest_ind(after, before).pvalue > 0.1
    assert np.isnan(change_of(before, before).p)
    assert np.isnan(change_of(before[:1], after[:1]).sd)


def test_the_command_refuses_flat_air_and_gives_it_as_published(quell, tmp_path, scan, head):
    clean = head.clean
    emptied = np.where(clean.mask[..., None], scan["better"], 0)
    for name, data in (("noisy", scan["noisy"]), ("truth", clean.data),
                       ("kept", scan["better"]), ("emptied", emptied)):  # fmt: skip
        write_scan(tmp_path / f"{name}.nii.gz", replace(clean, data=data))
    out = tmp_path / "out"
    mask = write_mask(tmp_path / "mask.nii.gz", clean)
    files = (tmp_path / "kept.nii.gz", tmp_path / "emptied.nii.gz")
    words = ("--truth", tmp_path / "truth.nii.gz", "--mask", mask, "--threads", "1")
    ended = quell("evaluate", tmp_path / "noisy.nii.gz", *files, *words, "--out", out)
    assert ended.status == 0, ended.err
    with open(out / "evaluation.csv", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert rows["emptied"]["snr"] == rows["kept"]["snr"]
    assert float(rows["kept"]["air_snr_change"]) > 0
    assert float(rows["kept"]["air_snr_p"]) < 1e-4
    assert rows["emptied"]["air_snr"] == ""
    assert "no SNR against air, because" in rows["emptied"]["remarks"]
    assert "published_snr" not in rows["kept"]
    ended = quell("evaluate", tmp_path / "noisy.nii.gz", files[1], *words, "--as-published")
    assert ended.status == 0, ended.err
    assert "SNR as published" in ended.out


def write_mask(path, clean):
    import nibabel as nib

    nib.save(nib.Nifti1Image(clean.mask.astype(np.uint8), clean.affine), path)
    return path
