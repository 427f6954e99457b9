"""Intensities: one range for the whole series, and back."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from quell.intensities import PER, Intensities
from quell.series import InputError, Series

VOLUMES = np.arange(4)
MASK = np.ones((12, 10, 5), bool)


def series() -> Series:
    """Four volumes of different brightness, in 0...100."""
    data = np.random.default_rng(0).random((*MASK.shape, 4)) * (100, 50, 25, 10)
    return Series(data.astype(np.float32), np.eye(4), nib.Nifti1Header())


def changed(scan: Series, where: tuple, value: float) -> Series:
    data = scan.data.copy()
    data[where] = value
    return replace(scan, data=data)


@pytest.mark.parametrize("per", PER)
def test_there_and_back_is_the_series_itself(per):
    scan = series()
    range_ = Intensities.of(scan, MASK, VOLUMES, per)
    back = range_.undo(range_.apply(scan.data), VOLUMES)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, scan.data, rtol=1e-5, atol=1e-5)  # of 100: float32


@pytest.mark.parametrize("per", PER)
def test_some_volumes_alone_come_back_too(per):
    scan = series()
    range_ = Intensities.of(scan, MASK, VOLUMES, per)
    some = np.array([3, 1])
    back = range_.undo(range_.apply(scan.data)[..., some], some)
    np.testing.assert_allclose(back, scan.data[..., some], rtol=1e-5, atol=1e-5)


def test_the_series_keeps_the_proportions_of_its_volumes():
    scan = series()
    inside = Intensities.of(scan, MASK, VOLUMES, "series").apply(scan.data)
    assert inside.dtype == np.float32
    np.testing.assert_allclose(
        (inside + 1) / (inside[..., :1] + 1), scan.data / scan.data[..., :1], rtol=1e-3
    )


def test_a_thousandth_of_the_voxels_lies_above_one():
    scan = series()
    inside = Intensities.of(scan, MASK, VOLUMES, "series").apply(scan.data)
    assert inside.min() >= -1
    assert (inside > 1).mean() == pytest.approx(0.001, abs=0.0005)


def test_one_hot_voxel_changes_hardly_anything():
    scan = series()
    hot = changed(scan, (3, 4, 2, 0), 1e5)
    a, b = (Intensities.of(s, MASK, VOLUMES, "series").top for s in (scan, hot))
    np.testing.assert_allclose(a, b, rtol=0.01)
    # by the published rule its whole volume becomes nearly black
    a, b = (Intensities.of(s, MASK, VOLUMES, "volume-maximum").top for s in (scan, hot))
    assert b[0] > 900 * a[0]
    np.testing.assert_array_equal(a[1:], b[1:])


def test_by_the_published_rule_every_maximum_becomes_one():
    scan = series()
    inside = Intensities.of(scan, MASK, VOLUMES, "volume-maximum").apply(scan.data)
    np.testing.assert_allclose(inside.max(axis=(0, 1, 2)), 1, rtol=1e-6)
    zeroed = changed(scan, (0, 0, 0), 0.0)
    assert (Intensities.of(zeroed, MASK, VOLUMES, "volume-maximum").apply(zeroed.data) >= -1).all()
    assert (
        Intensities.of(zeroed, MASK, VOLUMES, "volume-maximum").apply(zeroed.data)[0, 0, 0] == -1
    ).all()


def test_the_range_is_that_of_the_mask_and_of_the_volumes_asked_for():
    scan, mask = series(), MASK.copy()
    mask[0] = False
    outside = changed(scan, (0, 2, 2), 1e6)
    a, b = (Intensities.of(s, mask, VOLUMES, "series").top for s in (scan, outside))
    np.testing.assert_array_equal(a, b)
    of_dim = Intensities.of(scan, MASK, np.array([2, 3]), "series").top
    assert of_dim.tolist() == [of_dim[0]] * 4
    assert of_dim[0] == pytest.approx(25, rel=0.02)


def test_a_volume_named_twice_counts_once():
    scan = series()
    once, twice = (
        Intensities.of(scan, MASK, np.array(v), "series").top for v in ([0, 3], [0, 3, 3])
    )
    np.testing.assert_array_equal(once, twice)


@pytest.mark.parametrize("per", PER)
def test_a_scan_without_signal_is_refused(per):
    scan = replace(series(), data=np.zeros((*MASK.shape, 4), np.float32))
    with pytest.raises(InputError, match="holds no signal"):
        Intensities.of(scan, MASK, VOLUMES, per)


def test_an_empty_volume_is_refused_where_each_has_its_own_range():
    scan = changed(series(), (..., 2), 0.0)
    with pytest.raises(InputError, match="holds no signal; leave it out"):
        Intensities.of(scan, MASK, VOLUMES, "volume-maximum")
    rest = Intensities.of(scan, MASK, np.array([0, 1, 3]), "volume-maximum")
    assert (rest.top[[0, 1, 3]] > 0).all()
