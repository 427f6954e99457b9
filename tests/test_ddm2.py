"""DDM²: calibration and matching as their formulas say, the chain from the state that was matched.

The scan is a piece of the small phantom with Gaussian noise, in units of its sigma; networks are
tiny and nearly untrained, so what is tested holds for any weights.
"""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import generator
from quell.intensities import Intensities
from quell.matching import calibrate, match, match_variance
from quell.methods import make
from quell.methods.ddm2 import Ddm2
from quell.noise import LAGS, NoiseModel
from quell.run import Run, Voice
from quell.schedule import reverse_warmup
from quell.series import InputError, Series
from quell.simulate import corrupt, phantom
from quell.slices import Batch
from quell.trainer import Training

TINY = {"stage1_steps": 3, "steps": 3, "channels": 8, "patches": 2, "patch": 16, "priors": 4}
CHAIN = {"output": "chain", "rule": "posterior", "chain": 3}
SIGMA = 40.0  # of the noise, where the phantom's white matter is 750
SCHEDULE = reverse_warmup()
F64 = torch.float64


class Heard(Voice):
    """A voice that remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


class Interrupts(Heard):
    """Ctrl-C at a step of a task."""

    def __init__(self, task: str, step: int) -> None:
        super().__init__()
        self.at = (task, step)

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        if (task, done) == self.at:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def scan() -> Series:
    """16 x 18 x 3 voxels, 2 b0 and 12 directions, noise 1."""
    clean = phantom("small").clean
    piece = clean.data[8:24, 9:27, 4:7] / np.float32(SIGMA)
    noisy = corrupt(piece, 1.0, np.random.default_rng(0))
    mask = clean.mask[8:24, 9:27, 4:7].copy()
    return replace(clean, data=noisy, mask=mask)


@pytest.fixture(scope="module")
def fitted(scan) -> dict[str, Tensor]:
    """What the default method learned."""
    return Ddm2(**TINY).fit([scan], [white(scan)], Run())


def white(scan: Series, sigma: float = 1.0) -> NoiseModel:
    covariance = np.zeros([2 * lag + 1 for lag in LAGS])
    covariance[LAGS] = 1
    map_ = np.full(scan.data.shape[:3], sigma, np.float32)
    return NoiseModel(map_, covariance, "gaussian", 1.0, "", 1, np.ones(1))


def without(scan: Series, *volumes: int) -> Series:
    keep = np.setdiff1d(np.arange(scan.n_volumes), volumes)
    return replace(scan, data=scan.data[..., keep], bvals=scan.bvals[keep], bvecs=scan.bvecs[keep])


def images(n: int, seed: int, *size: int) -> Tensor:
    return torch.randn((n, 1, *(size or (6, 7))), generator=generator(seed), dtype=F64)


# ---- calibration ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(6, 7), (4, 5, 3)])
def test_calibrated_estimate_and_noise_are_the_slice_itself(size):
    X, Y, m = images(4, 0, *size), 0.5 + images(4, 1, *size), torch.tensor([2, 57, 300, 900])
    calibrated, eps = calibrate(X, Y, SCHEDULE, m)
    s, sigma = (
        a.reshape(-1, *[1] * (X.ndim - 1))
        for a in (SCHEDULE.alpha_bar[m].sqrt(), SCHEDULE.sigma(m))
    )
    torch.testing.assert_close(s * calibrated + sigma * eps, X, rtol=0, atol=1e-12)
    assert eps.flatten(1).mean(dim=1).abs().max() < 1e-12
    shift = (calibrated - Y).flatten(1)  # of the whole image
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift), rtol=0, atol=1e-12)


def test_calibration_holds_in_single_precision_too():
    X, Y, m = images(3, 2).float(), images(3, 3).float(), torch.tensor([2, 100, 400])
    calibrated, eps = calibrate(X, Y, SCHEDULE, m)
    s, sigma = (
        a.float().reshape(-1, 1, 1, 1) for a in (SCHEDULE.alpha_bar[m].sqrt(), SCHEDULE.sigma(m))
    )
    torch.testing.assert_close(s * calibrated + sigma * eps, X, rtol=0, atol=1e-5)
    assert eps.flatten(1).mean(dim=1).abs().max() < 1e-4  # of values up to 300


# ---- matching ------------------------------------------------------------------------------------

NOISES = (0.001, 0.003, 0.01, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3)
WHERE = np.ones((16, 15, len(NOISES)), bool)
NO_SIGMA = np.zeros(1)


def slices(contrast: float = 0.4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Slice z has noise NOISES[z]; the estimate is blurred a little and off by a constant."""
    rng = np.random.default_rng(seed)
    clean = np.sin(np.indices(WHERE.shape)[0] / 2) * contrast * np.ones(WHERE.shape)
    X = clean + rng.standard_normal(WHERE.shape) * np.array(NOISES)
    Y = 0.98 * clean + 0.07
    return X[..., None].astype(np.float32), Y[..., None].astype(np.float32)


def searched(x: np.ndarray, y: np.ndarray) -> int:
    """The state by the loop of the published program."""
    distances: list[float] = []
    for t in range(1001):
        s = float(SCHEDULE.alpha_bar[t]) ** 0.5
        r = x.astype(float) - s * y.astype(float)
        distances.append(abs((1 - s**2) ** 0.5 - (r - r.mean()).std()))
        if t and distances[t] > distances[t - 1]:
            break
    return int(np.argmin(distances))


@pytest.mark.parametrize("contrast", [0.0, 0.4, 2.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_five_moments_find_the_state_that_the_search_finds(contrast, seed):
    X, Y = slices(contrast, seed)
    expected = [searched(X[:, :, z, 0], Y[:, :, z, 0]) for z in range(len(NOISES))]
    assert match(SCHEDULE, X, Y, WHERE, "residual", NO_SIGMA).tolist() == [expected]


def test_the_matched_state_has_the_noise_of_the_slice():
    X, Y = slices(contrast=0.0)
    X = (X - X.mean(axis=(0, 1))) / X.std(axis=(0, 1)) * np.float32(NOISES)[:, None]
    # the table of the published schedule: 0.01 -> 2 and so on
    expected = [0, 0, 2, 18, 50, 201, 330, 357, 403]
    assert match(SCHEDULE, X, Y, WHERE, "residual", NO_SIGMA).tolist() == [expected]


def test_only_the_mask_is_looked_at():
    X, Y = slices()
    where = WHERE.copy()
    where[:8] = False
    X[:8] += np.random.default_rng(9).standard_normal(X[:8].shape)
    expected = [searched(X[8:, :, z, 0], Y[8:, :, z, 0]) for z in range(len(NOISES))]
    assert match(SCHEDULE, X, Y, where, "residual", NO_SIGMA).tolist() == [expected]


@pytest.mark.parametrize("by", ["residual", "sqrt-beta"])
def test_a_slice_that_cannot_be_matched_takes_the_median_of_its_volume(by):
    X, Y = (np.concatenate([a, b], axis=3) for a, b in zip(slices(), slices(seed=1), strict=True))
    where = WHERE.copy()
    where[:, :, 2] = False
    where[3:, 3:, 6] = False  # a few voxels at the edge
    where[:2, :, 6] = where[:, :2, 6] = False
    Y[5, 5, 4, 1] = np.nan  # in one volume
    whole = match(SCHEDULE, *(np.nan_to_num(a) for a in (X, Y)), WHERE, by, NO_SIGMA)
    states = match(SCHEDULE, X, Y, where, by, NO_SIGMA)
    for g, unknown in enumerate(([2, 6], [2, 4, 6])):
        known = np.setdiff1d(np.arange(len(NOISES)), unknown)
        assert states[g, known].tolist() == whole[g, known].tolist()
        assert (states[g, unknown] == int(np.median(whole[g, known]))).all()


def test_a_volume_that_cannot_be_matched_at_all_is_at_state_0():
    X, Y = slices()
    assert (match(SCHEDULE, np.full_like(X, np.nan), Y, WHERE, "residual", NO_SIGMA) == 0).all()


def test_half_is_the_middle_of_the_chain():
    assert (match(SCHEDULE, *slices(), WHERE, "half", NO_SIGMA) == 500).all()


def test_equation_5_as_printed_cannot_tell_noise_above_a_tenth():
    X, Y = slices(contrast=0.0)
    X = (X - X.mean(axis=(0, 1))) / X.std(axis=(0, 1)) * np.float32(NOISES)[:, None]
    states = match(SCHEDULE, X, Y, WHERE, "sqrt-beta", NO_SIGMA)[0]
    assert states[NOISES.index(0.2)] == states[NOISES.index(0.3)] == 1000  # √β is 0.1 there
    # β rises from 5e-5 at step 301 to 1e-2 at step 1000, so √β = 0.05 lies here
    expected = 301 + 699 * (0.05**2 - 5e-5) / (1e-2 - 5e-5)
    assert states[NOISES.index(0.05)] == pytest.approx(expected, abs=1)
    residual = match(SCHEDULE, X, Y, WHERE, "residual", NO_SIGMA)[0]
    assert (states[NOISES.index(0.03) :] > residual[NOISES.index(0.03) :]).all()


def test_the_noise_model_says_the_level_without_an_estimate():
    X, Y = (np.repeat(a, 3, axis=3) for a in slices())
    sigma = np.array([0.05, 0.2, 1.0])
    states = match(SCHEDULE, X, Y, WHERE, "noise-model", sigma)
    assert states.shape == (3, len(NOISES))
    assert (states == states[:, :1]).all()
    # x / s_t has noise σ_t / s_t
    level = SCHEDULE.sigma(torch.arange(1001)) / SCHEDULE.alpha_bar.sqrt()
    for t, one in zip(states[:, 0], sigma, strict=True):
        assert abs(level[t] - one) <= min(abs(level[t - 1] - one), abs(level[t + 1] - one))


def test_a_known_error_is_matched_slice_by_slice_in_the_mask():
    variance = np.full((8, 8, 3, 2), 7.0)
    where = np.zeros((8, 8, 3), bool)
    where[:, 2:6] = True
    for z, sigma in enumerate((0.05, 0.1, 0.5)):
        variance[:, 2:6, z] = np.array([sigma**2, 4 * sigma**2])
    states = match_variance(SCHEDULE, variance, where)
    level = (SCHEDULE.sigma(torch.arange(1001)) / SCHEDULE.alpha_bar.sqrt()).numpy()
    for z, sigma in enumerate((0.05, 0.1, 0.5)):
        for g, factor in enumerate((1, 2)):
            assert states[g, z] == np.abs(level - factor * sigma).argmin()


def test_states_below_the_least_are_raised_and_it_is_said(scan):
    voice = Heard()
    method = Ddm2(**TINY, matching="noise-model", least_state=400)
    state = method.fit([scan], [white(scan)], Run(voice=voice))
    assert (state["matched"] == 400).all()
    assert (
        "42 slices hold almost no noise, or could not be matched; state 400 is taken" in voice.lines
    )
    voice = Heard()
    state = Ddm2(**TINY, matching="half").fit([scan], [white(scan)], Run(voice=voice))
    assert (state["matched"] == 500).all()
    assert voice.lines == []


# ---- the loss of stage III -----------------------------------------------------------------------


class Recorder:
    """Answers with a fixed image; remembers what it was shown."""

    def __init__(self, answer: Tensor) -> None:
        self.answer = answer

    def __call__(self, x_t: Tensor, s: Tensor) -> Tensor:
        self.x_t, self.s = x_t, s
        return self.answer


M = torch.tensor([[40, 300], [120, 7]])  # state of group, slice
GROUP, Z = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])


def batch_of(n: int = 24) -> Batch:
    y = torch.randn((4, 2, n, n), generator=generator(5), dtype=F64)
    return Batch(y, torch.ones(4, n, n, dtype=F64), GROUP, Z)


def shown(method: Ddm2, batch: Batch, seed: int = 6, root: Tensor | None = None):
    """Loss and recorder for the network that answers with the noisy slice, and (Y', ε) of it."""
    X, Y = batch.y[:, :1], batch.y[:, 1:]
    net = Recorder(X)
    value = method.loss(net, batch, M, SCHEDULE, root, generator(seed))
    return value, net, *calibrate(X, Y, SCHEDULE, M[GROUP, Z])


def noise_of(net: Recorder, Y: Tensor) -> Tensor:
    s = net.s.reshape(-1, 1, 1, 1)
    return (net.x_t - s * Y) / (1 - s**2).sqrt()


def test_the_aim_is_the_noisy_slice():
    value, *_ = shown(Ddm2(noise="gaussian"), batch_of())
    assert value == 0


def test_the_aim_may_be_the_calibrated_estimate_instead():
    batch, method = batch_of(), Ddm2(noise="gaussian", target="stage-1")
    value, _, Y, _ = shown(method, batch)
    assert value > 1
    assert method.loss(Recorder(Y), batch, M, SCHEDULE, None, generator(6)) == 0


def test_only_the_mask_counts():
    batch = batch_of()
    off = batch.y[:, :1] + torch.tensor([0.0, 5.0])[torch.arange(24) % 2]
    batch.mask[..., 1::2] = 0
    assert Ddm2(noise="gaussian").loss(Recorder(off), batch, M, SCHEDULE, None, generator()) == 0


def test_shuffled_noise_has_the_values_of_the_residual_in_one_order_for_all_slices():
    _, net, Y, eps = shown(Ddm2(noise="shuffled"), batch_of())
    noise = noise_of(net, Y).flatten(1)
    # s is told in single precision: its 1 - s² is good to 1e-3 at the first steps
    torch.testing.assert_close(
        noise.sort().values, eps.flatten(1).sort().values, rtol=2e-3, atol=0.01
    )
    where = [
        torch.cdist(n[:, None], e[:, None]).argmin(dim=1)
        for n, e in zip(noise, eps.flatten(1), strict=True)
    ]
    agreement = torch.stack([(one == where[1]).float().mean() for one in where])
    assert agreement.min() > 0.9  # near-equal values may be confused
    assert (where[1] == torch.arange(24 * 24)).float().mean() < 0.1  # and it is not the old order


def test_gaussian_noise_is_white_and_of_variance_one():
    _, net, Y, _ = shown(Ddm2(noise="gaussian"), batch_of(96))
    noise = noise_of(net, Y)
    assert noise.var() == pytest.approx(1, abs=0.03)  # 37 000 values: 4 standard errors
    assert (noise[..., 1:] * noise[..., :-1]).mean() == pytest.approx(0, abs=0.025)


def test_measured_noise_has_the_correlation_of_the_scan(scan):
    model = white(scan)
    i, j, k = LAGS
    for lag in (-1, 1):
        model.covariance[i, j + lag, k] = 0.4
    root = model.in_plane_filter((96, 96))
    _, net, Y, _ = shown(Ddm2(noise="measured"), batch_of(96), root=root)
    noise = noise_of(net, Y)
    assert noise.var() == pytest.approx(1, abs=0.05)
    assert (noise[..., 1:] * noise[..., :-1]).mean() == pytest.approx(0.4, abs=0.04)
    assert (noise[:, :, 1:] * noise[:, :, :-1]).mean() == pytest.approx(0, abs=0.04)


def steps_of(s: Tensor) -> Tensor:
    """The step in whose interval s lies."""
    return torch.bucketize(-s.double(), -SCHEDULE.alpha_bar.sqrt())


def test_levels_are_drawn_up_to_a_multiple_of_the_largest_state():
    method, batch = Ddm2(noise="gaussian", levels=1.5), batch_of(2)
    drawn = torch.cat([steps_of(shown(method, batch, seed)[1].s) for seed in range(150)])
    assert 1 <= drawn.min() <= 10
    assert 430 <= drawn.max() <= 451  # 1.5 times 300; single precision may fall over an edge
    assert (drawn.double().mean() / 450) == pytest.approx(0.5, abs=0.05)  # of 600, uniform


def test_all_levels_are_drawn_where_none_is_the_last():
    method, batch = Ddm2(noise="gaussian", levels=0.0), batch_of(2)
    drawn = torch.cat([steps_of(shown(method, batch, seed)[1].s) for seed in range(150)])
    assert drawn.max() > 970
    assert (drawn.double().mean() / 1000) == pytest.approx(0.5, abs=0.05)


def test_as_published_one_step_is_drawn_for_the_whole_batch_and_a_level_for_each():
    _, net, *_ = shown(Ddm2(noise="gaussian", everywhere=True, levels=0.0), batch_of(2), seed=3)
    assert len(set(net.s.tolist())) == 4
    assert steps_of(net.s).max() - steps_of(net.s).min() <= 1
    _, net, *_ = shown(Ddm2(noise="gaussian", levels=0.0), batch_of(2), seed=3)
    assert steps_of(net.s).max() - steps_of(net.s).min() > 10


# ---- the chain -----------------------------------------------------------------------------------


class Known(Ddm2):
    """DDM² whose network is a formula."""

    def predictor(self, state, run):
        self.calls.append([])

        def passing(x_t: Tensor, s: Tensor) -> Tensor:
            self.calls[-1].append((x_t.clone(), s.clone()))
            return self.answer(x_t, s)

        return passing


def known(answer, **settings) -> Known:
    method = Known(**{**TINY, **CHAIN, **settings})
    object.__setattr__(method, "answer", answer)
    object.__setattr__(method, "calls", [])
    return method


def chained(method: Ddm2, x: np.ndarray, m: list[list[int]], run: Run | None = None) -> np.ndarray:
    G = x.shape[3]
    state = {"top": torch.full((G,), 2.0), "volumes": torch.arange(G)[:, None]}
    level, where = np.ones(G, np.float32), np.ones(x.shape[:3], bool)
    return method.chain_from(x, x, level, where, torch.tensor(m), state, run or Run())


def two_slices() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((5, 6, 2, 1)).astype(np.float32)


def test_the_chain_starts_from_the_slice_as_published_or_from_what_its_state_means():
    x, m = two_slices(), [[300, 600]]
    for start, scale in (("slice", 1.0), ("consistent", SCHEDULE.alpha_bar[m[0]].sqrt())):
        method = known(lambda x_t, s: x_t, start=start)
        chained(method, x, m)
        first = method.calls[0][0][0][:, 0].movedim(0, -1).double()
        torch.testing.assert_close(
            first, torch.from_numpy(x[..., 0]).double() * scale, rtol=1e-6, atol=1e-6
        )


def test_every_slice_is_led_from_its_own_state():
    method = known(lambda x_t, s: x_t)
    chained(method, two_slices(), [[300, 30]])
    levels = torch.stack([s for _, s in method.calls[0]])
    steps = torch.tensor([[300, 30], [200, 20], [100, 10]])
    assert torch.equal(levels, SCHEDULE.alpha_bar[steps].sqrt().float())


def test_a_chain_of_every_step_takes_every_step():
    method = known(lambda x_t, s: x_t, chain=0)
    chained(method, two_slices(), [[6, 6]])
    levels = torch.stack([s[0] for _, s in method.calls[0]])
    assert torch.equal(levels, SCHEDULE.alpha_bar[[6, 5, 4, 3, 2, 1]].sqrt().float())


def test_one_step_is_what_the_network_says_of_the_start():
    method = known(lambda x_t, s: 0.5 * x_t, output="one-step", start="slice")
    x = two_slices()
    np.testing.assert_allclose(chained(method, x, [[300, 30]]), 0.5 * x, rtol=1e-6)
    assert len(method.calls[0]) == 1


def test_the_estimate_stays_within_the_range_of_the_scan():
    x = two_slices()
    out = chained(known(lambda x_t, s: 100 * x_t), x, [[300, 30]])
    assert (out.min(), out.max()) == (x.min(), x.max())


def test_samples_differ_where_noise_is_added_and_their_spread_is_kept():
    x = np.repeat(two_slices(), 4, axis=3)
    kept = []
    for rule in ("posterior", "mean"):
        method, run = known(lambda x_t, s: 0.9 * x_t, samples=2, rule=rule, start="slice"), Run()
        chained(method, x, [[300, 30]] * 4, run)
        kept.append(run.kept)
    assert kept[0]["spread"].shape == x.shape
    inside = np.abs(x) < 0.9 * np.abs(x).max()  # elsewhere both may be clamped
    assert (kept[0]["spread"][inside] > 0).all()
    assert "spread" not in kept[1]  # a chain without noise has none


def test_the_spread_is_in_the_units_of_the_scan_and_zero_where_nothing_was_drawn(scan, fitted):
    run = Run()
    Ddm2(**TINY, **CHAIN, samples=2).denoise(scan, white(scan), fitted, run)
    spread, top = run.kept["spread"], float(fitted["top"][0])
    assert spread.shape == scan.data.shape
    assert (spread[scan.mask] > 0).mean() > 0.99
    # less than the noise that was added in all, and more than rounding
    assert 1e-4 * top < spread.mean() < 1
    lone, run = without(scan, 7), Run()
    method = Ddm2(**TINY, **CHAIN, samples=2)
    method.denoise(lone, white(lone), method.fit([lone], [white(lone)], run), run)
    assert run.kept["spread"].shape == lone.data.shape
    assert (run.kept["spread"][..., 0] == 0).all()
    assert (run.kept["spread"][..., 1:][scan.mask] > 0).mean() > 0.99


def test_the_result_is_the_mean_of_the_samples():
    x, m = two_slices(), [[300, 30]]
    answer = {"answer": lambda x_t, s: 0.9 * x_t, "start": "slice"}
    one, two = (chained(known(**answer, samples=n), x, m) for n in (1, 2))
    run = Run()
    chained(known(**answer, samples=2), x, m, run)
    # of two samples the standard deviation is |a - b| / √2, and the mean is (a + b) / 2
    np.testing.assert_allclose(np.abs(two - one), run.kept["spread"] / 2**0.5, rtol=1e-3, atol=1e-5)


def test_the_distance_from_the_input_is_kept_step_by_step():
    run, x = Run(), two_slices()
    chained(known(lambda x_t, s: torch.zeros_like(x_t), start="slice"), x, [[300, 2]], run)
    growth = run.kept["distance from input"]
    rms = np.sqrt((x[..., 0] ** 2).mean(axis=(0, 1)))
    assert growth.shape == (1, 2, 3)
    np.testing.assert_allclose(growth[0, 0], rms[0], rtol=1e-5)
    assert np.isnan(growth[0, 1]).tolist() == [False, False, True]  # from state 2, two steps


def test_a_network_that_only_undoes_the_scale_returns_the_start(scan, fitted):
    passing = known(lambda x_t, s: x_t / s.reshape(-1, 1, 1, 1), rule="mean", start="consistent")
    out = passing.denoise(scan, white(scan), fitted, Run())
    start = Ddm2(**TINY, output="start").denoise(scan, white(scan), fitted, Run())
    np.testing.assert_allclose(out, start, rtol=1e-4, atol=1e-3)
    assert np.abs(start - scan.data).mean() > 0.05


# ---- the whole method ----------------------------------------------------------------------------


def test_a_lone_b0_passes_unchanged_and_is_named(scan):
    lone, run = without(scan, 7), Run()
    method = Ddm2(**TINY)
    out = method.denoise(lone, white(lone), method.fit([lone], [white(lone)], run), run)
    assert run.kept["passed through"].tolist() == [0]
    np.testing.assert_array_equal(out[..., 0], lone.data[..., 0])
    changes = np.abs(out - lone.data).mean(axis=(0, 1, 2))
    assert (changes[1:] > 0.05).all()


def test_where_all_volumes_have_partners_none_passes(scan, fitted):
    run = Run()
    Ddm2(**TINY, start="slice").denoise(scan, white(scan), fitted, run)
    assert run.kept["passed through"].size == 0
    np.testing.assert_array_equal(run.kept["matched states"], fitted["matched"])
    assert fitted["matched"].shape == (14, 3)


def test_a_scan_without_two_alike_is_refused(scan):
    single = without(scan, *range(2, 14))
    with pytest.raises(InputError, match="another one like it"):
        Ddm2(**TINY).fit([single], [white(single)], Run())


def test_the_images_of_a_batch_do_not_change_each_other(scan, fitted):
    results = [
        Ddm2(**TINY, **CHAIN, images_at_once=n).denoise(scan, white(scan), fitted, Run())
        for n in (1, 8)
    ]
    # in sigma, of signals up to 40: convolutions sum in another order, in single precision
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-3)


def test_the_chain_is_drawn_from_the_seed(scan, fitted):
    def out(seed: int) -> np.ndarray:
        torch.manual_seed(seed + 5)  # the global generator must not matter
        return Ddm2(**TINY, **CHAIN).denoise(scan, white(scan), fitted, Run(seed))

    first = out(0)
    np.testing.assert_array_equal(first, out(0))
    assert np.abs(first - out(1)).mean() > 1e-3


def test_the_output_may_be_any_step_on_the_way(scan, fitted):
    def out(**settings) -> np.ndarray:
        method = Ddm2(**{**TINY, **CHAIN, **settings})
        return method.denoise(scan, white(scan), fitted, Run())

    results = [out(output=kind) for kind in ("chain", "one-step", "start", "stage-1")]
    np.testing.assert_allclose(out(output="start", start="slice"), scan.data, rtol=1e-4, atol=1e-3)
    for i, a in enumerate(results):
        assert all(np.abs(a - b).mean() > 0.01 for b in results[:i])


def estimate(method: Ddm2, scan: Series, state: dict[str, Tensor]) -> np.ndarray:
    """Y in the units of the scan."""
    range_ = Intensities(state["top"].numpy())
    Y = method.stage1(range_.apply(scan.data), scan.mask, state, Run())
    return range_.undo(Y, state["volumes"][:, 0].numpy())


def test_stage_1_does_not_look_at_the_volume_it_predicts(scan, fitted):
    other = scan.data.copy()
    other[..., 5] += 3
    a, b = (estimate(Ddm2(**TINY), replace(scan, data=data), fitted) for data in (scan.data, other))
    saw_5 = [v for v, *others in fitted["volumes"].tolist() if 5 in others]
    assert [v for v in range(14) if (a[..., v] != b[..., v]).any()] == saw_5
    assert 0 < len(saw_5) < 13
    assert 5 not in saw_5


def test_an_untrained_stage_1_is_the_mean_of_the_neighbours(scan, fitted):
    is_last = "Phi.unet.leave"
    state = {n: torch.zeros_like(v) if n.startswith(is_last) else v for n, v in fitted.items()}
    Y = estimate(Ddm2(**TINY), scan, state)
    for v, *others in state["volumes"].tolist():
        mean = scan.data[..., others].mean(axis=3)
        np.testing.assert_allclose(Y[..., v], mean, rtol=1e-4, atol=1e-3)


def test_volumes_may_come_in_any_order(scan):
    order = np.random.default_rng(3).permutation(14)
    bvecs = np.random.default_rng(4).standard_normal((14, 3))  # no two angles alike
    bvecs *= (scan.bvals > 0)[:, None] / np.linalg.norm(bvecs, axis=1, keepdims=True)
    turned = {"bvals": scan.bvals[order], "bvecs": bvecs[order], "data": scan.data[..., order]}
    here, there = (
        Ddm2(**{**TINY, "stage1_steps": 1, "steps": 1}).fit([one], [white(one)], Run())["volumes"]
        for one in (replace(scan, bvecs=bvecs), replace(scan, **turned))
    )
    groups = {v: others for v, *others in here.tolist()}
    for v, *others in there.tolist():
        assert order[others].tolist() == groups[int(order[v])]


def test_the_published_preset_holds_what_was_published():
    paper = make("ddm2", "paper")
    assert paper.units == "scanner"
    expected = {
        "priors": 2,
        "neighbours": "acquisition",
        "stage1_steps": 10_000,
        "steps": 100_000,
        "matching": "residual",
        "start": "slice",
        "noise": "shuffled",
        "target": "noisy",
        "levels": 0.0,
        "output": "chain",
        "rule": "posterior",
        "chain": 0,
        "flips": 4,
        "samples": 1,
        "network": "published",
        "dimensions": 2,
        "patches": 32,
        "everywhere": True,
        "intensities": "volume-maximum",
    }
    assert {name: getattr(paper, name) for name in expected} == expected
    assert paper.patch >= 512  # whole slices
    training = Training.of(paper.network, paper.steps)
    assert (training.is_plain, training.learning_rate, training.steps) == (True, 1e-4, 100_000)


def test_all_of_the_published_method_but_its_network_runs_in_a_moment(scan):
    scanner = replace(scan, data=SIGMA * scan.data)
    small = {**TINY, "priors": 2, "patch": 4096, "network": "lean"}
    method, run = replace(make("ddm2", "paper"), **small), Run()
    state = method.fit([scanner], [white(scanner, SIGMA)], run)
    assert state["volumes"].tolist()[0] == [1, 13, 2]
    assert 0 not in state["volumes"]
    assert 7 not in state["volumes"]
    quick = replace(method, chain=3)  # the whole chain would take as many steps as the state
    out = quick.denoise(scanner, white(scanner, SIGMA), state, run)
    assert out.shape == scan.data.shape
    assert np.isfinite(out).all()
    assert run.kept["passed through"].tolist() == [0, 7]
    np.testing.assert_array_equal(out[..., [0, 7]], scanner.data[..., [0, 7]])
    inside = (out - scanner.data)[scan.mask][:, 1]
    assert 0.1 * SIGMA < inside.std() < 5 * SIGMA


@pytest.mark.parametrize("preset", Ddm2.presets)
def test_every_preset_names_settings_that_there_are(preset):
    assert set(Ddm2.presets[preset]) <= {field.name for field in fields(Ddm2)}


def test_images_from_noise_alone_are_seeded_and_of_the_size_asked_for(scan, fitted):
    method = Ddm2(**{**TINY, "levels": 0.0})
    first = method.sample(fitted, (9, 12), 3, 4, Run(seed=1))
    assert first.shape == (9, 12, 3)
    assert np.abs(first).max() <= 1
    np.testing.assert_array_equal(first, method.sample(fitted, (9, 12), 3, 4, Run(seed=1)))
    assert (first != method.sample(fitted, (9, 12), 3, 4, Run(seed=2))).mean() > 0.5
    # every image has a generator of its own
    alone = method.sample(fitted, (9, 12), 1, 4, Run(seed=1))
    np.testing.assert_allclose(alone[..., 0], first[..., 0], rtol=1e-4, atol=1e-5)
    assert (first[..., 0] != first[..., 1]).mean() > 0.5
    with pytest.raises(InputError, match="levels=0"):
        Ddm2(**TINY).sample(fitted, (9, 12), 1, 4, Run())


def test_a_fit_in_3d_keeps_the_shape(scan):
    method = Ddm2(**{**TINY, "stage1_steps": 2, "steps": 2, "patch": 8}, dimensions=3)
    run = Run()
    state = method.fit([scan], [white(scan)], run)
    assert state["F.unet.encoder.0.conv.weight"].shape == (8, 1, 3, 3, 3)
    out = method.denoise(scan, white(scan), state, run)
    assert out.shape == scan.data.shape
    assert np.isfinite(out).all()
    assert np.abs(out - scan.data).mean() > 0.01


@pytest.mark.parametrize(
    ("task", "step"), [("training stage I", 2), ("stage I", 8), ("training stage III", 2)]
)
def test_a_fit_stopped_anywhere_goes_on_as_if_it_had_not(scan, fitted, tmp_path, task, step):
    method = Ddm2(**TINY)
    with pytest.raises(KeyboardInterrupt):
        method.fit([scan], [white(scan)], Run(folder=tmp_path, voice=Interrupts(task, step)))
    assert list(tmp_path.glob("training-stage-I.pt"))
    again = method.fit([scan], [white(scan)], Run(folder=tmp_path))
    assert again.keys() == fitted.keys()
    assert all(torch.equal(again[name], fitted[name]) for name in fitted)
