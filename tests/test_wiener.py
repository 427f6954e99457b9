"""The global Wiener filter: the best linear filter over volumes, and joint before it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import quell
from conftest import correlated, few_images, generator
from quell.methods import make
from quell.methods.joint import Joint
from quell.methods.wiener import Wiener
from quell.run import Run
from quell.series import InputError, Series
from quell.simulate import corrupt, phantom

SIZES = np.array([9.0, 4.0, 1.0, 0.5, 0, 0, 0, 0])  # variance of the signal in each component


@pytest.fixture(scope="module")
def known() -> tuple[np.ndarray, np.ndarray, Series]:
    """Signal (X, Y, Z, V) of known covariance (V, V), and the scan: the same with noise of 1."""
    rng = np.random.default_rng(0)
    U = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    x0 = 5 + (rng.standard_normal((80, 80, 10, 8)) * np.sqrt(SIZES)) @ U.T
    y = (x0 + rng.standard_normal(x0.shape)).astype(np.float32)
    scan = replace(few_images(1.0), data=y, mask=None, bvals=None, bvecs=None)
    return x0, (U * SIZES) @ U.T, scan


def filtered(scan: Series, method: Wiener | None = None) -> np.ndarray:
    method = method or Wiener()
    state = method.fit([scan], [correlated()], Run())
    return method.denoise(scan, correlated(), state, Run())


def test_it_is_the_filter_of_signal_and_noise_whose_covariance_is_known(known):
    _, C, scan = known
    learned = Wiener().fit([scan], [correlated()], Run())["filter"].numpy()
    # 64 000 voxels: a standard error below 0.01
    np.testing.assert_allclose(learned, C @ np.linalg.inv(C + np.eye(8)), atol=0.02)


def test_its_error_is_what_theory_says_and_no_other_share_has_less(known):
    x0, _, scan = known
    out = filtered(scan)
    error = np.mean((out - x0) ** 2)
    assert error == pytest.approx(np.sum(SIZES / (SIZES + 1)) / 8, rel=0.02)
    mean = scan.data.mean(axis=(0, 1, 2))
    for share in (0.9, 1.1):
        assert np.mean((mean + share * (out - mean) - x0) ** 2) > error


def test_it_is_what_joint_gives_before_it_has_learned():
    clean = phantom("small").clean
    scan = replace(clean, data=corrupt(clean.data / np.float32(40), 1.0, np.random.default_rng(0)))
    joint = Joint(channels=8)
    net = joint.network(Run()).state_dict()
    state = {f"network.{name}": value for name, value in net.items()}
    untrained = joint.denoise(scan, correlated(), state, Run())
    np.testing.assert_allclose(filtered(scan), untrained, rtol=0, atol=1e-3)  # of a signal of 40
    assert np.abs(untrained - scan.data).max() > 1


def test_voxels_do_not_know_of_each_other(known):
    scan = known[2]
    order = torch.randperm(80, generator=generator()).numpy()
    turned = filtered(replace(scan, data=scan.data[order]))
    np.testing.assert_allclose(turned, filtered(scan)[order], atol=1e-5)


def test_components_without_signal_are_set_to_their_mean(known):
    scan = known[2]
    for least, n_left in ((0.03, 4), (2.0, 2), (1e6, 1)):
        filter_ = Wiener(least).fit([scan], [correlated()], Run())["filter"]
        assert int(torch.linalg.matrix_rank(filter_, tol=1e-6)) == n_left


def test_one_image_is_drawn_towards_its_mean_by_its_noise():
    clean = few_images(100.0)
    y = corrupt(clean.data[..., :1], 1.0, np.random.default_rng(0))
    scan = replace(clean, data=y, bvals=None, bvecs=None)
    inside = y[scan.mask].astype(float)
    mean, variance = inside.mean(), inside.var()
    expected = mean + (variance - 1) / variance * (y - mean)
    there = scan.mask  # outside it, another mean and another variance
    np.testing.assert_allclose(filtered(scan)[there], expected[there], atol=1e-4)


def test_a_scan_loses_most_of_its_noise_in_a_moment():
    clean = phantom("small").clean
    y = corrupt(clean.data, 40.0, np.random.default_rng(0))
    result = quell.denoise(replace(clean, data=y), method="wiener", threads=1)
    before, after = (np.mean((x - clean.data)[clean.mask] ** 2) for x in (y, result.denoised))
    assert 10 * np.log10(before / after) > 3
    assert not result.method.assumes_white


def test_settings_that_do_not_fit_are_refused_in_words():
    with pytest.raises(InputError, match="0 or more") as refusal:
        make("wiener", least_signal=-0.1)
    assert refusal.value.status == 2
