"""UNSURE: no divergence, and the noise level that goes with it, in closed form."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import batch_of, correlated, covariance, few_images, field, generator
from quell.images import Images
from quell.methods import make
from quell.methods.unsure import Unsure, WithMultiplier
from quell.run import Run
from quell.series import InputError, Series
from quell.simulate import corrupt
from quell.trainer import Training, train

SIGMA = 150.0  # where the phantom's white matter is 750
PLACES = [(i, j) for i in range(-2, 3) for j in range(-2, 3)]


class Filter(nn.Module):
    """A linear filter instead of the U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(1, 1, 5, 5))

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.conv2d(image, self.kernel, padding=2)


def images() -> Images:
    where, group = np.ones((64, 64, 1), bool), np.zeros((1, 1), int)
    return Images(np.zeros((64, 64, 1, 1)), where, group, torch.zeros(1, 1), torch.ones(1, 1))


def saddle(signal: np.ndarray, shape: np.ndarray, variance: float) -> tuple[np.ndarray, float]:
    """f(y) = y + η Σ s(y) of Gaussians seen through 5 x 5 pixels, and η = 1 / (Σᵀ C⁻¹ Σ).

    signal, shape  (64, 64)  covariance of the signal; of the noise, but for its variance: Σ
    """
    at = np.array([shape[i, j] for i, j in PLACES])
    total = signal + variance * shape
    C = np.array([[total[a - i, b - j] for i, j in PLACES] for a, b in PLACES])
    score = -np.linalg.solve(C, at)  # Σ ∇log p
    eta = -1 / (at @ score)
    here = np.array([float(place == (0, 0)) for place in PLACES])
    return (here + eta * score).reshape(5, 5), float(eta)


@pytest.mark.parametrize("noise", [{}, {"x": 0.4}])
def test_on_gaussians_network_and_level_find_the_saddle_of_the_paper(noise):
    method, net = Unsure(), WithMultiplier(Filter())
    everything = 1.4 * field(40, 1, x=0.6, y=0.5) + 0.7 * field(40, 2, **noise)
    root = correlated(**noise).in_plane_filter((64, 64))
    weights = train(
        net,
        lambda rng: batch_of(everything[torch.randint(40, (4,), generator=rng)]),
        lambda f, b, rng: method.loss(f, net.height, b, images(), root, rng),
        Training(500),
        Run(),
    )
    kernel, eta = saddle(1.96 * covariance(x=0.6, y=0.5), covariance(**noise), 0.49)
    found = float(method.eta(weights["height"]))
    # 160 000 pixels: η is off by 2 %, weights by 0.01; so short a climb doubles that
    assert found == pytest.approx(eta, rel=0.06)
    np.testing.assert_allclose(weights["unet.kernel"][0, 0].numpy(), kernel, rtol=0, atol=0.04)
    assert eta > 0.49  # never below the noise that there is


def test_the_network_descends_and_the_multiplier_climbs():
    method, net = Unsure(), Filter()
    net.kernel.data[0, 0, 2, 2] = 0.8  # keeps noise: the divergence is 0.8
    height = torch.zeros((), requires_grad=True)
    y = field(4, 1)
    value = method.loss(
        net, height, batch_of(y), images(), correlated().in_plane_filter((64, 64)), generator(5)
    )
    value.backward()
    expected = float((0.04 * y**2).mean()) + 2 * 0.8
    assert float(value.detach()) == pytest.approx(expected, rel=0.03)  # 16 000 pixels of a probe
    # the multiplier moves against its gradient: up while noise is kept
    assert float(height.grad) == pytest.approx(-2 * method.pace * 0.8, rel=0.03)
    assert float(net.kernel.grad[0, 0, 2, 2]) > 0


# ---- scans ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clean() -> Series:
    return few_images(SIGMA)


def test_a_short_training_takes_noise_off_and_finds_more_of_it_than_there_is(clean):
    scan = replace(clean, data=corrupt(clean.data, 1.0, np.random.default_rng(0)))
    method, run = Unsure(steps=60, channels=16, patches=4, patch=24), Run()
    state = method.fit([scan], [correlated()], run)
    out = method.denoise(scan, correlated(), state, run)
    found = float(run.kept["noise level found"])
    assert found > 1.05  # the phantom's edges are as rough as noise
    dwi = (out - clean.data)[clean.mask][:, 1:]
    assert float((dwi**2).mean()) < 0.7  # nearer to the truth than the scan, whose noise is 1


def test_the_level_found_comes_with_the_weights():
    method = Unsure(channels=8)
    state = {f"network.{k}": v for k, v in method.network(0, Run()).state_dict().items()}
    state["network.height"] = torch.tensor(np.log(2.25) / method.pace)
    run, scan = Run(), few_images(SIGMA)
    method.denoise(scan, correlated(), state, run)
    assert float(run.kept["noise level found"]) == pytest.approx(1.5, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"noise": "pink"}, "measured, white"), ({"pace": 0.0}, "more than 0")],
)
def test_settings_that_do_not_fit_are_refused_in_words(settings, words):
    with pytest.raises(InputError, match=words) as refusal:
        make("unsure", **settings)
    assert refusal.value.status == 2
