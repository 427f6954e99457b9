"""Recorrupted2Recorrupted: its two images have independent noise, and what follows from that.

Images with exact moments, as in test_c2s.py: a fit is then exact to rounding.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import batch_of, few_images, generator, pixels
from quell.methods import make
from quell.methods.c2s import Corruption2Self
from quell.methods.r2r import Recorrupted2Recorrupted
from quell.noise import LAGS, NoiseModel, draw, draw_like
from quell.run import Run
from quell.series import InputError, Series
from quell.simulate import corrupt

TINY = {"steps": 2, "channels": 8, "patches": 2, "patch": 16}
SIGMA = 150.0  # where the phantom's white matter is 750
EV = 3.0  # signal variance where the image is made of Gaussian pixels
F64 = torch.float64


class Gain(nn.Module):
    """A factor instead of the U-Net; it remembers what it was told."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = a

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        self.condition = condition
        return self.a * image[:, :1]


def noise_model(neighbours: float = 0.0) -> NoiseModel:
    """Noise of sd 1, neighbours along x correlated."""
    covariance = np.zeros([2 * lag + 1 for lag in LAGS])
    x, y, z = LAGS
    covariance[x - 1 : x + 2, y, z] = neighbours, 1, neighbours
    return NoiseModel(np.ones((9, 9, 1)), covariance, "gaussian", 1.0, "", 1, np.ones(1))


WHITE = noise_model().in_plane_filter((64, 64))


def exact(signal: float) -> tuple[Tensor, Tensor, Tensor]:
    """X_0, N and the Z that the loss draws from seed 9, all orthogonal, N as large as Z."""
    Z = draw_like(torch.zeros(2, 1, 64, 64), WHITE, generator(9)).double()
    parts = torch.cat(
        [Z.reshape(1, -1), torch.randn((2, Z.numel()), generator=generator(7), dtype=F64)]
    )
    Q = torch.linalg.qr(parts.T).Q * Z.norm()
    return signal**0.5 * Q[:, 1].reshape(Z.shape), Q[:, 2].reshape(Z.shape), Z


# ---- the two images ------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 2.0])
def test_the_noise_of_the_target_is_independent_of_that_of_the_input(alpha):
    X0, N, Z = exact(EV)
    a, b = (x - X0 for x in Recorrupted2Recorrupted(alpha=alpha).pair(X0 + N, Z))
    assert abs((a * b).sum()) < 1e-9 * a.norm() * b.norm()
    torch.testing.assert_close(a.norm() / N.norm(), torch.tensor((1 + alpha**2) ** 0.5).double())
    torch.testing.assert_close(b.norm() / N.norm(), torch.tensor((1 + alpha**-2) ** 0.5).double())


@pytest.mark.parametrize("kind", ["measured", "white"])
def test_correlated_noise_is_independent_too_if_what_is_added_is_like_it(kind):
    method, shape = Recorrupted2Recorrupted(noise=kind), (100, 1, 64, 64)
    N = draw(noise_model(0.5).in_plane_filter((64, 64)), shape, generator(1))
    Z = draw(noise_model(0.5).to_add(method.noise).in_plane_filter((64, 64)), shape, generator(2))
    a, b = method.pair(N, Z)
    beside = (a[..., 1:, :] * b[..., :-1, :]).mean()
    # 400 000 products of variance 3: a standard error of 0.005 or so; white noise leaves N's 0.5
    assert beside == pytest.approx(0.0 if kind == "measured" else 0.5, abs=0.03)


def test_without_noise_the_target_is_the_image_in_the_mean():
    method, X = Recorrupted2Recorrupted(), torch.full((50, 1, 64, 64), 3.0)
    target = method.pair(X, draw_like(X, WHITE, generator()))[1]
    assert target.mean() == pytest.approx(3, abs=0.02)  # 200 000 pixels of sd 2


# ---- the loss ------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("first_guess", [EV, 0.3 * EV])
def test_on_gaussian_pixels_the_best_linear_h_is_the_wiener_filter(alpha, first_guess):
    method, images = Recorrupted2Recorrupted(alpha=alpha), pixels(1 + first_guess)
    X0, N, _ = exact(EV)
    batch = batch_of(X0 + N)
    low, middle, high = (
        float(method.loss(Gain(a), batch, images, WHITE, generator(9))) for a in (-1, 0, 1)
    )
    best = Gain((low - high) / (2 * (low + high - 2 * middle)))  # the loss is quadratic
    one = torch.ones((1, 1, 1, 1), dtype=F64)
    slope = float(method.estimate(best, one, batch_of(one), images))
    assert slope == pytest.approx(EV / (EV + 1 + alpha**2), rel=1e-4)  # float32 level


def test_it_is_corruption2self_at_one_level_but_for_a_constant():
    alpha, X = 0.7, 2 * torch.randn((4, 1, 64, 64), generator=generator(), dtype=F64)
    c2s = Corruption2Self(tau="uniform", tau_min=alpha, tau_max=alpha)
    rng = generator(3)
    c2s.levels(4, rng)  # draws first
    images, gamma = pixels(5.0), alpha**2 / (1 + alpha**2)
    r2r = Recorrupted2Recorrupted(alpha=alpha).loss(Gain(0.4), batch_of(X), images, WHITE, rng)
    value = c2s.loss(Gain(0.4), batch_of(X), images, WHITE, generator(3))
    torch.testing.assert_close(value, gamma * r2r, rtol=1e-5, atol=0)  # tau in float32


def test_only_the_mask_counts():
    X, mask = torch.randn((2, 1, 64, 64), generator=generator()), torch.ones(2, 64, 64)
    spoilt = X.clone()
    spoilt[..., 8:] += 100
    mask[..., 8:] = 0
    first, second = (
        Recorrupted2Recorrupted().loss(
            Gain(0.1), replace(batch_of(y), mask=mask), pixels(4.0), WHITE, generator(1)
        )
        for y in (X, spoilt)
    )
    assert first == second


def test_the_network_is_that_of_corruption2self_told_one_level():
    net, X = Gain(0.1), torch.randn((2, 1, 64, 64), generator=generator())
    Recorrupted2Recorrupted().loss(net, batch_of(X), pixels(1 + EV), WHITE, generator(1))
    told = torch.tensor([np.log(1.25), np.log(EV)]).float() / 2
    torch.testing.assert_close(net.condition, told.expand(2, 2))
    a, b = (m(channels=8).network(0, Run()) for m in (Recorrupted2Recorrupted, Corruption2Self))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


# ---- scans ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clean() -> Series:
    return few_images(SIGMA)


@pytest.fixture(scope="module")
def scan(clean) -> Series:
    return replace(clean, data=corrupt(clean.data, 1.0, np.random.default_rng(0)))


def state_of(method: Recorrupted2Recorrupted, is_awake: bool) -> dict[str, Tensor]:
    """An untrained network, or one that has something to say."""
    rng, weights = generator(8), method.network(0, Run()).state_dict()
    return {
        f"network.{k}": v + 0.05 * is_awake * torch.randn(v.shape, generator=rng)
        for k, v in weights.items()
    }


def denoised(method, scan: Series, state: dict[str, Tensor], seed: int = 0) -> np.ndarray:
    return method.denoise(scan, noise_model(), state, Run(seed=seed))


def test_a_short_training_takes_three_decibels_off_and_many_draws_more_than_one(scan, clean):
    method = Recorrupted2Recorrupted(steps=60, channels=16, patches=4, patch=32)
    state = method.fit([scan], [noise_model()], Run())
    one, many = (
        float((((denoised(m, scan, state) - clean.data)[clean.mask]) ** 2).mean())
        for m in (replace(method, recorruptions=1), method)
    )
    assert -10 * np.log10(many) > 5  # 6.1 when this was written; the noise has variance 1
    assert many < 0.95 * one


def test_the_result_is_the_mean_over_draws_so_their_own_noise_falls(scan):
    inside = scan.data[scan.mask].astype(float)
    mean, total = inside.mean(axis=0), inside.var(axis=0)
    w = (total - 1) / (total + 0.5**2)
    for n in (1, 9):
        method = Recorrupted2Recorrupted(**TINY, recorruptions=n)
        out = denoised(method, scan, state_of(method, is_awake=False))
        added = (out - (mean + w * (scan.data - mean))) / w
        # 1400 voxels of 5 volumes: a standard error of 1 %
        assert added[scan.mask].std() == pytest.approx(0.5 / n**0.5, rel=0.05)


def test_the_result_depends_on_the_seed_and_not_on_how_many_images_share_a_pass(scan):
    first, same, other = (
        denoised(m := Recorrupted2Recorrupted(**TINY, images_at_once=n), scan, state_of(m, True), s)
        for n, s in ((1, 0), (7, 0), (1, 1))
    )
    # convolutions of other batches round in another order
    np.testing.assert_allclose(same, first, rtol=0, atol=2e-4)
    assert np.abs(other - first).max() > 0.01


def test_one_image_is_enough(scan):
    lone = replace(scan, data=scan.data[:, :, :1, :1], mask=scan.mask[:, :, :1], bvals=None)
    method = Recorrupted2Recorrupted(**TINY)
    state = method.fit([lone], [noise_model()], Run())
    assert np.isfinite(denoised(method, lone, state)).all()


def test_contrasts_are_shown_and_not_denoised(scan):
    method = Recorrupted2Recorrupted(**TINY)
    shown = replace(scan, contrasts=scan.data[..., :2])
    state = method.fit([shown], [noise_model()], Run())
    assert state["network.encoder.0.conv.weight"].shape[1] == 3
    assert denoised(method, shown, state).shape == scan.data.shape


def test_the_paper_preset_is_the_paper():
    method = make("r2r", "paper")
    assert (method.alpha, method.recorruptions, method.noise) == (0.5, 50, "white")
    assert (method.patches, method.patch) == (128, 40)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"noise": "pink"}, "measured, white"),
        ({"alpha": 0.0}, "more than 0"),
        ({"recorruptions": 0}, "more than 0"),
        ({"channels": 12}, "multiple of 8"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_words(settings, words):
    with pytest.raises(InputError, match=words) as refusal:
        make("r2r", **settings)
    assert refusal.value.status == 2
