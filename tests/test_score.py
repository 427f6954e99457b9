"""The score by AR-DAE: exact for Gaussian images, white and correlated, and Tweedie's formula."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import batch_of, correlated, covariance, field, generator
from quell.images import Images
from quell.methods.c2s import Corruption2Self
from quell.noise import covary, draw_like
from quell.score import levels, score_loss, score_of

SIGNAL = {"x": 0.6, "y": -0.4}


PLACES = [(i, j) for i in range(-2, 3) for j in range(-2, 3)]


def at_places(c: np.ndarray) -> np.ndarray:
    return np.array([c[i, j] for i, j in PLACES])


def matrix(c: np.ndarray) -> np.ndarray:
    return np.array([[c[a - i, b - j] for i, j in PLACES] for a, b in PLACES])


class Gain(nn.Module):
    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = a

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        return self.a * image[:, :1]


def pixels(total: float) -> Images:
    where, group = np.ones((64, 64, 1), bool), np.zeros((1, 1), int)
    size = torch.full((1, 1), total**0.5)
    return Images(np.zeros((64, 64, 1, 1)), where, group, torch.zeros(1, 1), size)


def fitted(y: Tensor, u: Tensor, sigma_a: float) -> np.ndarray:
    """The R of 5 x 5 pixels with the least loss."""
    kernel = torch.zeros(5, 5, requires_grad=True)
    optimiser = torch.optim.LBFGS([kernel], max_iter=14, line_search_fn="strong_wolfe")

    def R(z: Tensor, level: Tensor) -> Tensor:  # noqa: N802  the paper's symbol
        return nn.functional.conv2d(z, kernel[None, None], padding=2)

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = score_loss(R, y, u, torch.full((len(y),), sigma_a)).mean()
        value.backward()
        return value

    optimiser.step(closure)
    return kernel.detach().numpy()


@pytest.mark.parametrize("noise", [{}, {"x": 0.5}])
@pytest.mark.parametrize("u_is_alike", [True, False])
def test_the_best_filter_is_the_exact_score_seen_through_the_covariance_of_u(noise, u_is_alike):
    a, like_u = 0.5, noise if u_is_alike else {}
    y = 2 * field(60, 1, **SIGNAL) + field(60, 2, **noise)
    learned = fitted(y, field(60, 3, **like_u), a)
    of_u = covariance(**like_u)
    C = matrix(4 * covariance(**SIGNAL) + covariance(**noise) + a**2 * of_u)
    score = -np.linalg.solve(C, at_places(of_u)).reshape(5, 5)  # of a Gaussian: -Σ_u C⁻¹ z
    # 250 000 pixels, half a sigma: weights are off by 0.006 or so; alike or not, they differ by 0.1
    np.testing.assert_allclose(learned, score, rtol=0, atol=0.03)


@pytest.mark.parametrize("noise", [{}, {"x": 0.4, "y": 0.3}])
def test_tweedies_formula_of_the_exact_score_is_the_wiener_filter(noise):
    """x̂ = y + Σ s(y): with Σ laid over the score of white u, and with u like the noise at once."""
    root = correlated(**noise).in_plane_filter((64, 64))
    power_x = np.abs(np.fft.fft2(4 * covariance(**SIGNAL)))
    power_n = np.abs(np.fft.fft2(covariance(**noise)))
    y = torch.zeros(64, 64)
    y[32, 32] = 1.0  # far from the edges: what is periodic and what is not agree there
    score = np.fft.ifft2(-np.fft.fft2(y.numpy()) / (power_x + power_n)).real
    restored = y + covary(torch.from_numpy(score.astype(np.float32)), root)
    wiener = np.fft.ifft2(np.fft.fft2(y.numpy()) * power_x / (power_x + power_n)).real
    np.testing.assert_allclose(restored.numpy(), wiener, rtol=0, atol=2e-4)


@pytest.mark.parametrize("noise", [{}, {"x": 0.4, "y": 0.3}])
def test_covary_is_the_covariance_of_what_is_drawn(noise):
    root = correlated(**noise).in_plane_filter((20, 24))
    y = torch.zeros(20, 24)
    y[0, 23] = 1.0  # at a corner: nothing may come round the edges
    out = covary(y, root).numpy()
    expected = np.zeros((20, 24))
    c = covariance(**noise)
    for i in range(20):
        for j in range(24):
            expected[i, j] = c[i, j - 23]
    np.testing.assert_allclose(out, expected, rtol=0, atol=2e-3)  # the filter is float32


@pytest.mark.parametrize("tau", [0.3, 1.5])
def test_its_loss_is_corruption2self_weighed_by_the_added_variance(tau):
    root, images = correlated(x=0.4).in_plane_filter((64, 64)), pixels(5.0)
    X = 2 * torch.randn((4, 1, 64, 64), generator=generator(), dtype=torch.float64)
    batch = batch_of(X)
    c2s = Corruption2Self(tau="uniform", tau_min=tau, tau_max=tau, weight="power")
    rng = generator(3)
    c2s.levels(4, rng)  # draws first
    u = draw_like(X, root, rng)
    R = score_of(Gain(0.4), batch, images)
    value = score_loss(R, X, u, torch.full((4,), tau)).mean()
    expected = c2s.loss(Gain(0.4), batch, images, root, generator(3))
    torch.testing.assert_close(tau**2 * value, expected, rtol=1e-5, atol=0)  # tau is float32


def test_untrained_its_tweedie_is_the_wiener_filter_of_single_pixels():
    y = torch.randn((2, 1, 8, 8), generator=generator())
    R = score_of(Gain(0.0), batch_of(y), pixels(4.0))
    torch.testing.assert_close(y + R(y, torch.zeros(2)), 0.75 * y)


def test_levels_are_normal_about_nothing():
    drawn = levels(40_000, 0.7, generator())
    assert float(drawn.std()) == pytest.approx(0.7, rel=0.02)
    assert abs(float(drawn.mean())) < 0.02  # five standard errors
