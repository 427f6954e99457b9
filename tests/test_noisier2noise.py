"""Noisier2Noise: what is removed of the added noise tells what to remove of the scan's."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import batch_of, correlated, few_images, generator
from quell.images import Images
from quell.methods import make
from quell.methods.noisier2noise import Noisier2Noise
from quell.methods.r2r import Recorrupted2Recorrupted
from quell.noise import draw_like
from quell.run import Run
from quell.series import InputError, Series
from quell.simulate import corrupt

TINY = {"steps": 2, "channels": 8, "patches": 2, "patch": 16}
SIGMA = 150.0  # where the phantom's white matter is 750
EV = 3.0  # signal variance where the image is made of Gaussian pixels
F64 = torch.float64
WHITE = correlated().in_plane_filter((64, 64))


class Gain(nn.Module):
    """A factor instead of the U-Net."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = a

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.a * image[:, :1]


def pixels(total: float) -> Images:
    """Images of that variance, noise included, about 7."""
    where, group = np.ones((64, 64, 1), bool), np.zeros((1, 1), int)
    size = torch.full((1, 1), total**0.5)
    return Images(np.zeros((64, 64, 1, 1)), where, group, torch.full((1, 1), 7.0), size)


def exact_image() -> Tensor:
    """7 + x + n, with x, n and the noise that the loss draws from seed 9 orthogonal."""
    drawn = draw_like(torch.zeros(2, 1, 64, 64), WHITE, generator(9)).double()
    others = torch.randn((2, drawn.numel()), generator=generator(7), dtype=F64)
    ones = torch.ones(1, drawn.numel(), dtype=F64)
    Q = torch.linalg.qr(torch.cat([ones, drawn.reshape(1, -1), others]).T).Q * drawn.norm()
    return 7 + (EV**0.5 * Q[:, 2] + Q[:, 3]).reshape(drawn.shape)


@pytest.mark.parametrize("alpha", [0.3, 0.5, 1.0, 2.0])
def test_on_gaussian_pixels_the_corrected_answer_is_the_wiener_filter(alpha):
    method, images, batch = (
        Noisier2Noise(alpha=alpha),
        pixels(1 + 0.5 * EV),
        batch_of(exact_image()),
    )
    low, middle, high = (
        float(method.loss(Gain(a), batch, images, WHITE, generator(9))) for a in (-1, 0, 1)
    )
    best = Gain((low - high) / (2 * (low + high - 2 * middle)))  # the loss is quadratic
    z = torch.tensor([7.0, 8.0], dtype=F64).reshape(1, 1, 1, 2)
    x = method.corrected(method.expected(best, z, batch_of(z), images), z)[0, 0, 0]
    # the drawn noise has a mean of 0.01, and the level is float32
    assert float(x[1] - x[0]) == pytest.approx(EV / (EV + 1 + alpha**2), rel=0.01)
    assert float(x[0]) == pytest.approx(7, abs=1e-4)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.0])
def test_its_loss_is_that_of_recorrupted2recorrupted_times_a_constant(alpha):
    method, images, batch = Noisier2Noise(alpha=alpha), pixels(4.0), batch_of(exact_image())
    value = method.loss(Gain(0.4), batch, images, WHITE, generator(3))
    y = batch.y
    z, target = Recorrupted2Recorrupted(alpha=alpha).pair(y, draw_like(y, WHITE, generator(3)))
    h = method.corrected(method.expected(Gain(0.4), z, batch, images), z)
    constant = (alpha**2 / (1 + alpha**2)) ** 2
    torch.testing.assert_close(value, constant * ((h - target) ** 2).mean(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_an_error_of_the_network_grows_by_the_correction(alpha):
    method, f, z = Noisier2Noise(alpha=alpha), torch.randn(5, generator=generator()), torch.ones(5)
    grown = method.corrected(f + 0.1, z) - method.corrected(f, z)
    torch.testing.assert_close(grown, torch.full((5,), 0.1 * (1 + alpha**2) / alpha**2))


@pytest.mark.parametrize("kind", ["measured", "white"])
def test_correlated_noise_is_removed_wrongly_if_what_is_added_is_white(kind):
    """E[n′ | z] = α E[n | z] for what is alike: so E[n | z] has no say in z's Fourier ratio."""
    method, noise = Noisier2Noise(noise=kind, alpha=1.0), correlated(x=0.5)
    root, like_n = (
        noise.to_add(method.noise).in_plane_filter((64, 64)),
        noise.in_plane_filter((64, 64)),
    )
    power_n, power_added, signal = like_n**2, root**2, 2.0
    y_given_z = (signal + power_n) / (signal + power_n + power_added)  # Wiener, per frequency
    x = method.corrected(y_given_z, torch.ones_like(y_given_z))
    wiener = signal / (signal + power_n + power_added)
    off = float((x - wiener).abs().max())
    assert off < 1e-6 if kind == "measured" else off > 0.1


def test_as_released_nothing_makes_it_denoise():
    """Its target at no added noise is its input: on Gaussian pixels of one level it learns y."""
    method, images = Noisier2Noise(variant="released"), pixels(1 + EV)
    batch, none = batch_of(exact_image()), torch.zeros(1)
    losses = [
        float(method.loss_as_released(Gain(a), batch, images, WHITE, generator(9), none))
        for a in (-0.25, 0.0, 0.25)
    ]
    assert losses[1] == 0
    assert min(losses[0], losses[2]) > 0.1  # the Wiener filter is Gain(-0.25) here


# ---- scans ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clean() -> Series:
    return few_images(SIGMA)


@pytest.fixture(scope="module")
def scan(clean) -> Series:
    return replace(clean, data=corrupt(clean.data, 1.0, np.random.default_rng(0)))


def denoised(method, scan: Series, state: dict[str, Tensor], seed: int = 0) -> np.ndarray:
    return method.denoise(scan, correlated(), state, Run(seed=seed))


def test_a_short_training_takes_noise_off(scan, clean):
    method = Noisier2Noise(steps=40, channels=16, patches=4, patch=24)
    state = method.fit([scan], [correlated()], Run())
    error = float(((denoised(method, scan, state) - clean.data)[clean.mask] ** 2).mean())
    assert -10 * np.log10(error) > 4  # the noise has variance 1


def test_the_added_noise_falls_with_the_number_of_draws(scan):
    inside = scan.data[scan.mask].astype(float)
    mean, total = inside.mean(axis=0), inside.var(axis=0)
    w = (total - 1) / (total + 0.5**2)
    for n in (1, 9):
        method = Noisier2Noise(**TINY, recorruptions=n)
        weights = method.network(0, Run()).state_dict()
        out = denoised(method, scan, {f"network.{k}": v for k, v in weights.items()})
        added = (out - (mean + w * (scan.data - mean))) / w
        # 1400 voxels of 5 volumes: a standard error of 1 %
        assert added[scan.mask].std() == pytest.approx(0.5 / n**0.5, rel=0.05)


def test_the_released_variant_is_given_the_scan_itself(scan):
    method = Noisier2Noise(**TINY, variant="released")
    state = method.fit([scan], [correlated()], Run())
    np.testing.assert_array_equal(denoised(method, scan, state), denoised(method, scan, state, 1))
    untrained = {f"network.{k}": v for k, v in method.network(0, Run()).state_dict().items()}
    np.testing.assert_allclose(denoised(method, scan, untrained), scan.data, rtol=1e-5)


def test_the_presets_are_as_published():
    assert (make("noisier2noise", "paper").alpha, make("noisier2noise", "paper").noise) == (
        1,
        "white",
    )
    assert make("noisier2noise", "released").variant == "released"


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"noise": "pink"}, "measured, white"), ({"variant": "new"}, "corrected, released"),
     ({"alpha": 0.0}, "more than 0"), ({"channels": 12}, "multiple of 8")],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused_in_words(settings, words):
    with pytest.raises(InputError, match=words) as refusal:
        make("noisier2noise", **settings)
    assert refusal.value.status == 2
