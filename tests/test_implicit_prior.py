"""Implicit prior: a network that scales with its image, and an ascent whose noise is known."""

from dataclasses import replace
from itertools import repeat

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import correlated, few_images, generator
from quell.bias_free import BiasFree
from quell.implicit import ascend, blind_loss
from quell.methods import make
from quell.methods.implicit_prior import ImplicitPrior
from quell.noise import draw_like
from quell.run import Run
from quell.series import InputError, Series
from quell.simulate import corrupt
from quell.slices import Batch

SIGMA = 150.0  # where the phantom's white matter is 750
TINY = {"steps": 2, "channels": 8, "patches": 2, "patch": 16}
WHITE = correlated().in_plane_filter((64, 64))


@pytest.fixture(scope="module")
def awake() -> BiasFree:
    """A network that has something to say."""
    net, rng = BiasFree.of(8, Run()), generator(1)
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=rng)
    return net


# ---- the network ---------------------------------------------------------------------------------


@pytest.mark.parametrize("a", [0.01, 3.0, 1000.0])
@pytest.mark.parametrize("shape", [(16, 16), (13, 18)])
def test_a_times_the_image_gives_a_times_the_answer(awake, a, shape):
    y = torch.randn((2, 1, *shape), generator=generator()) + 1
    with torch.no_grad():
        once, scaled = awake(y), awake(a * y)
    assert once.abs().mean() > 0.01
    torch.testing.assert_close(scaled, a * once, rtol=1e-4, atol=a * 1e-5)  # rounding of float32
    assert once.shape == y.shape


def test_by_a_power_of_two_it_is_so_to_the_last_bit(awake):
    y = torch.randn((1, 1, 16, 16), generator=generator())
    with torch.no_grad():
        assert torch.equal(awake(4 * y), 4 * awake(y))


def test_what_it_does_to_an_image_is_linear_there(awake):
    """f(y) = A_y y, with A_y the derivative: Euler's theorem for what is homogeneous."""
    y = torch.randn((1, 1, 12, 12), generator=generator())
    y.requires_grad_()
    w = torch.randn(y.shape, generator=generator(2))
    value = (w * awake(y)).sum()
    (of_w,) = torch.autograd.grad(value, y)  # A_yᵀ w
    torch.testing.assert_close((of_w * y).sum(), value, rtol=1e-4, atol=1e-4)


def test_nothing_is_added_in_it_and_untrained_it_is_silent(awake):
    assert not any("bias" in name for name, _ in awake.named_parameters())
    assert not list(awake.buffers())
    with torch.no_grad():
        assert (awake(torch.zeros(1, 1, 8, 8)) == 0).all()
        assert (BiasFree.of(8, Run())(torch.ones(1, 1, 8, 8)) == 0).all()


# ---- what it learns ------------------------------------------------------------------------------


def test_on_gaussian_pixels_the_blind_gain_is_the_mean_of_the_wiener_filters():
    """Of E γ (g z − (y − Z / τ))², γ = τ² / (1 + τ²): g = Σ γ ev / Σ γ (ev + 1 + τ²)."""
    ev, n, top = 3.0, 16, 2.0
    shape = (n, 1, 64, 64)
    y = (ev + 1) ** 0.5 * torch.randn(shape, generator=generator(7))
    batch = Batch(y, torch.ones(n, 64, 64), torch.zeros(n, dtype=torch.long))

    def loss(g: float) -> float:
        values = [
            blind_loss(lambda z: (g - 1) * z, batch, WHITE, top, generator(s)) for s in range(4)
        ]
        return float(torch.stack(values).mean())

    low, middle, high = (loss(g) for g in (0, 0.5, 1))
    best = 0.5 + 0.25 * (low - high) / (low + high - 2 * middle)  # the loss is quadratic
    tau = torch.linspace(0, top, 1001)[1:]
    gamma = tau**2 / (1 + tau**2)
    expected = float((gamma * ev).sum() / (gamma * (ev + 1 + tau**2)).sum())
    assert best == pytest.approx(expected, abs=0.02)  # 260 000 pixels, of levels at random
    assert expected < ev / (ev + 1) - 0.1  # so it would show if the scan's own noise were kept


def test_its_loss_is_that_of_r2r_at_random_levels_but_for_what_no_network_changes():
    y = torch.randn((2, 1, 16, 16), generator=generator(), dtype=torch.float64)
    batch = Batch(y, torch.ones(2, 16, 16), torch.zeros(2, dtype=torch.long))
    root = correlated(x=0.3).in_plane_filter((16, 16))

    def r2r(gain: float) -> Tensor:
        rng = generator(3)
        tau = (2.0 * (torch.arange(2) + torch.rand(2, generator=rng)) / 2).reshape(-1, 1, 1, 1)
        Z = draw_like(y, root, rng)
        z = y + tau * Z
        return (tau**2 / (1 + tau**2) * (z + gain * z - (y - Z / tau)) ** 2).mean()

    a, b = (blind_loss(lambda z, g=g: g * z, batch, root, 2.0, generator(3)) for g in (-0.2, 0.3))
    torch.testing.assert_close(b - a, r2r(0.3) - r2r(-0.2), rtol=1e-6, atol=0)


# ---- the ascent ----------------------------------------------------------------------------------


def test_without_new_noise_it_is_the_product_of_its_steps():
    """f(y) = −c y: y_t = y_0 Π (1 − c h_t) until c rms(y) is small, and once more the denoiser."""
    c, y0 = 0.5, 2.0
    method, y, n = ImplicitPrior(h0=0.2, sigma_end=0.3), y0, 0
    while c * y >= 0.3:
        n += 1
        y *= 1 - c * 0.2 * n / (1 + 0.2 * (n - 1))
    x, steps = ascend(lambda y: -c * y, torch.full((1, 1, 4, 4), y0), repeat(None), method)
    assert n > 2
    assert steps.tolist() == [n]
    torch.testing.assert_close(x, torch.full((1, 1, 4, 4), (1 - c) * y))


@pytest.mark.parametrize("beta", [0.1, 0.5, 1.0])
def test_the_noise_falls_by_one_less_beta_h_a_step(beta):
    """If the prior is one point, f(y) = −y is all noise: σ_t+1 = (1 − β h_t) σ_t."""
    method = ImplicitPrior(h0=0.1, beta=beta, sigma_end=1e-9, most_steps=5)
    rng, shape, seen = generator(), (1, 1, 300, 300), []
    fresh = (torch.randn(shape, generator=rng) for _ in range(9))

    def f(y: Tensor) -> Tensor:
        seen.append(float(y.square().mean().sqrt()))
        return -y

    ascend(f, torch.randn(shape, generator=rng), fresh, method)
    h = [0.1 * t / (1 + 0.1 * (t - 1)) for t in range(1, 5)]
    # 90 000 pixels: a standard error of 0.3 % a step
    np.testing.assert_allclose(
        np.array(seen[1:5]) / seen[:4], 1 - beta * np.array(h), rtol=0, atol=0.015
    )


def test_every_image_stops_for_itself():
    method = ImplicitPrior(sigma_end=0.3)
    y = torch.tensor([0.2, 1.0, 5.0]).reshape(3, 1, 1, 1).expand(3, 1, 4, 4)
    together, steps = ascend(lambda y: -0.5 * y, y, repeat(None), method)
    assert steps[0] == 0
    assert steps[0] < steps[1] < steps[2]
    alone = [ascend(lambda y: -0.5 * y, y[i : i + 1], repeat(None), method)[0] for i in range(3)]
    assert torch.equal(together, torch.cat(alone))


def test_it_ends_after_so_many_steps_whatever_is_left():
    method = ImplicitPrior(most_steps=7)
    _, steps = ascend(lambda y: 0 * y + 1, torch.zeros(1, 1, 4, 4), repeat(None), method)
    assert steps.tolist() == [7]


# ---- scans ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clean() -> Series:
    return few_images(SIGMA)


@pytest.fixture(scope="module")
def scan(clean) -> Series:
    return replace(clean, data=corrupt(clean.data, 1.0, np.random.default_rng(0)))


def test_a_short_training_takes_noise_off_and_says_how_far_it_went(scan, clean):
    method, run = ImplicitPrior(steps=60, channels=16, patches=4, patch=24), Run()
    state = method.fit([scan], [correlated()], run)
    out = method.denoise(scan, correlated(), state, run)
    assert run.kept["stopping steps"].shape == (5, 2)
    assert run.kept["stopping steps"].max() > 0
    error = ((out - clean.data)[clean.mask][:, 1:] ** 2).mean()  # not b0
    assert -10 * np.log10(error) > 1.5  # the noise has variance 1


def test_what_is_put_back_depends_on_the_seed_and_not_on_the_batch(scan, awake):
    state = {f"prior.{name}": value for name, value in awake.state_dict().items()}
    made = {}
    for n, seed in ((1, 0), (7, 0), (7, 1)):
        method = ImplicitPrior(**TINY, beta=0.2, sigma_end=0.01, most_steps=2, images_at_once=n)
        made[n, seed] = method.denoise(scan, correlated(), state, Run(seed=seed))
    # convolutions of other batches round in another order
    np.testing.assert_allclose(made[7, 0], made[1, 0], rtol=1e-4, atol=1e-3)
    assert np.abs(made[7, 1] - made[7, 0]).max() > 0.01


def test_the_paper_preset_is_the_paper():
    method = make("implicit_prior", "paper")
    assert (method.h0, method.beta, method.noise) == (0.01, 0.01, "white")


@pytest.mark.parametrize("name", ["implicit_prior", "sure_ip", "noise2score_ip"])
@pytest.mark.parametrize(
    ("settings", "words"),
    [({"noise": "pink"}, "measured, white"), ({"beta": 2.0}, "1 or less"), ({"h0": 0.0}, "more"),
     ({"sigma_end": 0.0}, "more than 0")],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused_in_words(name, settings, words):
    with pytest.raises(InputError, match=words) as refusal:
        make(name, **settings)
    assert refusal.value.status == 2
