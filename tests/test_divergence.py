"""The divergence by a probe, and Stein's estimate of the error: of linear filters, by counting."""

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import covariance, field, generator
from quell.divergence import kept_noise, stein_risk

SMOOTHER = torch.tensor([[0.0, 0.1, 0.0], [0.15, 0.5, 0.15], [0.0, 0.1, 0.0]])
NOISES = [{}, {"x": 0.5}, {"x": 0.3, "y": 0.5}]
SIGNAL = {"x": 0.6, "y": -0.4}


def filtered(y: Tensor, kernel: Tensor) -> Tensor:
    return torch.nn.functional.conv2d(y, kernel[None, None], padding=kernel.shape[-1] // 2)


def best_filter(signal: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The Wiener filter of 5 x 5 pixels; covariances (64, 64)."""
    places = [(i, j) for i in range(-2, 3) for j in range(-2, 3)]
    C = np.array([[(signal + noise)[a - c, b - d] for c, d in places] for a, b in places])
    return np.linalg.solve(C, [signal[i, j] for i, j in places]).reshape(5, 5)


@pytest.mark.parametrize("noise", NOISES)
def test_the_probe_finds_how_much_noise_a_filter_keeps(noise):
    n = field(60, 1, **noise)
    _, kept = kept_noise(lambda y: filtered(y, SMOOTHER), field(60, 2), n)
    expected = (SMOOTHER.numpy() * np.roll(covariance(**noise), (1, 1), (0, 1))[:3, :3]).sum()
    # 240 000 products of variance 1 or so, edges 5 % of them
    assert float(kept[..., 2:-2, 2:-2].mean()) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("probe_is_alike", [True, False])
def test_the_risk_is_the_squared_error_in_the_mean_if_the_probe_is_like_the_noise(
    noise, probe_is_alike
):
    x = 1.5 * field(100, 1, **SIGNAL)
    y, b = x + field(100, 2, **noise), field(100, 3, **(noise if probe_is_alike else {}))
    f_y, kept = kept_noise(lambda y: filtered(y, SMOOTHER), y, b)
    error, risk = float(((f_y - x) ** 2).mean()), float(stein_risk(f_y, y, kept).mean())
    # 400 000 pixels, correlated: a standard error of 0.012
    if probe_is_alike or not noise:
        assert risk == pytest.approx(error, abs=0.04)
    else:
        assert risk < error - 0.1  # noise of neighbours passes for signal


def test_of_a_filter_that_is_not_linear_too():
    x, b = 2 * field(60, 1, x=0.5), field(60, 3)
    y = x + field(60, 2)
    f_y, kept = kept_noise(lambda y: 2 * torch.tanh(y / 2), y, b)
    assert float(stein_risk(f_y, y, kept).mean()) == pytest.approx(
        float(((f_y - x) ** 2).mean()), abs=0.04
    )


def test_what_a_network_learns_from_comes_through_both_passes():
    a = torch.tensor(0.7, requires_grad=True)
    y, b = torch.randn(50, generator=generator()), torch.ones(50)
    f_y, kept = kept_noise(lambda y: a * y, y, b)
    stein_risk(f_y, y, kept).mean().backward()
    expected = 2 * float(((0.7 - 1) * y**2).mean()) + 2
    assert float(a.grad) == pytest.approx(expected, rel=1e-4)  # of a difference in float32


@pytest.mark.parametrize("noise", [{}, {"x": 0.5}])
@pytest.mark.parametrize("probe_is_alike", [True, False])
def test_the_filter_of_least_risk_is_the_wiener_filter(noise, probe_is_alike):
    x = 2 * field(60, 1, **SIGNAL)
    y, b = x + field(60, 2, **noise), field(60, 3, **(noise if probe_is_alike else {}))
    kernel = torch.zeros(5, 5, requires_grad=True)
    optimiser = torch.optim.LBFGS([kernel], max_iter=8, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        f_y, kept = kept_noise(lambda y: filtered(y, kernel), y, b)
        value = stein_risk(f_y, y, kept).mean()
        value.backward()
        return value

    optimiser.step(closure)
    wiener = best_filter(4 * covariance(**SIGNAL), covariance(**noise))
    apart = np.abs(kernel.detach().numpy() - wiener).max()
    # 250 000 pixels: weights are off by 0.01; the noise's own share by its neighbours' correlation
    assert apart < 0.04 if probe_is_alike or not noise else apart > 0.08
