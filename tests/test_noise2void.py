"""Noise2Void: a hidden pixel never reaches the answer, so noise can't be learned from it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import Filter, batch_of, correlated, few_images, field, generator, images
from quell.methods import make
from quell.methods.noise2void import Noise2Void
from quell.noise import LAGS, power_spectrum
from quell.run import Run
from quell.series import InputError, Series
from quell.simulate import corrupt

TINY = {"steps": 2, "channels": 8, "patches": 2, "patch": 16}
SIGMA = 150.0  # where the phantom's white matter is 750


# ---- what is hidden ------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [2, 4, 22])
def test_one_pixel_in_every_box_is_hidden_anywhere_in_it(spacing):
    method, size = Noise2Void(spacing=spacing), 3 * spacing
    y = torch.randn((400, 1, size, size), generator=generator())
    _, hidden = method.hide(y, generator(1))
    boxes = hidden.reshape(400, 3, spacing, 3, spacing).sum(dim=(2, 4))
    assert (boxes == 1).all()
    often = hidden.reshape(400, 3, spacing, 3, spacing).sum(dim=(0, 1, 3))
    expected = 3600 / spacing**2
    assert ((often - expected).abs() < 5 * expected**0.5 + 1).all()  # 5 standard errors


@pytest.mark.parametrize(("spacing", "radius"), [(2, 1), (4, 5), (3, 2)])
def test_a_pixel_is_hidden_by_one_near_it_that_is_not_hidden_itself(spacing, radius):
    y = torch.arange(20 * 18.0).reshape(1, 1, 20, 18).expand(60, 1, 20, 18)
    shown, hidden = Noise2Void(spacing=spacing, radius=radius).hide(y, generator(2))
    torch.testing.assert_close(shown[:, 0][~hidden], y[:, 0][~hidden])
    n, i, j = hidden.nonzero(as_tuple=True)
    by = shown[n, 0, i, j].long()
    by_i, by_j = by // 18, by % 18
    assert not hidden[n, by_i, by_j].any()
    assert (by_i - i).abs().max() == radius
    assert (by_j - j).abs().max() == radius
    assert len({(int(a), int(b)) for a, b in zip(by_i - i, by_j - j, strict=True)}) == (
        (2 * radius + 1) ** 2 - 1
    )  # all of the window but its centre


@pytest.mark.parametrize("shape", [(3, 3), (2, 40), (1, 5)])
def test_patches_smaller_than_the_window_do(shape):
    y = torch.randn((4, 1, *shape), generator=generator())
    shown, hidden = Noise2Void(spacing=2).hide(y, generator(1))
    assert hidden.any()
    assert torch.isin(shown, y).all()
    assert (shown != y)[:, 0][hidden].all()


def test_the_value_of_a_hidden_pixel_reaches_no_pixel_of_the_answer():
    method = Noise2Void(**TINY)
    net, y = method.untrained(0, Run()), torch.randn((2, 1, 32, 32), generator=generator())
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator(1))
    y.requires_grad_()
    shown, hidden = method.hide(y, generator(3))
    method.estimate(
        net, shown, torch.zeros(2, dtype=torch.long), images()
    ).square().sum().backward()
    assert (y.grad[:, 0][hidden] == 0).all()
    assert (y.grad[:, 0][~hidden] != 0).float().mean() > 0.99


@pytest.mark.parametrize(("hides", "of_all"), [("median", np.median), ("mean", np.mean)])
def test_a_pixel_is_hidden_by_what_is_asked_of_those_near_it(hides, of_all):
    y = torch.randn((2, 1, 12, 10), generator=generator())
    shown, hidden = Noise2Void(radius=2, hides=hides).hide(y, generator(2))
    for n, i, j in hidden.nonzero().tolist():
        window = (n, slice(max(i - 2, 0), i + 3), slice(max(j - 2, 0), j + 3))
        near = y[:, 0][window][~hidden[window]]
        assert shown[n, 0, i, j] == pytest.approx(of_all(near.numpy()), abs=1e-6)


@pytest.mark.parametrize(("mask_x", "mask_y"), [(2, 0), (0, 1), (1, 2)])
def test_the_mask_around_a_pixel_is_hidden_with_it_but_does_not_count(mask_x, mask_y):
    method = Noise2Void(spacing=8, mask_x=mask_x, mask_y=mask_y)
    y = torch.randn((5, 1, 30, 28), generator=generator())
    shown, counts = method.hide(y, generator(2))
    changed = torch.zeros_like(counts)
    for n, i, j in counts.nonzero().tolist():
        changed[n, max(i - mask_x, 0) : i + mask_x + 1, max(j - mask_y, 0) : j + mask_y + 1] = True
    assert torch.equal((shown != y)[:, 0], changed)
    assert torch.isin(shown[:, 0][changed], y[:, 0][~changed]).all()  # never behind a hidden one
    assert counts.sum() <= 5 * 4 * 4


def test_what_is_beside_an_image_is_not_hidden():
    y = torch.randn((3, 4, 16, 16), generator=generator())
    shown, _ = Noise2Void().hide(y, generator(1))
    assert torch.equal(shown[:, 1:], y[:, 1:])
    assert not torch.equal(shown[:, :1], y[:, :1])


def test_the_network_works_in_units_of_the_volume():
    sizes = replace(images(), mean=torch.tensor([[5.0]]), sd=torch.tensor([[2.0]]))
    y, seen = torch.randn((3, 1, 8, 8), generator=generator()), []
    out = Noise2Void().estimate(lambda x: seen.append(x) or x, y, batch_of(y).group, sizes)
    torch.testing.assert_close(seen[0], (y - 5) / 2)
    torch.testing.assert_close(out, y)


# ---- what is learned -----------------------------------------------------------------------------

MEAN_OF_9 = torch.full((1, 1, 3, 3), 1 / 9)


def test_the_loss_counts_hidden_pixels_in_the_mask_only():
    y, method = field(3, 0), Noise2Void()
    batch = batch_of(y)
    batch.mask[..., 20:] = 0
    shown, hidden = method.hide(y, generator(5))
    h = Filter(MEAN_OF_9)(shown)
    there = hidden & (batch.mask > 0)
    expected = ((h - y)[:, 0][there] ** 2).mean()
    torch.testing.assert_close(
        method.loss(Filter(MEAN_OF_9), batch, images(), generator(5)), expected
    )


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (0.4, 0.5)])
def test_the_loss_is_the_error_and_the_noise_if_that_is_white(x, y):
    """E (h - X)² = E (h - X_0)² + 1 - 2 cov(h, N), and white noise elsewhere says nothing of N."""
    n, method = 200, Noise2Void()
    X0, N = 1.5 * field(n, 1, x=0.6, y=0.6), field(n, 2, x=x, y=y)
    shown, hidden = method.hide(X0 + N, generator(5))
    with torch.no_grad():
        error = float(((Filter(MEAN_OF_9)(shown) - X0)[:, 0][hidden] ** 2).mean())
        loss = float(method.loss(Filter(MEAN_OF_9), batch_of(X0 + N), images(), generator(5)))
    # 50 000 pixels: a standard error of 0.015
    if x == 0:
        assert loss == pytest.approx(error + 1, abs=0.05)
    else:
        assert loss < error + 0.5


@pytest.mark.parametrize(("x", "y"), [(0.5, 0.0), (0.0, -0.4), (0.4, 0.5)])
def test_a_mask_as_wide_as_the_noise_correlates_makes_the_loss_error_and_noise_again(x, y):
    """cov(h, N) = 0 once no pixel that h sees has noise like the hidden one's."""
    masks = {"mask_x": 2 * (x != 0), "mask_y": 2 * (y != 0)}  # this noise correlates up to lag 2
    method, n = Noise2Void(spacing=8, **masks), 100
    X0, N = 1.5 * field(n, 1, x=0.6, y=0.6), field(n, 2, x=x, y=y)
    shown, counts = method.hide(X0 + N, generator(5))
    with torch.no_grad():
        error = float(((Filter(MEAN_OF_9)(shown) - X0)[:, 0][counts] ** 2).mean())
        loss = float(method.loss(Filter(MEAN_OF_9), batch_of(X0 + N), images(), generator(5)))
    assert loss == pytest.approx(error + 1, abs=0.12)  # 6400 pixels: a standard error of 0.04


def best_predictor(signal: np.ndarray, noise: np.ndarray, aim: np.ndarray) -> np.ndarray:
    """Weights (5, 5) of the 24 pixels around the centre that predict a field of covariance `aim`.

    signal, noise, aim  (64, 64)  covariances, lag 0 at [0, 0]
    """
    places = [(i, j) for i in range(-2, 3) for j in range(-2, 3) if (i, j) != (0, 0)]
    C = np.array([[(signal + noise)[a - c, b - d] for c, d in places] for a, b in places])
    weights = np.zeros((5, 5))
    for (i, j), w in zip(places, np.linalg.solve(C, [aim[i, j] for i, j in places]), strict=True):
        weights[2 + i, 2 + j] = w
    return weights


def fitted(method: Noise2Void, X: Tensor) -> np.ndarray:
    """The 5 x 5 filter with the least loss."""
    net = Filter(torch.zeros(1, 1, 5, 5))
    optimiser = torch.optim.LBFGS(net.parameters(), max_iter=12, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = method.loss(net, batch_of(X), images(), generator(9))
        value.backward()
        return value

    optimiser.step(closure)
    return net.kernel.detach()[0, 0].numpy()


@pytest.mark.parametrize("x", [0.0, 0.5])
def test_the_best_filter_predicts_the_signal_of_white_noise_and_the_noise_too_of_other(x):
    method, n = Noise2Void(spacing=8, radius=2), 160
    X0, N = 2 * field(n, 1, x=0.5, y=-0.4), field(n, 2, x=x)
    of_signal, of_noise = (
        np.fft.ifft2(power_spectrum(correlated(**c).covariance[..., LAGS[2]], [64, 64])).real
        for c in ({"x": 0.5, "y": -0.4}, {"x": x})
    )
    learned = fitted(method, X0 + N)
    for aim, is_it in ((4 * of_signal, x == 0), (4 * of_signal + of_noise, True)):
        apart = np.abs(learned - best_predictor(4 * of_signal, of_noise, aim)).max()
        # 10 000 hidden pixels: a standard error of 0.015 a weight; the noise's own share is 0.1
        assert apart < 0.05 if is_it else apart > 0.08
    assert abs(learned[2, 2]) < 0.05  # blind to the pixel itself


# ---- scans ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clean() -> Series:
    return few_images(SIGMA)


@pytest.fixture(scope="module")
def scan(clean) -> Series:
    return replace(clean, data=corrupt(clean.data, 1.0, np.random.default_rng(0)))


def denoised(method: Noise2Void, scan: Series, state: dict[str, Tensor]) -> np.ndarray:
    return method.denoise(scan, correlated(), state, Run())


def test_a_short_training_takes_noise_off_unless_it_is_correlated(scan, clean):
    method = Noise2Void(steps=60, channels=16, patches=4, patch=32)
    correlated_ = corrupt(clean.data, 1.0, np.random.default_rng(0), correlation=(0.6, 0.6, 0))
    gains = []
    for one in (scan, replace(scan, data=correlated_)):
        out = denoised(method, one, method.fit([one], [correlated()], Run()))
        error, before = ((x - clean.data)[clean.mask][:, 1:] for x in (out, one.data))  # not b0
        gains.append(10 * np.log10((before**2).mean() / (error**2).mean()))
    assert gains[0] > 4
    assert gains[1] < gains[0] - 3


def test_a_mask_takes_the_correlated_noise_off_that_a_blind_spot_keeps(clean):
    data = corrupt(clean.data, 1.0, np.random.default_rng(0), correlation=(0.6, 0, 0))
    scan, gains = replace(clean, data=data), []
    for mask_x in (0, 2):
        method = Noise2Void(
            steps=50, spacing=5, channels=16, patches=4, patch=32, mask_x=mask_x, hides="median"
        )
        out = denoised(method, scan, method.fit([scan], [correlated()], Run()))
        error, before = ((x - clean.data)[clean.mask][:, 1:] for x in (out, data))  # not b0
        gains.append(10 * np.log10((before**2).mean() / (error**2).mean()))
    assert gains[1] > gains[0] + 1


def test_the_network_of_n2v2_takes_noise_off(scan, clean):
    method = replace(make("noise2void", "n2v2"), steps=40, channels=16, patches=4, patch=32)
    out = denoised(method, scan, method.fit([scan], [correlated()], Run()))
    error, before = ((x - clean.data)[clean.mask][:, 1:] for x in (out, scan.data))  # not b0
    assert 10 * np.log10((before**2).mean() / (error**2).mean()) > 4


def test_white_noise_is_assumed_along_every_axis_without_a_mask():
    assert make("noise2void").assumes_white
    assert make("noise2void", mask_y=1, spacing=5).assumes_white
    assert not make("noise2void", "struct").assumes_white


def test_untrained_it_says_the_mean_of_the_volume(scan):
    method = Noise2Void(**TINY)
    state = {f"network.{k}": v for k, v in method.untrained(0, Run()).state_dict().items()}
    mean = scan.data[scan.mask].mean(axis=0, dtype=float)
    np.testing.assert_allclose(denoised(method, scan, state), np.ones((32, 36, 2, 1)) * mean, 1e-5)


def test_nothing_is_hidden_when_it_denoises_so_the_seed_does_not_matter(scan):
    method = Noise2Void(**TINY)
    state = method.fit([scan], [correlated()], Run())
    first, second = (method.denoise(scan, correlated(), state, Run(seed=s)) for s in (0, 1))
    np.testing.assert_array_equal(first, second)
    one = replace(method, images_at_once=1)
    np.testing.assert_allclose(denoised(one, scan, state), first, rtol=0, atol=1e-4)


def test_one_image_with_a_contrast_is_enough(scan):
    lone = replace(scan, data=scan.data[:, :, :1, :1], mask=scan.mask[:, :, :1], bvals=None)
    shown = replace(lone, contrasts=scan.data[:, :, :1, 1:2])
    for one, channels in ((lone, 1), (shown, 2)):
        method = Noise2Void(**TINY)
        state = method.fit([one], [correlated()], Run())
        assert state["network.encoder.0.conv.weight"].shape[1] == channels
        assert np.isfinite(denoised(method, one, state)).all()


def test_the_paper_preset_hides_as_few_pixels_as_published():
    method = make("noise2void", "paper")
    assert 1 / method.spacing**2 == pytest.approx(0.00198, rel=0.05)
    assert (method.radius, method.patch, method.patches) == (5, 64, 128)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"spacing": 1}, "hides every pixel"),
        ({"radius": 0}, "more than 0"),
        ({"channels": 12}, "multiple of 8"),
        ({"hides": "mode"}, "choose from random, median, mean"),
        ({"network": "published"}, "choose from lean, n2v2"),
        ({"mask_x": -1}, "0 or more"),
        ({"mask_x": 4}, "more than half"),
        ({"mask_x": 5, "spacing": 9}, "does not reach out of the mask"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_words(settings, words):
    with pytest.raises(InputError, match=words) as refusal:
        make("noise2void", **settings)
    assert refusal.value.status == 2
