"""Noise2Self: what does not look at a pixel can be judged by it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import Filter, batch_of, correlated, few_images, field, generator, images
from quell.methods import make
from quell.methods.noise2self import Noise2Self, neighbours
from quell.run import Run
from quell.series import InputError, Series
from quell.simulate import corrupt

TINY = {"steps": 2, "channels": 8, "patches": 2, "patch": 16}
SIGMA = 150.0  # where the phantom's white matter is 750
MEAN_OF_9 = torch.full((1, 1, 3, 3), 1 / 9)


def random_network(method: Noise2Self) -> nn.Module:
    net = method.network(0, Run())
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator(1))
    return net


# ---- grids ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stride", "shape"), [(4, (16, 12)), (3, (10, 7)), (2, (1, 5))])
def test_the_grids_are_a_partition_of_the_image(stride, shape):
    method, y = Noise2Self(stride=stride), torch.zeros(stride**2, 1, *shape)
    J = method.grid(torch.arange(stride**2), y)
    assert torch.equal(J.sum(dim=0), torch.ones(1, *shape))


def test_a_hidden_pixel_shows_the_mean_of_those_around_it():
    x = torch.randn((2, 1, 7, 8), generator=generator())
    shown = neighbours(x, generator())
    near = x[:, 0, 2:5, 3:6]
    sides = near[:, 0, 1] + near[:, 1, 0] + near[:, 1, 2] + near[:, 2, 1]
    corners = near[:, 0, 0] + near[:, 0, 2] + near[:, 2, 0] + near[:, 2, 2]
    torch.testing.assert_close(shown[:, 0, 3, 4], (sides + corners / 2) / 6)
    corner = (x[:, 0, 0, 1] + x[:, 0, 1, 0] + x[:, 0, 1, 1] / 2) / 2.5  # fewer at the edge
    torch.testing.assert_close(shown[:, 0, 0, 0], corner)


def test_only_hidden_pixels_are_changed_and_nothing_beside_the_image():
    method, seen = Noise2Self(), []
    y = torch.randn((3, 2, 16, 16), generator=generator())
    J = method.grid(torch.tensor([0, 5, 15]), y)
    method.estimate(lambda x: seen.append(x) or x[:, :1], batch_of(y), J, images(1), generator(1))
    assert torch.equal(seen[0][:, 1], y[:, 1])
    assert torch.equal(seen[0][:, 0] != y[:, 0], J[:, 0] > 0)


# ---- the theorem ---------------------------------------------------------------------------------


@pytest.mark.parametrize("hides", ["neighbours", "zero", "random"])
def test_no_pixel_has_any_say_in_its_own_estimate(hides):
    method = Noise2Self(channels=8, stride=3, hides=hides)
    net, y = random_network(method), torch.randn((1, 1, 12, 13), generator=generator())
    y.requires_grad_()
    out = method.stitched(net, batch_of(y), images(), generator(3))
    for i, j in ((0, 0), (4, 7), (11, 12)):
        (slope,) = torch.autograd.grad(out[0, 0, i, j], y, retain_graph=True)
        assert slope[0, 0, i, j] == 0
        assert (slope != 0).float().mean() > 0.5  # but the others have


def test_in_one_pass_every_pixel_has_a_say_in_its_own_estimate():
    method = Noise2Self(channels=8)
    net, y = random_network(method), torch.randn((1, 1, 12, 12), generator=generator())
    y.requires_grad_()
    out = method.once(net, batch_of(y), images(), generator(3))
    (slope,) = torch.autograd.grad(out[0, 0, 4, 7], y)
    assert slope[0, 0, 4, 7] != 0


def loss_and_error(kernel: Tensor, X0: Tensor, N: Tensor) -> tuple[float, float]:
    """The loss of a filter, and its squared error to the truth, over the same pixels."""
    method, batch = Noise2Self(), batch_of(X0 + N)
    J = method.grid(torch.randint(16, (len(X0),), generator=generator(5)), X0)  # as the loss does
    with torch.no_grad():
        out = method.estimate(Filter(kernel), batch, J, images(), generator())
        loss = float(method.loss(Filter(kernel), batch, images(), generator(5)))
    return loss, float(((out - X0) ** 2)[J > 0].mean())


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (0.4, 0.5)])
def test_the_loss_is_the_error_and_the_noise_if_that_is_white(x, y):
    X0, N = 1.5 * field(300, 1, x=0.6, y=0.6), field(300, 2, x=x, y=y)
    loss, error = loss_and_error(MEAN_OF_9, X0, N)
    if x == 0:
        assert loss == pytest.approx(error + 1, abs=0.05)  # 77 000 pixels: 0.01
    else:
        assert loss < error + 0.5


def test_of_noise_alone_the_loss_is_known_in_closed_form():
    """Mean of 9 with the centre shown as its neighbours' mean: weights known, loss Σw² + 1."""
    ring = torch.tensor([0.5, 1, 0.5, 1, 1, 0.5, 1, 0.5]) / 6
    weights = 1 / 9 + ring / 9  # of the 8 neighbours
    N = field(300, 2)
    loss, error = loss_and_error(MEAN_OF_9, 0 * N, N)
    # 77 000 pixels: standard errors of 0.0007 and 0.006; at the edge fewer are added
    assert error == pytest.approx(float((weights**2).sum()), rel=0.05)
    assert loss == pytest.approx(1 + float((weights**2).sum()), abs=0.03)


def test_the_loss_ranks_denoisers_as_the_true_error_does():
    """Calibration: without the truth, the best width of a filter is found."""
    X0, N = 1.5 * field(150, 1, x=0.6, y=0.6), field(150, 2)
    losses, errors = [], []
    for width in (0.3, 0.6, 0.9, 1.4, 2.0):
        at = torch.arange(-3, 4.0)
        bell = torch.exp(-(at**2) / (2 * width**2))
        kernel = bell[:, None] * bell
        loss, error = loss_and_error((kernel / kernel.sum())[None, None], X0, N)
        losses.append(loss)
        errors.append(error)
    assert np.argsort(losses).tolist() == np.argsort(errors).tolist()
    assert 0 < np.argmin(errors) < 4  # neither the narrowest nor the widest
    # 38 000 pixels, the same ones: a standard error below 0.02
    np.testing.assert_allclose(np.subtract(losses, errors), 1, atol=0.06)


# ---- scans ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clean() -> Series:
    return few_images(SIGMA)


@pytest.fixture(scope="module")
def scan(clean) -> Series:
    return replace(clean, data=corrupt(clean.data, 1.0, np.random.default_rng(0)))


def denoised(method: Noise2Self, scan: Series, state: dict[str, Tensor]) -> np.ndarray:
    return method.denoise(scan, correlated(), state, Run())


@pytest.fixture(scope="module")
def learned(scan) -> dict[str, Tensor]:
    method = Noise2Self(steps=60, channels=16, patches=4, patch=32)
    return method.fit([scan], [correlated()], Run())


@pytest.mark.parametrize("inference", ["stitched", "once"])
def test_a_short_training_takes_noise_off(scan, clean, learned, inference):
    out = denoised(Noise2Self(channels=16, inference=inference), scan, learned)
    error, before = ((x - clean.data)[clean.mask][:, 1:] for x in (out, scan.data))  # not b0
    assert 10 * np.log10((before**2).mean() / (error**2).mean()) > 3.5


def test_images_of_a_batch_do_not_see_each_other(scan, learned):
    first, second = (
        denoised(Noise2Self(channels=16, images_at_once=n), scan, learned) for n in (1, 8)
    )
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-4)


def test_one_image_with_a_contrast_is_enough(scan):
    lone = replace(scan, data=scan.data[:, :, :1, :1], mask=scan.mask[:, :, :1], bvals=None)
    shown = replace(lone, contrasts=scan.data[:, :, :1, 1:2])
    for one, channels in ((lone, 1), (shown, 2)):
        method = Noise2Self(**TINY)
        state = method.fit([one], [correlated()], Run())
        assert state["network.encoder.0.conv.weight"].shape[1] == channels
        assert np.isfinite(denoised(method, one, state)).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stride": 1}, "hides every pixel"),
        ({"hides": "median"}, "choose from neighbours, zero, random"),
        ({"inference": "twice"}, "choose from stitched, once"),
        ({"channels": 12}, "multiple of 8"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_words(settings, words):
    with pytest.raises(InputError, match=words) as refusal:
        make("noise2self", **settings)
    assert refusal.value.status == 2
