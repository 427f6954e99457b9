"""Data consistency: two independent looks at the same truth are better than either."""

import numpy as np
import pytest

from quell.consistency import consistent, keep_means

SHAPE = (48, 48, 2, 16)
SIGMA = 2.0
ONE_SHELL = np.zeros(SHAPE[3], int)


def normal(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(SHAPE, dtype=np.float32)


def scan(v: float, sigma: float | np.ndarray = SIGMA) -> tuple[np.ndarray, ...]:
    """Truth, a noisy look at it, and an estimate whose error has variance v."""
    truth = 50 * normal(0)
    return truth, truth + sigma * normal(1), truth + np.float32(v**0.5) * normal(2)


def sd(a: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(a, dtype=np.float64))))


@pytest.mark.parametrize("v", [0.5, 4.0, 20.0])
def test_the_error_is_that_of_two_independent_measurements(v):
    truth, x, estimate = scan(v)
    c, variance = consistent(x, estimate, np.full((1, 1, 1, 1), SIGMA), ONE_SHELL)
    best = SIGMA**2 * v / (SIGMA**2 + v)
    # 74 000 voxels: 0.5 %. v is seen from 16 volumes and 13 voxels, so w is off by 0.1 sigma² /
    # (sigma² + v), which costs a share of 0.01 sigma² / v
    tolerance = 0.02 + 0.01 * SIGMA**2 / v
    assert sd(c - truth) ** 2 == pytest.approx(best, rel=tolerance)
    assert sd(c - truth) < min(sd(x - truth), sd(estimate - truth))
    assert variance.mean() == pytest.approx(best, rel=tolerance)


def test_a_perfect_estimate_is_taken_nearly_whole():
    truth, x, _ = scan(0)
    c, variance = consistent(x, truth, np.full(SHAPE, SIGMA), ONE_SHELL)
    # x keeps 0.02, and where its noise happens to look like error up to 0.3
    assert sd(c - truth) < 0.1 * SIGMA
    assert variance.mean() < 0.1 * SIGMA**2


def test_a_useless_estimate_leaves_the_volumes_nearly_alone():
    _, x, estimate = scan(1e4 * SIGMA**2)
    c, variance = consistent(x, estimate, np.full(SHAPE, SIGMA), ONE_SHELL)
    # it weighs 1e-4, and is 100 sigma away
    assert sd(c - x) == pytest.approx(0.01 * SIGMA, rel=0.1)
    assert variance.mean() == pytest.approx(SIGMA**2, rel=0.01)


def test_the_result_lies_between_the_two():
    _, x, estimate = scan(3.0)
    c, _ = consistent(x, estimate, np.full(SHAPE, SIGMA), ONE_SHELL)
    low, high = np.minimum(x, estimate), np.maximum(x, estimate)
    assert ((c >= low - 1e-4) & (c <= high + 1e-4)).all()  # of 200: float32


def test_every_shell_is_weighed_by_itself():
    truth, x, estimate = scan(0)
    _, _, bad = scan(1e4)
    shell = np.arange(SHAPE[3]) % 2 * 3
    estimate[..., shell == 3] = bad[..., shell == 3]
    c, _ = consistent(x, estimate, np.full(SHAPE, SIGMA), shell)
    assert sd((c - truth)[..., shell == 0]) < 0.15 * SIGMA
    assert sd((c - x)[..., shell == 3]) < 0.05 * SIGMA
    alone, _ = consistent(x[..., ::2], estimate[..., ::2], np.full(1, SIGMA), ONE_SHELL[::2])
    np.testing.assert_allclose(c[..., ::2], alone, rtol=1e-5, atol=1e-4)


def test_where_the_noise_is_larger_the_estimate_weighs_more():
    sigma = np.where(np.arange(48) < 24, 1.0, 6.0).astype(np.float32)[:, None, None, None]
    truth, x, estimate = scan(4.0, sigma)
    c, _ = consistent(x, estimate, sigma, ONE_SHELL)
    for part, s in ((slice(0, 18), 1.0), (slice(30, 48), 6.0)):
        best = s**2 * 4 / (s**2 + 4)  # of sigma 6, v = 4 is seen against 36: off by half
        assert sd((c - truth)[part]) ** 2 == pytest.approx(best, rel=0.1)


def test_slices_do_not_see_each_other():
    _, x, estimate = scan(3.0)
    _, _, other = scan(300.0)
    other[:, :, 1] = estimate[:, :, 1]
    a, b = (consistent(x, e, np.full(1, SIGMA), ONE_SHELL)[0] for e in (estimate, other))
    np.testing.assert_array_equal(a[:, :, 1], b[:, :, 1])
    assert (a[:, :, 0] != b[:, :, 0]).any()


def test_the_volumes_are_left_alone():
    _, x, estimate = scan(3.0)
    before = x.copy(), estimate.copy()
    consistent(x, estimate, np.full(1, SIGMA), ONE_SHELL)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(estimate, before[1])


# ---- means ---------------------------------------------------------------------------------------


def test_every_volume_gets_back_its_mean_in_the_mask_and_nothing_else():
    _, x, result = scan(300.0)
    result += np.arange(SHAPE[3], dtype=np.float32)
    where = np.zeros(SHAPE[:3], bool)
    where[10:30, 5:40] = True
    kept = keep_means(result, x, where)
    assert kept.dtype == np.float32
    np.testing.assert_allclose(kept[where].mean(axis=0), x[where].mean(axis=0), atol=1e-3)
    shift = (kept - result).reshape(-1, SHAPE[3])
    np.testing.assert_allclose(shift, np.broadcast_to(shift[:1], shift.shape), atol=1e-4)  # of 200
    np.testing.assert_allclose(keep_means(kept, x, where), kept, atol=1e-4)


def test_the_mean_is_summed_in_double_precision():
    x = np.full((64, 64, 8, 1), 1e4, np.float32) + normal(3)[:1, :1, :1, :1]
    where = np.ones(x.shape[:3], bool)
    np.testing.assert_allclose(keep_means(x - 3, x, where), x, rtol=0, atol=2e-3)  # an ulp is 1e-3
