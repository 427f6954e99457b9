"""The law of singular values of noise, and the two ways to read signal and noise from it."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from quell.marchenko_pastur import (
    Law,
    no_factor,
    noise_by_median,
    noise_by_search,
    optimal_factor,
    quantile,
)

N, V = 343, 160
both = pytest.mark.parametrize("estimate", [noise_by_median, noise_by_search])


def matrices(k: int, n: int = 8, is_complex: bool = False, sigma: float = 3.0) -> np.ndarray:
    """n matrices (N, V) of k components, far stronger than the noise in them."""
    rng = np.random.default_rng(k)
    if is_complex:
        draw = lambda *size: (rng.normal(size=size) + 1j * rng.normal(size=size)) / 2**0.5  # noqa: E731
    else:
        draw = lambda *size: rng.normal(size=size)  # noqa: E731
    return sigma * (draw(n, N, V) + 10 * draw(n, N, k) @ draw(n, k, V))


def values_of(Y: np.ndarray) -> torch.Tensor:
    Y = torch.from_numpy(Y)
    return torch.linalg.eigvalsh(Y.mH @ Y)


def density(x: float, beta: float) -> float:
    low, high = (1 - beta**0.5) ** 2, (1 + beta**0.5) ** 2
    return np.sqrt(max((high - x) * (x - low), 0)) / (2 * np.pi * beta * x)


@pytest.mark.parametrize("beta", [0.01, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_quantile_leaves_that_share_of_the_law_below_it(beta, share):
    top = quantile(np.array([share]), np.array([beta]))[0]
    assert top < (1 + beta**0.5) ** 2
    # √x for x: the density grows without bound at 0 when beta is 1
    below, _ = quad(lambda u: 2 * u * density(u**2, beta), 1 - beta**0.5, top**0.5, epsabs=1e-12)
    assert below == pytest.approx(share, abs=1e-8)  # what the integration is good for


def test_the_median_of_the_law_is_below_its_mean_1():
    betas = np.array([0.1, 0.5, 1.0])
    # of square matrices Gavish and Donoho (2014) give 4/√3 = 2.858 √median for their threshold
    medians = quantile(np.full(3, 0.5), betas)
    assert (np.diff(medians) < 0).all()
    assert medians[0] < 1
    assert 4 / np.sqrt(3) / np.sqrt(medians[2]) == pytest.approx(2.858, abs=5e-4)  # as printed


@both
@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("k", [0, 3, 6])
def test_of_rank_k_and_noise_v_less_k_are_noise_and_sigma_is_found(estimate, k, is_complex):
    values = values_of(matrices(k, is_complex=is_complex))
    variance, edge = estimate(values, Law(N, V))
    n_noise = (values <= edge[:, None]).sum(dim=1).numpy()
    assert (np.abs(n_noise - (V - k)) <= 2).all()  # the largest of noise may just pass the edge
    assert np.median(n_noise) == V - k
    # one median is off by as much as values lie apart, 0.6 %, so of eight the mean by 0.2 %
    assert np.sqrt(variance.numpy()).mean() == pytest.approx(3.0, rel=0.01)


@both
def test_a_third_of_all_components_may_be_signal(estimate):
    values = values_of(matrices(50, n=3))
    variance, _ = estimate(values, Law(N, V))
    assert np.sqrt(variance.numpy()).mean() == pytest.approx(3.0, rel=0.01)


@both
def test_matrices_may_lie_on_their_side(estimate):
    values = values_of(matrices(3))
    for a, b in zip(estimate(values, Law(N, V)), estimate(values, Law(V, N)), strict=True):
        torch.testing.assert_close(a, b)


def factor(y: np.ndarray, law: Law) -> np.ndarray:
    y2, white = torch.from_numpy(y**2), (1.0, 1.0)
    return optimal_factor(y2, torch.ones_like(y2), law, white).numpy()


def test_in_white_noise_the_factor_is_the_closed_form():
    law = Law(N, V)
    y = np.linspace(1 + law.beta**0.5 + 1e-6, 5, 50)
    shrunk = np.sqrt((y**2 - law.beta - 1) ** 2 - 4 * law.beta) / y  # Gavish and Donoho 2017
    np.testing.assert_allclose(factor(y, law) * y, shrunk, rtol=1e-9)


@pytest.mark.parametrize("law", [Law(N, V), Law(V, N), Law(40, 40)])
def test_the_factor_rises_from_0_at_the_edge_to_1(law):
    end = 1 + law.beta**0.5
    found = factor(end * np.array([1 + 1e-9, 1.1, 1.5, 3, 1000]), law)
    assert (np.diff(found) > 0).all()
    assert found[0] < 1e-3  # as the root of the distance
    assert found[-1] == pytest.approx(1, abs=1e-5)  # 1 - (1 + beta) / y²


@pytest.mark.parametrize("is_white", [True, False])
def test_the_factor_is_that_of_least_error_in_the_image(is_white):
    law, rng, n = Law(N, V), np.random.default_rng(6), 40
    size = np.linspace(1, 1, N) if is_white else np.linspace(0.2, 1.8, N)  # C, diagonal
    u, v = rng.normal(size=(n, N, 1)) * (size > np.median(size) - 0.1)[:, None], np.ones((1, V))
    X = 1.5 * N**0.5 * u @ v / V**0.5 / np.linalg.norm(u, axis=1, keepdims=True)  # whitened
    X, Y = (np.sqrt(size)[:, None] * M for M in (X, X + rng.normal(size=(n, N, V))))
    whitened = torch.from_numpy(Y / np.sqrt(size)[:, None])
    s2, vectors = (part.numpy() for part in torch.linalg.eigh(whitened.mH @ whitened))
    components = np.einsum("bnv,bv->bn", Y, vectors[..., -1])
    power = (components**2).sum(axis=1)
    best = np.einsum("bn,bnv,bv->b", components, X, vectors[..., -1]) / power
    y2, stretch = (torch.from_numpy(a)[:, None] for a in (s2[:, -1] / N, power / s2[:, -1]))
    found = optimal_factor(y2, stretch, law, (size[0], size[-1])).numpy()
    # the mean of 40 draws, each off by 5 %
    assert found.mean() == pytest.approx(best.mean(), rel=0.02)
    if not is_white:
        assert factor(np.sqrt(s2[:, -1] / N), law).mean() < 0.95 * best.mean()


def test_the_search_keeps_what_it_finds():
    y2 = torch.tensor([[3.0, 9.0]])
    assert (no_factor(y2, y2, Law(N, V), (1.0, 1.0)) == 1).all()
