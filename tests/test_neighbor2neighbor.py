"""Neighbor2Neighbor: two images of half the size, of pixels side by side, with noise apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import correlated, few_images, generator, images
from quell.methods import make
from quell.methods.neighbor2neighbor import Neighbor2Neighbor, halves
from quell.noise import draw
from quell.run import Run
from quell.series import InputError, Series
from quell.simulate import corrupt
from quell.slices import Batch

TINY = {"steps": 2, "channels": 8, "patches": 2, "patch": 16}
SIGMA = 150.0  # where the phantom's white matter is 750
MEAN_OF_9 = torch.full((1, 1, 3, 3), 1 / 9)


def by_filter(image: Tensor) -> Tensor:
    return nn.functional.conv2d(image[:, :1], MEAN_OF_9, padding=1)


def noise(n: int, seed: int, **correlation: float) -> Tensor:
    root = correlated(**correlation).in_plane_filter((64, 64))
    return draw(root, (n, 1, 64, 64), generator(seed))


def batch_of(y: Tensor, progress: float = 1.0) -> Batch:
    n = torch.zeros(len(y), dtype=torch.long)
    return Batch(y, torch.ones(y[:, 0].shape), n, n, progress=progress)


# ---- the two images ------------------------------------------------------------------------------


def drawn(H: int, W: int, n: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Places of the pixels, and those that g1 and g2 take."""
    y = torch.arange(float(H * W)).reshape(1, 1, H, W).expand(n, 1, H, W)
    return y, *halves(y, Neighbor2Neighbor().pairs(y, generator(1)))


@pytest.mark.parametrize(("H", "W"), [(8, 6), (7, 6), (9, 11), (2, 2)])
def test_each_cell_gives_two_pixels_side_by_side(H, W):
    _, first, second = drawn(H, W, 20)
    assert first.shape == second.shape == (20, 1, H // 2, W // 2)
    (i, j), (k, l) = ((p.long() // W, p.long() % W) for p in (first, second))  # noqa: E741
    assert ((i - k).abs() + (j - l).abs() == 1).all()  # never the same, never diagonal
    cell_i, cell_j = torch.meshgrid(torch.arange(H // 2), torch.arange(W // 2), indexing="ij")
    for a, b in ((i, j), (k, l)):
        assert (a[:, 0] // 2 == cell_i).all()
        assert (b[:, 0] // 2 == cell_j).all()


def test_the_eight_pairs_are_equally_likely_and_cells_do_not_know_of_each_other():
    _, first, second = drawn(64, 64, 20)
    pixel = [(p.long() // 64 % 2) * 2 + p.long() % 2 for p in (first, second)]
    pair = (4 * pixel[0] + pixel[1]).flatten(1)
    often = torch.bincount(pair.flatten(), minlength=16)
    assert (often > 0).sum() == 8
    expected = pair.numel() / 8  # 2560 of 20 480
    assert ((often[often > 0] - expected).abs() < 5 * (expected * 7 / 8) ** 0.5).all()
    same = (pair[:, 1:] == pair[:, :-1]).float().mean()
    assert same == pytest.approx(1 / 8, abs=0.012)  # 5 standard errors


def test_all_channels_give_the_same_pixels():
    y = torch.randn((2, 3, 8, 8), generator=generator())
    pairs = Neighbor2Neighbor().pairs(y, generator(1))
    together, alone = halves(y, pairs), [halves(y[:, [c]], pairs) for c in range(3)]
    for k in (0, 1):
        assert torch.equal(together[k], torch.cat([one[k] for one in alone], dim=1))


def test_white_noise_of_the_two_is_independent_and_other_noise_is_not():
    for x, expected in ((0.0, 0.0), (0.5, 0.25)):  # half of the pairs lie along x
        N = noise(60, 3, x=x)
        first, second = halves(N, Neighbor2Neighbor().pairs(N, generator(1)))
        assert float((first * second).mean()) == pytest.approx(expected, abs=0.02)  # 61 000 pairs


# ---- the loss ------------------------------------------------------------------------------------


def test_the_ideal_denoiser_has_no_more_than_the_noise_in_the_regulariser():
    """f(g₁(y)) = g₁(x₀), f(y) = x₀: what is left is −g₂(n), though g₁(x₀) and g₂(x₀) differ."""
    slope = 0.5 * torch.arange(64.0)[:, None] + 1.5 * torch.arange(64.0)
    X0, N = slope.expand(20, 1, 64, 64), noise(20, 1)
    method = Neighbor2Neighbor(gamma=1.0, weight="fixed")
    pairs = method.pairs(X0, generator(7))
    (g1_x0, g2_x0), (_, g2_n) = halves(X0, pairs), halves(N, pairs)

    def ideal(image: Tensor) -> Tensor:
        return X0 if image.shape[-1] == 64 else g1_x0

    plain, both = (
        method_.loss(ideal, batch_of(X0 + N), images(), generator(7))
        for method_ in (replace(method, gamma=0.0), method)
    )
    torch.testing.assert_close(both - plain, (g2_n**2).mean(), rtol=1e-4, atol=1e-4)
    # without it, the ideal one is charged for what neighbours differ by: (0.5² + 1.5²) / 2
    apart = float(((g1_x0 - g2_x0) ** 2).mean())
    assert apart == pytest.approx(1.25, rel=0.02)
    assert float(plain) == pytest.approx(apart + 1, abs=0.1)  # 20 480 pixels: 0.025


@pytest.mark.parametrize("x", [0.0, 0.5])
def test_of_noise_alone_the_loss_of_a_filter_is_known_in_closed_form(x):
    """‖f(g₁) − g₂‖² = Σk² + 1 for white noise, since g₂ says nothing of g₁."""
    N = noise(150, 2, x=x)
    loss = float(Neighbor2Neighbor(gamma=0.0).loss(by_filter, batch_of(N), images(), generator(5)))
    if x == 0:  # of 32 x 32 pixels 94 in 100 have all 9 neighbours in every direction
        assert loss == pytest.approx(1 + 1 / 9, abs=0.02)  # 150 000 pixels: 0.004
    else:
        assert loss < 1 + 1 / 9 - 0.04  # the noise of g₂ is in part g₁'s


def test_the_regulariser_of_a_filter_is_what_the_paper_says():
    y, method = noise(4, 1), Neighbor2Neighbor(gamma=3.0, weight="fixed")
    pairs = method.pairs(y, generator(5))
    (g1, g2), (f1, f2) = halves(y, pairs), halves(by_filter(y), pairs)
    first = by_filter(g1) - g2
    expected = (first**2).mean() + 3 * ((first - (f1 - f2)) ** 2).mean()
    torch.testing.assert_close(
        method.loss(by_filter, batch_of(y, 0.2), images(), generator(5)), expected
    )


def test_gamma_grows_in_step_with_the_training():
    y, found = noise(2, 1), []
    for progress in (0.0, 0.25, 0.5, 1.0):
        batch = batch_of(y, progress)
        found.append(float(Neighbor2Neighbor().loss(by_filter, batch, images(), generator(5))))
    rise = np.subtract(found[1:], found[0])
    np.testing.assert_allclose(rise, rise[-1] * np.array([0.25, 0.5, 1]), rtol=1e-4)
    assert rise[-1] > 1


def test_no_gradient_goes_through_the_denoised_image():
    y, scale = noise(2, 1), torch.tensor(1.0, requires_grad=True)
    calls = []

    def net(image: Tensor) -> Tensor:
        out = scale * by_filter(image)
        calls.append((image.shape[-1], out.requires_grad))
        return out

    Neighbor2Neighbor().loss(net, batch_of(y), images(), generator(5)).backward()
    assert calls == [(32, True), (64, False)]


def test_the_loss_counts_cells_whose_two_pixels_are_in_the_mask():
    y = noise(3, 1)
    batch = batch_of(y)
    batch.mask[:, 31:] = 0  # cells of the row 30, 31 count where both pixels are in row 30
    pairs = Neighbor2Neighbor().pairs(y, generator(5))
    g1, g2 = halves(y, pairs)
    counts = torch.zeros(g1.shape)
    counts[:, :, :15] = 1
    counts[:, 0, 15] = (pairs[:, 15].amax(dim=-1) < 2).float()
    expected = (((by_filter(g1) - g2) ** 2) * counts).sum() / counts.sum()
    loss = Neighbor2Neighbor(gamma=0.0).loss(by_filter, batch, images(), generator(5))
    torch.testing.assert_close(loss, expected)


# ---- scans ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clean() -> Series:
    return few_images(SIGMA)


@pytest.fixture(scope="module")
def scan(clean) -> Series:
    return replace(clean, data=corrupt(clean.data, 1.0, np.random.default_rng(0)))


def denoised(method: Neighbor2Neighbor, scan: Series) -> np.ndarray:
    return method.denoise(scan, correlated(), method.fit([scan], [correlated()], Run()), Run())


def test_a_short_training_takes_noise_off(scan, clean):
    out = denoised(Neighbor2Neighbor(steps=50, channels=16, patches=4, patch=32), scan)
    error, before = ((x - clean.data)[clean.mask][:, 1:] for x in (out, scan.data))  # not b0
    assert 10 * np.log10((before**2).mean() / (error**2).mean()) > 3.5


@pytest.mark.parametrize("size", [(31, 35), (32, 3), (2, 2)])
def test_odd_and_small_sizes_do(scan, size):
    h, w = size
    one = replace(scan, data=scan.data[-h:, :w], mask=np.ones((h, w, 2), bool))
    out = denoised(Neighbor2Neighbor(**TINY), one)
    assert out.shape == one.data.shape
    assert np.isfinite(out).all()


def test_a_slice_one_voxel_wide_is_refused(scan):
    one = replace(scan, data=scan.data[:, 16:17], mask=scan.mask[:, 16:17])
    with pytest.raises(InputError, match="one voxel wide"):
        denoised(Neighbor2Neighbor(**TINY), one)


def test_one_image_with_a_contrast_is_enough(scan):
    lone = replace(scan, data=scan.data[:, :, :1, :1], mask=scan.mask[:, :, :1], bvals=None)
    shown = replace(lone, contrasts=scan.data[:, :, :1, 1:2])
    for one in (lone, shown):
        assert np.isfinite(denoised(Neighbor2Neighbor(**TINY), one)).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gamma": -1.0}, "0 or more"),
        ({"weight": "falling"}, "choose from ramped, fixed"),
        ({"patch": 1}, "holds no two pixels"),
        ({"channels": 12}, "multiple of 8"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_words(settings, words):
    with pytest.raises(InputError, match=words) as refusal:
        make("neighbor2neighbor", **settings)
    assert refusal.value.status == 2
