"""Noise2Score: of Gaussian pixels its score is exact, and Tweedie's formula the Wiener filter."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import batch_of, correlated, few_images, generator, pixels
from quell.methods import make
from quell.methods.noise2score import Noise2Score
from quell.noise import draw_like
from quell.run import Run
from quell.series import InputError, Series
from quell.simulate import corrupt

SIGMA = 150.0  # where the phantom's white matter is 750
EV = 3.0  # signal variance where the image is made of Gaussian pixels
WHITE = correlated().in_plane_filter((64, 64))


class Gain(nn.Module):
    """A factor instead of the U-Net; it remembers what it was told."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = a

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        self.condition = condition
        return self.a * image[:, :1]


def exact_image() -> Tensor:
    """x + n of variance EV + 1, orthogonal to the u that the loss draws from seed 9."""
    u = draw_like(torch.zeros(2, 1, 64, 64), WHITE, generator(9)).double()
    others = torch.randn((2, u.numel()), generator=generator(7), dtype=torch.float64)
    Q = torch.linalg.qr(torch.cat([u.reshape(1, -1), others]).T).Q * u.norm()
    return (EV**0.5 * Q[:, 1] + Q[:, 2]).reshape(u.shape)


@pytest.mark.parametrize("sigma_a", [0.05, 0.5])
def test_on_gaussian_pixels_the_score_is_exact_and_its_tweedie_the_wiener_filter(sigma_a):
    method = Noise2Score(sigma_a="annealed", first=sigma_a, last=sigma_a)
    images, batch, ranges = pixels(1 + 0.5 * EV), batch_of(exact_image()), torch.ones(1)
    low, middle, high = (
        float(method.loss(Gain(a), batch, images, WHITE, generator(9), ranges)) for a in (-1, 0, 1)
    )
    best = Gain((low - high) / (2 * (low + high - 2 * middle)))  # the loss is quadratic
    one = torch.ones((1, 1, 1, 1), dtype=torch.float64)
    score = float(method.R(best, batch_of(one), images)(one, torch.zeros(1)))
    assert score == pytest.approx(-1 / (EV + 1 + sigma_a**2), rel=2e-3)  # float32 where it starts
    if sigma_a < 0.1:
        assert 1 + score == pytest.approx(EV / (EV + 1), rel=2e-3)


@pytest.mark.parametrize(("progress", "level"), [(0.0, 0.1), (0.5, 0.0505), (1.0, 0.001)])
def test_annealed_levels_fall_from_first_to_last_of_the_range_and_the_network_is_not_told(
    progress, level
):
    method, images, ranges = Noise2Score(sigma_a="annealed"), pixels(4.0), torch.tensor([30.0])
    batch, seen = replace(batch_of(torch.zeros(2, 1, 64, 64)), progress=progress), []
    net = Gain(0.0)
    method.loss(
        lambda x, c: seen.append(x) or net(x, c), batch, images, WHITE, generator(9), ranges
    )
    # standardised by √(3 + 1); 8000 pixels: a standard error of 1 %
    assert float(seen[0].std() * 2) == pytest.approx(30 * level, rel=0.04)
    torch.testing.assert_close(net.condition[:, 0], torch.zeros(2))


def test_random_levels_are_told_to_the_network_and_differ():
    net, batch = Gain(0.0), batch_of(torch.zeros(4, 1, 64, 64))
    Noise2Score().loss(net, batch, pixels(4.0), WHITE, generator(9), torch.ones(1))
    assert len(set(net.condition[:, 0].tolist())) == 4
    assert (net.condition[:, 0] > 0).all()


# ---- scans ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clean() -> Series:
    return few_images(SIGMA)


@pytest.mark.parametrize("noise", ["measured", "filtered"])
@pytest.mark.parametrize("sigma_a", ["random", "annealed"])
def test_a_short_training_takes_noise_off(clean, noise, sigma_a):
    data = corrupt(clean.data, 1.0, np.random.default_rng(0), correlation=(0.3, 0, 0))
    scan, model = replace(clean, data=data), correlated(x=0.3)
    method = Noise2Score(noise, sigma_a, steps=40, channels=16, patches=4, patch=24)
    state = method.fit([scan], [model], Run())
    out = method.denoise(scan, model, state, Run())
    error = float(((out - clean.data)[clean.mask] ** 2).mean())
    assert -10 * np.log10(error) > 3  # the noise has variance 1


def test_the_seed_does_not_matter_where_nothing_is_drawn(clean):
    method = Noise2Score(steps=2, channels=8, patches=2, patch=16)
    state = method.fit([clean], [correlated()], Run())
    first, second = (method.denoise(clean, correlated(), state, Run(seed=s)) for s in (0, 1))
    np.testing.assert_array_equal(first, second)


def test_the_paper_preset_is_the_paper():
    method = make("noise2score", "paper")
    assert (method.noise, method.sigma_a, method.first, method.last) == (
        "white", "annealed", 0.1, 0.001,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"noise": "pink"}, "measured, filtered"), ({"sigma_a": "none"}, "random, annealed"),
     ({"delta": 0.0}, "more than 0")],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused_in_words(settings, words):
    with pytest.raises(InputError, match=words) as refusal:
        make("noise2score", **settings)
    assert refusal.value.status == 2
