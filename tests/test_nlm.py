"""Non-local means: the filter is what the paper writes, and takes images as they are."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

import quell
from conftest import correlated, few_images, generator
from quell.methods import make
from quell.methods.nlm import NonLocalMeans
from quell.noise import LAGS, draw
from quell.nonlocal_means import correlation_at, mean_in_block, nonlocal_means, overlap
from quell.run import Run
from quell.series import InputError
from quell.simulate import corrupt

WHITE = correlated().covariance


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed))


def gain_db(result: np.ndarray, noisy: np.ndarray, clean: np.ndarray) -> float:
    before, after = (np.mean((x - clean) ** 2, dtype=float) for x in (noisy, result))
    return float(10 * np.log10(before / after))


# ---- the filter ----------------------------------------------------------------------------------


def as_written(y: np.ndarray, patch: int, search: int, beta: float, rho: np.ndarray) -> np.ndarray:
    """The filter voxel by voxel, block by block, without any trick."""
    places = list(product(*map(range, y.shape)))
    inside = set(places)

    def shifted(place, shift):
        return tuple(p + s for p, s in zip(place, shift, strict=True))

    block = list(product(range(-patch, patch + 1), repeat=3))
    window = list(product(range(-search, search + 1), repeat=3))
    top, bottom = np.zeros(y.shape), np.zeros(y.shape)
    for i in places:
        weights = {}
        for shift in window:
            if shift == (0, 0, 0) or shifted(i, shift) not in inside:
                continue
            pairs = [(shifted(i, o), shifted(shifted(i, shift), o)) for o in block]
            d = np.mean([(y[a] - y[b]) ** 2 for a, b in pairs if {a, b} <= inside])
            weights[shift] = np.exp(-d / (2 * beta * (1 - correlation_at(rho, shift))))
        weights[0, 0, 0] = max(weights.values())
        total = sum(weights.values())
        for shift, w in weights.items():
            # of the blocks that hold a voxel x, a mean over those whose partner holds one for it
            for o in block:
                x, other = shifted(i, o), shifted(shifted(i, o), shift)
                if {x, other, shifted(i, shift)} <= inside:
                    n = sum({shifted(x, p), shifted(shifted(x, p), shift)} <= inside for p in block)
                    top[x] += w / total / n * y[other]
                    bottom[x] += w / total / n
    return top / bottom


@pytest.mark.parametrize(
    ("shape", "patch", "search"), [((4, 4, 3), 1, 2), ((6, 5, 1), 1, 1), ((4, 4, 2), 0, 3)]
)
def test_the_filter_is_that_of_the_paper(shape, patch, search):
    y, rho = image(*shape), correlated(x=0.4, y=-0.2).covariance
    expected = as_written(y.double().numpy(), patch, search, 0.5, rho)
    result = nonlocal_means(y, patch, search, 0.5, rho)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)  # float32


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 1, 1), (9, 8, 2)])
def test_a_block_ends_where_the_image_ends(shape):
    y = image(*shape)
    mean = mean_in_block(y, 2)
    for place in product(*map(range, shape)):
        around = y[tuple(slice(max(0, i - 2), i + 3) for i in place)]
        assert float(mean[place]) == pytest.approx(float(around.mean()), abs=1e-6)


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (0.5, 0.2)])
def test_blocks_that_show_the_same_differ_by_the_noise_they_do_not_share(x, y):
    model = correlated(x=x, y=y)
    noise = draw(model.in_plane_filter((400, 400)), (400, 400), generator(1))[..., None]
    for shift in ((1, 0, 0), (0, 1, 0), (1, 1, 0), (3, 4, 0)):
        here, there = overlap(noise.shape, shift)
        d = mean_in_block((noise[here] - noise[there]) ** 2, 1).mean()
        # 160 000 voxels: a standard error of 0.01
        assert float(d) == pytest.approx(
            2 * (1 - correlation_at(model.covariance, shift)), abs=0.04
        )


def test_where_all_blocks_are_alike_the_whole_window_is_averaged():
    y = image(6, 5, 4)
    result = nonlocal_means(y, 1, 6, 1e9, WHITE)
    torch.testing.assert_close(result, y.mean().expand_as(y), rtol=0, atol=1e-5)


def test_where_no_block_is_like_another_the_image_comes_back():
    y = image(6, 5, 4)
    torch.testing.assert_close(nonlocal_means(y, 1, 2, 1e-4, WHITE), y, rtol=0, atol=1e-4)


def test_signed_images_are_averaged_as_they_are():
    y = image(12, 11, 6)
    result = nonlocal_means(y, 1, 2, 0.5, WHITE)
    torch.testing.assert_close(nonlocal_means(-y, 1, 2, 0.5, WHITE), -result)
    # squares would raise it by 1 / (2 · 50)
    torch.testing.assert_close(nonlocal_means(y + 50, 1, 2, 0.5, WHITE), result + 50, rtol=0,
                               atol=1e-3)  # fmt: skip
    assert abs(float(result.mean() - y.mean())) < 0.02
    assert float(result.std()) < 0.5


def test_an_edge_stays_where_it_is():
    step = torch.zeros(16, 12, 8)
    step[8:] = 20
    result = nonlocal_means(step + image(16, 12, 8), 1, 2, 0.5, WHITE)
    # 20 of distance in a third of a block: e^(-133); what is left is noise
    torch.testing.assert_close(result, step, rtol=0, atol=1.5)
    assert float((result - step).std()) < 0.5


def test_the_correlation_beyond_what_was_measured_is_none():
    rho = correlated(x=0.5).covariance
    assert correlation_at(rho, (0, 0, 0)) == 1
    assert correlation_at(rho, (-1, 0, 0)) == pytest.approx(0.5)
    assert correlation_at(rho, (LAGS[0] + 1, 0, 0)) == 0


# ---- scans ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clean():
    whole = few_images(100.0)
    return replace(whole, data=whole.data[..., :3], bvals=whole.bvals[:3], bvecs=whole.bvecs[:3])


def restored(method: NonLocalMeans, data: np.ndarray, like, noise=None) -> np.ndarray:
    return method.denoise(replace(like, data=data), noise or correlated(), {}, Run())


@pytest.mark.parametrize("n_slices", [1, 2])
def test_noise_is_taken_off_and_the_mean_stays(clean, n_slices):
    truth = clean.data[:, :, :n_slices]
    y = corrupt(truth, 1.0, np.random.default_rng(0))
    out, inside = restored(NonLocalMeans(), y, clean), clean.mask[:, :, :n_slices]
    assert gain_db(out[inside], y[inside], truth[inside]) > 3
    # of the whole image, as a little of the rim goes into the air; that of the noise itself is 0.03
    np.testing.assert_allclose(out.mean((0, 1, 2)), y.mean((0, 1, 2)), rtol=0, atol=0.05)


def test_of_correlated_noise_more_is_taken_off_when_its_correlation_is_known(clean):
    # 5 mm voxels hold no two blocks alike but in air: flat, as most of a finer scan
    truth = np.full((32, 32, 4, 1), 10, dtype=np.float32)
    y = corrupt(truth, 1.0, np.random.default_rng(0), correlation=(0.4, 0.4, 0))
    noise = correlated(x=0.4, y=0.4)
    known, taken_for_white = (
        restored(NonLocalMeans(noise=kind), y, clean, noise) for kind in ("measured", "white")
    )
    assert gain_db(known, y, truth) > gain_db(taken_for_white, y, truth) + 0.3


def test_a_volume_does_not_know_of_the_others(clean):
    y = corrupt(clean.data, 1.0, np.random.default_rng(0))
    whole = restored(NonLocalMeans(), y, clean)
    np.testing.assert_array_equal(restored(NonLocalMeans(), y[..., 1:2], clean), whole[..., 1:2])


def test_complex_scans_come_back_complex_without_a_rise_of_weak_signal():
    scan = few_images(1.0)
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal(scan.data.shape) for _ in range(2)]
    y = (scan.data + 100 * (parts[0] + 1j * parts[1])).astype(np.complex64)
    result = quell.denoise(replace(scan, data=y), method="nlm", threads=1)
    air = (scan.data == 0).all(axis=3)
    assert result.denoised.dtype == np.complex64
    assert np.abs(result.denoised[air]).mean() < 0.6 * np.abs(y[air]).mean()
    assert np.abs(result.denoised[air].mean()) < 15  # a mean of squares would make it 100


def test_the_paper_preset_searches_as_far_as_published():
    method = make("nlm", "paper")
    assert (method.patch, method.search, method.beta) == (1, 5, 1.0)  # blocks 3³, window 11³
    assert method.assumes_white
    assert not make("nlm").assumes_white


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"search": 0}, "search=0 is too small"),
        ({"beta": 0.0}, "more than 0"),
        ({"patch": -1}, "0 or more"),
        ({"noise": "pink"}, "measured, white"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_words(settings, words):
    with pytest.raises(InputError, match=words) as refusal:
        make("nlm", **settings)
    assert refusal.value.status == 2
