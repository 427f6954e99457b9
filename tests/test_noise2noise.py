"""Noise2Noise: between two acquisitions of one image, what is learned is what truth would teach."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import correlated, few_images, generator
from quell.methods import make
from quell.methods.noise2noise import Noise2Noise
from quell.noise import draw
from quell.run import Run
from quell.series import InputError, Series
from quell.simulate import corrupt
from quell.slices import Batch

TINY = {"steps": 2, "channels": 8, "patches": 2, "patch": 16}
SIGMA = 150.0  # where the phantom's white matter is 750


class Filter(nn.Module):
    """What a linear filter adds to its input."""

    def __init__(self, kernel: Tensor) -> None:
        super().__init__()
        self.kernel = nn.Parameter(kernel)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.kernel, padding=self.kernel.shape[-1] // 2)


def field(n: int, seed: int, x: float = 0.0, y: float = 0.0) -> Tensor:
    root = correlated(x=x, y=y).in_plane_filter((64, 64))
    return draw(root, (n, 1, 64, 64), generator(seed))


def loss_of(net: nn.Module, x: Tensor, partner: Tensor) -> Tensor:
    y = torch.cat([x, partner], dim=1)
    return Noise2Noise().loss(net, Batch(y, torch.ones(y[:, 0].shape)))


def learned(x: Tensor, partner: Tensor) -> Tensor:
    """The 5 x 5 filter with the least loss."""
    net = Filter(torch.zeros(1, 1, 5, 5))
    optimiser = torch.optim.LBFGS(net.parameters(), max_iter=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss_of(net, x, partner)
        value.backward()
        return value

    optimiser.step(closure)
    return net.kernel.detach()[0, 0]


# ---- what is learned -----------------------------------------------------------------------------


@pytest.mark.parametrize("along_x", [0.0, 0.5])
def test_from_a_repeat_the_filter_is_learned_that_truth_would_teach(along_x):
    """E (h(x') - x)² = E (h(x') - clean)² + 1, whatever the noise's correlation."""
    n = 50
    clean = 2 * field(n, 1, x=0.5, y=-0.4)
    noise, again = field(n, 2, x=along_x), field(n, 3, x=along_x)
    from_repeat = learned(clean + noise, clean + again)
    # 200 000 pixels: a standard error of 0.003 a weight
    torch.testing.assert_close(from_repeat, learned(clean, clean + again), rtol=0, atol=0.015)
    assert float(from_repeat.norm()) > 0.1  # it is not the identity
    net = Filter(from_repeat[None, None])
    with torch.no_grad():
        excess = loss_of(net, clean + noise, clean + again) - loss_of(net, clean, clean + again)
    assert float(excess) == pytest.approx(1, abs=0.02)


def test_from_another_contrast_what_differs_is_lost_as_if_it_were_noise():
    n = 50
    shared, own, others = (field(n, seed, x=0.5, y=-0.4) for seed in (1, 4, 5))
    x, partner = shared + own, shared + others
    from_another = learned(x + field(n, 2), partner + field(n, 3))
    assert float((from_another - learned(x, x + field(n, 3))).abs().max()) > 0.2


def test_an_untrained_network_changes_nothing():
    x = field(2, 0)
    method = Noise2Noise()
    assert torch.equal(method.estimate(torch.zeros_like, x), x)


def test_the_loss_counts_in_the_mask_only():
    x, partner = field(2, 0), field(2, 1)
    batch = Batch(torch.cat([x, partner], dim=1), torch.zeros(2, 64, 64))
    batch.mask[..., :20] = 1
    expected = ((partner - x)[..., :20] ** 2).mean()
    torch.testing.assert_close(Noise2Noise().loss(torch.zeros_like, batch), expected)


# ---- scans ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twice() -> Series:
    """A b0 and four directions, all acquired twice, without noise."""
    one = few_images(SIGMA)
    data, bvals, bvecs = (
        np.concatenate([a, a], axis=axis)
        for a, axis in ((one.data, 3), (one.bvals, 0), (one.bvecs, 0))
    )
    return replace(one, data=data, bvals=bvals, bvecs=bvecs)


def gain_db(method: Noise2Noise, clean: Series) -> float:
    scan = replace(clean, data=corrupt(clean.data, 1.0, np.random.default_rng(0)))
    out = method.denoise(scan, correlated(), method.fit([scan], [correlated()], Run()), Run())
    b = ~clean.is_b0
    error, before = ((x - clean.data)[clean.mask][:, b] for x in (out, scan.data))
    return float(10 * np.log10((before**2).mean() / (error**2).mean()))


def test_repeats_take_more_noise_off_than_neighbours_of_other_directions(twice):
    of = {"steps": 40, "channels": 16, "patches": 4, "patch": 32}
    repeats, directions = (
        gain_db(Noise2Noise(neighbours=by, **of), twice) for by in ("repeats", "directions")
    )
    assert repeats > 3
    assert repeats > directions + 0.3


def test_what_was_not_repeated_passes_unchanged(twice):
    kept = [0, 1, 2, 3, 6, 7]  # b0 and the fourth direction once
    data = corrupt(twice.data[..., kept], 1.0, np.random.default_rng(0))
    scan = replace(twice, data=data, bvals=twice.bvals[kept], bvecs=twice.bvecs[kept])
    method, run = Noise2Noise(neighbours="repeats", **TINY), Run()
    out = method.denoise(scan, correlated(), method.fit([scan], [correlated()], run), run)
    assert run.kept["passed through"].tolist() == [0, 3]
    changed = np.abs(out - data).max(axis=(0, 1, 2)) > 1e-4
    assert changed.tolist() == [False, True, True, False, True, True]


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"neighbours": "friends"}, "repeats"), ({"partners": 0}, "more than 0")],
)
def test_settings_that_do_not_fit_are_refused_in_words(settings, words):
    with pytest.raises(InputError, match=words) as refusal:
        make("noise2noise", **settings)
    assert refusal.value.status == 2
