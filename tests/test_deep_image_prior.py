"""Deep Image Prior: an image is fitted before noise is, and it is stopped in between."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import correlated, few_images, generator
from quell.methods import make
from quell.methods.deep_image_prior import DeepImagePrior, Discrepancy, HeldOut, mean_square
from quell.run import Run
from quell.series import InputError, Series
from quell.simulate import corrupt

SIGMA = 150.0  # where the phantom's white matter is 750
SMALL = {"channels": 16, "steps": 400}


@pytest.fixture(scope="module")
def clean() -> Series:
    return few_images(SIGMA)


@pytest.fixture(scope="module")
def scan(clean) -> Series:
    return replace(clean, data=corrupt(clean.data, 1.0, np.random.default_rng(0)))


def denoised(method: DeepImagePrior, scan: Series, run: Run | None = None) -> np.ndarray:
    return method.denoise(scan, correlated(), {}, run or Run())


@pytest.fixture(scope="module")
def result(scan) -> tuple[np.ndarray, Run]:
    run = Run()
    return denoised(DeepImagePrior(**SMALL), scan, run), run


def waves(n: int = 2, size: int = 32) -> Tensor:
    """Smooth images of mean 0 and variance 1, (1, n, size, size)."""
    at = torch.linspace(0, 2 * torch.pi, size)
    return torch.stack([2 * torch.sin(at)[:, None] * torch.cos(at * (k + 1)) for k in range(n)])[
        None
    ]


def white(n: int = 2, size: int = 32, seed: int = 3) -> Tensor:
    return torch.randn((1, n, size, size), generator=generator(seed))


class Endless(Discrepancy):
    """Never done; what the residual was after every step."""

    def is_done(self, x_hat: Tensor, step: int) -> bool:
        self.residuals = [*getattr(self, "residuals", []), float(((x_hat - self.y) ** 2).mean())]
        return False


def fitted(method: DeepImagePrior, y: Tensor, stop: Discrepancy | HeldOut) -> Tensor:
    """What a new network says of y in the end, by its stop."""
    fixed = torch.rand((1, method.inputs, *y.shape[2:]), generator=generator(1))
    method.fit_slice(method.network(y.shape[1], 0, Run()), fixed, lambda F: F, stop, generator(2))
    return stop.best


# ---- the prior -----------------------------------------------------------------------------------


def test_an_image_is_fitted_long_before_noise_is():
    method, left = DeepImagePrior(channels=16, steps=30), []
    for y in (waves(6), white(6)):
        stop = Endless(y, torch.ones(32, 32), method, generator())
        fitted(method, y, stop)
        left.append(stop.residuals[-1] / float((y**2).mean()))
    assert left[0] < 0.1
    assert left[1] > 0.4


# ---- when to stop --------------------------------------------------------------------------------


def test_by_discrepancy_the_residual_is_as_large_as_the_noise(scan, result):
    out, run = result
    assert (run.kept["stopping steps"] < SMALL["steps"]).all()
    for z in (0, 1):
        there = scan.mask[:, :, z]
        residual = (out - scan.data)[:, :, z][there]
        # one step of the fit takes less than 2 % of the residual away at that point
        assert 0.95 < (residual**2).mean() < 1.005


def test_of_noise_on_nothing_almost_all_is_taken_away():
    there = torch.ones(32, 32)
    y, method = white(8), DeepImagePrior(channels=8, steps=100)
    stop = Discrepancy(y * 1.02, there, method, generator())  # a little more than σ: it must learn
    out = fitted(method, stop.y, stop)
    assert 0.95 < mean_square(out - stop.y, there) <= 1
    assert (out**2).mean() < 0.1


def test_the_discrepancy_is_that_of_the_mask_alone():
    y, there = waves() + 0.5 * white(), torch.ones(32, 32)
    y[..., 16:] *= 50  # never as small as the noise
    there[:, 16:] = 0
    stop = Discrepancy(y, there, DeepImagePrior(), generator())
    assert stop.is_done(y + 0.99 * (there > 0), 5)
    assert stop.is_done(torch.where(there > 0, y + 0.99, 0 * y), 6)
    assert not stop.is_done(y + 1.01, 7)
    assert stop.step == 7


class Judged(HeldOut):
    """Held out, and beside it how far from the truth each step was; it goes on to the end."""

    def is_done(self, x_hat: Tensor, step: int) -> bool:
        super().is_done(x_hat, step)
        self.errors = [*getattr(self, "errors", []), float(((x_hat - self.truth) ** 2).mean())]
        return False


def test_held_out_values_find_about_the_best_step_without_the_truth():
    truth = 2 * waves(6)
    method = DeepImagePrior(channels=16, steps=100, held_out=0.1, average=0.8)
    stop = Judged(truth + white(6), torch.ones(32, 32), method, generator(4))
    stop.truth = truth
    out = fitted(method, stop.y, stop)
    found, best, last = float(((out - truth) ** 2).mean()), min(stop.errors), stop.errors[-1]
    assert found < 1.15 * best
    assert last > 1.25 * best  # to stop does matter
    assert best < 0.3


def test_held_out_values_have_no_say_in_the_fit():
    method = DeepImagePrior(channels=8, steps=6)
    y, there, results = white(), torch.ones(32, 32), []
    for spoilt in (0.0, 1e3):
        stop = HeldOut(y, there, method, generator(4))
        assert 0.01 < stop.left_out.mean() < 0.06
        stop.y = y + spoilt * stop.left_out
        stop.least = -1.0  # says nothing of the best
        seen = []
        stop.is_done = lambda x_hat, step, seen=seen: seen.append(x_hat)
        fitted(method, y, stop)
        results.append(seen[-1])
    assert torch.equal(*results)


def test_held_out_stops_once_nothing_better_came_for_long():
    y = white()
    stop = HeldOut(y, torch.ones(32, 32), DeepImagePrior(patience=3), generator(4))
    errors = [3.0, 2.0, 1.0, 1.5, 0.9, 1.0, 1.0, 1.0]
    done = [stop.is_done(y + e, k) for k, e in enumerate(errors, start=1)]
    assert done == [False] * 7 + [True]
    assert stop.step == 5
    torch.testing.assert_close(stop.best, y + 0.9)


# ---- scans ---------------------------------------------------------------------------------------


def gain(out: np.ndarray, scan: Series, clean: Series) -> float:
    error, before = ((x - clean.data)[clean.mask] for x in (out, scan.data))
    return float(10 * np.log10((before**2).mean() / (error**2).mean()))


def test_it_takes_noise_off(scan, clean, result):
    assert gain(result[0], scan, clean) > 3


def test_held_out_takes_noise_off(scan, clean):
    method = DeepImagePrior(channels=16, steps=150, stop="held-out", held_out=0.05)
    assert gain(denoised(method, scan), scan, clean) > 3


def test_a_slice_that_goes_on_from_the_one_before_takes_fewer_steps(result):
    first, second = result[1].kept["stopping steps"][0]
    assert second < 0.7 * first


def test_a_new_network_for_every_slice_makes_slices_independent(scan):
    method = DeepImagePrior(channels=8, steps=12, start="random")
    spoilt = replace(scan, data=scan.data.copy())
    spoilt.data[:, :, 0][~scan.mask[:, :, 0]] += 5  # means and sizes of volumes stay
    outs = [denoised(method, one) for one in (scan, spoilt)]
    shift = (outs[1] - outs[0])[:, :, 1]
    # the mean over the mask of the whole volume is put back, so one number may differ
    assert np.ptp(shift, axis=(0, 1)).max() < 1e-4
    assert np.ptp((outs[1] - outs[0])[:, :, 0], axis=(0, 1)).max() > 0.1


def test_groups_of_volumes_have_their_own_networks(scan):
    run = Run()
    denoised(DeepImagePrior(channels=8, steps=3, volumes_at_once=2), scan, run)
    assert run.kept["stopping steps"].shape == (3, 2)  # of five volumes, in two slices


def test_a_slice_outside_the_mask_is_done_as_a_whole(scan):
    mask = scan.mask.copy()
    mask[:, :, 1] = False
    out = denoised(DeepImagePrior(channels=8, steps=30), replace(scan, mask=mask))
    assert np.isfinite(out).all()
    assert ((out - scan.data)[:, :, 1] ** 2).mean() < scan.data[:, :, 1].var()


def test_one_image_is_enough(scan):
    lone = replace(scan, data=scan.data[:, :, :1, :1], mask=scan.mask[:, :, :1], bvals=None)
    assert np.isfinite(denoised(DeepImagePrior(channels=8, steps=3), lone)).all()


def test_the_seed_and_nothing_else_decides(scan):
    method = DeepImagePrior(channels=8, steps=4)
    first, second = (denoised(method, scan) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, denoised(method, scan, Run(seed=1)))


def test_the_paper_preset_is_as_published():
    method = make("deep_image_prior", "paper")
    assert [method.channels * m for m in method.multipliers] == [128] * 5
    assert (method.inputs, method.size, method.rate, method.steps) == (32, 0.1, 0.01, 3000)
    assert method.jitter == pytest.approx(1 / 30)
    assert (method.optimiser, method.average, method.volumes_at_once) == ("adam", 0.99, 1)


def test_the_paper_preset_takes_steps(scan):
    method = replace(make("deep_image_prior", "paper"), channels=8, steps=3, volumes_at_once=8)
    out = denoised(method, scan)
    assert np.isfinite(out).all()
    assert np.ptp(out[:, :, 0, 1]) > 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stop": "truth"}, "choose from discrepancy, held-out"),
        ({"start": "zero"}, "choose from previous, random"),
        ({"optimiser": "sgd"}, "choose from muon, adam"),
        ({"held_out": 1.0}, "below 1"),
        ({"multipliers": ()}, "one a level"),
        ({"channels": 12}, "multiple of 8"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_words(settings, words):
    with pytest.raises(InputError, match=words) as refusal:
        make("deep_image_prior", **settings)
    assert refusal.value.status == 2


def test_white_noise_is_assumed_where_values_are_held_out():
    assert not make("deep_image_prior").assumes_white
    assert make("deep_image_prior", stop="held-out").assumes_white
