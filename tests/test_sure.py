"""SURE: on Gaussian pixels it finds the Wiener filter, and on a scan it takes noise off."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import batch_of, correlated, few_images, generator, pixels
from quell.methods import make
from quell.methods.sure import Sure
from quell.noise import draw_like
from quell.run import Run
from quell.series import InputError, Series
from quell.simulate import corrupt

TINY = {"steps": 2, "channels": 8, "patches": 2, "patch": 16}
SIGMA = 150.0  # where the phantom's white matter is 750
EV = 3.0  # signal variance where the image is made of Gaussian pixels
WHITE = correlated().in_plane_filter((64, 64))


class Gain(nn.Module):
    """A factor instead of the U-Net."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = a

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        return self.a * image[:, :1]


def exact_image() -> Tensor:
    """x + n of variance EV + 1 in units of that of the probe which the loss draws from seed 9."""
    b = draw_like(torch.zeros(2, 1, 64, 64), WHITE, generator(9)).double()
    others = torch.randn((2, b.numel()), generator=generator(7), dtype=torch.float64)
    Q = torch.linalg.qr(others.T).Q * b.norm()
    return (EV**0.5 * Q[:, 0] + Q[:, 1]).reshape(b.shape)


@pytest.mark.parametrize("first_guess", [EV, 0.3 * EV])
def test_on_gaussian_pixels_the_filter_of_least_loss_is_that_of_wiener(first_guess):
    method, images, batch = Sure(), pixels(1 + first_guess), batch_of(exact_image())
    low, middle, high = (
        float(method.loss(Gain(a), batch, images, WHITE, generator(9))) for a in (-1, 0, 1)
    )
    best = Gain((low - high) / (2 * (low + high - 2 * middle)))  # the loss is quadratic
    one = torch.ones((1, 1, 1, 1), dtype=torch.float64)
    slope = float(method.estimate(best, one, batch_of(one), images))
    assert slope == pytest.approx(EV / (EV + 1), rel=1e-3)  # the filter's start is float32


def test_only_the_mask_counts():
    y, mask = torch.randn((2, 1, 64, 64), generator=generator()), torch.ones(2, 64, 64)
    spoilt = y.clone()
    spoilt[..., 8:] += 100
    mask[..., 8:] = 0
    first, second = (
        Sure().loss(Gain(0.1), replace(batch_of(x), mask=mask), pixels(4.0), WHITE, generator(1))
        for x in (y, spoilt)
    )
    assert first == second


# ---- scans ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clean() -> Series:
    return few_images(SIGMA)


@pytest.mark.parametrize("neighbours", [None, (0.5, 0.0, 0.0)])
def test_a_short_training_takes_noise_off_white_or_not(clean, neighbours):
    data = corrupt(clean.data, 1.0, np.random.default_rng(0), correlation=neighbours)
    scan, noise = replace(clean, data=data), correlated(x=neighbours[0] if neighbours else 0.0)
    method = Sure(steps=40, channels=16, patches=4, patch=24)
    state = method.fit([scan], [noise], Run())
    out = method.denoise(scan, noise, state, Run())
    error = float(((out - clean.data)[clean.mask] ** 2).mean())
    # the noise has variance 1; where it is correlated, less of it can be told from signal
    assert -10 * np.log10(error) > (3.5 if neighbours else 4.5)


def test_untrained_it_is_the_wiener_filter_of_single_pixels(clean):
    scan = replace(clean, data=corrupt(clean.data, 1.0, np.random.default_rng(0)))
    method = Sure(**TINY)
    state = {f"network.{k}": v for k, v in method.network(0, Run()).state_dict().items()}
    inside = scan.data[scan.mask].astype(float)
    mean, total = inside.mean(axis=0), inside.var(axis=0)
    expected = mean + (total - 1) / total * (scan.data - mean)
    out = method.denoise(scan, correlated(), state, Run())
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-3)  # sums of float32


def test_the_paper_preset_takes_noise_to_be_white():
    assert make("sure", "paper").assumes_white
    assert not make("sure").assumes_white


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"noise": "pink"}, "measured, white"), ({"steps": 0}, "more than 0")],
)
def test_settings_that_do_not_fit_are_refused_in_words(settings, words):
    with pytest.raises(InputError, match=words) as refusal:
        make("sure", **settings)
    assert refusal.value.status == 2
