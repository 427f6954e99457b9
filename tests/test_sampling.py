"""Sampling: rules as Bayes' rule and the papers say, paths as published, batches of loners."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quell.chains import FLIPS, Chain, flagged, over_flips
from quell.sampling import RULES, Sampler, even_path, run_walk
from quell.schedule import reverse_warmup

SCHEDULE = reverse_warmup()
F64 = torch.float64
JUMPS = [(2, 1), (11, 10), (61, 51), (301, 291), (700, 300), (1000, 1)]
each_jump = pytest.mark.parametrize(("t", "s"), JUMPS)


def images(n: int, seed: int, size: tuple[int, int] = (4, 6)) -> Tensor:
    return torch.randn((n, 1, *size), generator=generator(seed), dtype=F64)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def generators(n: int) -> list[torch.Generator]:
    return [generator(10 + i) for i in range(n)]


def steps(*values: int) -> Tensor:
    return torch.tensor(values)


def shrink(x_t: Tensor, t: Tensor, rows: Tensor) -> Tensor:
    """An estimate that depends on the image and its step."""
    return x_t / (1 + t.reshape(-1, 1, 1, 1) / 100)


# ---- rules ---------------------------------------------------------------------------------------


def variance(sampler: Sampler, t: int, s: int) -> float:
    """Variance of the noise that a step adds, from one more unit of it."""
    zero, one = torch.zeros((1, 1, 1, 1), dtype=F64), torch.ones((1, 1, 1, 1), dtype=F64)
    moved = sampler.step(zero, zero, steps(t), steps(s), one)
    return float(moved - sampler.step(zero, zero, steps(t), steps(s), zero)) ** 2


def weights(rule: str, t: int, s: int) -> tuple[float, float]:
    """What x0_hat and x_t weigh in x_s."""
    zero, one = torch.zeros((1, 1, 1, 1), dtype=F64), torch.ones((1, 1, 1, 1), dtype=F64)
    sampler = Sampler(SCHEDULE, rule)
    return (
        float(sampler.step(zero, one, steps(t), steps(s), zero)),
        float(sampler.step(one, zero, steps(t), steps(s), zero)),
    )


@each_jump
def test_posterior_steps_have_mean_and_variance_of_bayes_rule(t, s):
    x_t, x0_hat, eps = images(1, 0), images(1, 1), images(1, 2)
    mean, var = SCHEDULE.posterior(x_t, x0_hat, steps(t), steps(s))
    drawn = Sampler(SCHEDULE, "posterior").step(x_t, x0_hat, steps(t), steps(s), eps)
    torch.testing.assert_close(drawn, mean + var.sqrt() * eps, rtol=1e-12, atol=0)
    alone = Sampler(SCHEDULE, "mean").step(x_t, x0_hat, steps(t), steps(s), eps)
    torch.testing.assert_close(alone, mean, rtol=1e-12, atol=0)


@each_jump
def test_the_beta_rule_adds_the_beta_of_the_jump_to_the_same_mean(t, s):
    beta = 1 - SCHEDULE.alpha_bar[t] / SCHEDULE.alpha_bar[s]
    assert variance(Sampler(SCHEDULE, "beta"), t, s) == pytest.approx(float(beta), rel=1e-9)
    assert weights("beta", t, s) == pytest.approx(weights("mean", t, s), rel=1e-12)


@pytest.mark.parametrize("t", [2, 250, 700, 1000])
def test_in_one_step_the_beta_rule_adds_the_beta_of_the_schedule(t):
    beta = float(SCHEDULE.betas[t])
    assert variance(Sampler(SCHEDULE, "beta"), t, t - 1) == pytest.approx(beta, rel=1e-9)
    assert variance(Sampler(SCHEDULE, "posterior"), t, t - 1) < beta


@each_jump
def test_ddim_without_noise_keeps_the_direction_of_the_noise(t, s):
    x0, eps, other = images(2, 3), images(2, 4), images(2, 5)
    x_t = SCHEDULE.diffuse(x0, steps(t, t), eps)
    x_s = Sampler(SCHEDULE, "ddim").step(x_t, x0, steps(t, t), steps(s, s), other)
    # eps is read back from x_t, where it weighs 0.01 at least
    torch.testing.assert_close(x_s, SCHEDULE.diffuse(x0, steps(s, s), eps), rtol=1e-10, atol=1e-10)


@each_jump
def test_ddim_with_all_its_noise_is_ancestral_sampling(t, s):
    x_t, x0_hat, eps = images(1, 6), images(1, 7), images(1, 8)
    a, b = (
        Sampler(SCHEDULE, rule, eta=1.0).step(x_t, x0_hat, steps(t), steps(s), eps)
        for rule in ("ddim", "posterior")
    )
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@each_jump
def test_the_noise_of_ddim_grows_with_eta(t, s):
    of_half, of_one = (variance(Sampler(SCHEDULE, "ddim", eta=eta), t, s) for eta in (0.5, 1.0))
    assert of_half == pytest.approx(0.25 * of_one, rel=1e-9)
    assert variance(Sampler(SCHEDULE, "ddim", eta=0.0), t, s) == 0


@pytest.mark.parametrize("t", [301, 201, 101, 61])
def test_only_the_mixed_rule_loses_amplitude_in_a_jump(t):
    # beta is constant here and so small: a millionth is missing, of the mixed sum 10 beta / 2
    for rule in ("posterior", "mean", "mean-one-step"):
        assert sum(weights(rule, t, t - 10)) == pytest.approx(1, abs=2e-6)
    # counted from 0, as in the program, t is one less: (t - 8) / (t + 1)
    assert sum(weights("mean-mixed", t, t - 10)) == pytest.approx((t - 9) / t, abs=3e-4)


def test_the_one_step_rule_moves_a_tenth_as_far_as_a_jump_of_ten():
    whole, one = weights("mean", 301, 291), weights("mean-one-step", 301, 291)
    # 10 / 301 and 1 / 301, while beta is constant
    assert whole[0] == pytest.approx(10 / 301, rel=1e-4)
    assert one[0] == pytest.approx(1 / 301, rel=1e-4)


def test_the_mixed_rule_leaves_a_fifth_of_the_amplitude_after_the_run():
    amplitude = of_start = 1.0
    for t in range(301, 50, -10):
        of_x0_hat, of_x_t = weights("mean-mixed", t, t - 10)
        amplitude, of_start = of_x0_hat + of_x_t * amplitude, of_x_t * of_start
    # as computed from the published program
    assert amplitude == pytest.approx(0.22, abs=0.005)
    assert of_start == pytest.approx(0.14, abs=0.005)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_ends_in_the_estimate(rule):
    x0_hat = images(2, 9)
    x_0 = Sampler(SCHEDULE, rule).step(
        images(2, 10), x0_hat, steps(1, 1), steps(0, 0), images(2, 1)
    )
    torch.testing.assert_close(x_0, x0_hat, rtol=0, atol=1e-10)


@pytest.mark.parametrize("rule", ["posterior", "beta", "mean", "ddim"])
@pytest.mark.parametrize("t", [5, 301, 1000])
def test_a_jump_to_the_end_is_the_estimate_too(rule, t):
    x0_hat = images(1, 11)
    x_0 = Sampler(SCHEDULE, rule, eta=1.0).step(
        images(1, 12), x0_hat, steps(t), steps(0), images(1, 13)
    )
    torch.testing.assert_close(x_0, x0_hat, rtol=0, atol=1e-10)


# ---- chains --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_a_perfect_network_gives_the_image_back(rule):
    x0, seen = images(2, 14), []

    def truth(x_t: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        seen.append((int(t[0]), x_t))
        return x0[rows]

    x_T = SCHEDULE.diffuse(x0, steps(301, 301), images(2, 15))
    paths = [run_walk(301, 10, 51)] * 2
    out = Sampler(SCHEDULE, rule).reverse(x_T, paths, truth, generators(2))
    assert torch.equal(out, x0)
    assert [t for t, _ in seen] == paths[0]
    if rule in ("posterior", "beta", "ddim"):  # the last state has the noise of its step still
        error = (seen[-1][1] - x0).std()
        assert 0.4 < float(error / SCHEDULE.sigma(steps(1))) < 1.6  # 48 pixels


@pytest.mark.parametrize(("rule", "low"), [("posterior", 0.975), ("beta", 0.9965)])
def test_on_gaussian_images_ancestral_sampling_draws_from_the_posterior(rule, low):
    spread, centre, m, x_m = 0.2, -0.4, 300, 0.1
    alpha_bar = SCHEDULE.alpha_bar
    total = alpha_bar * spread**2 + 1 - alpha_bar

    def posterior_mean(x_t: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        a = float(alpha_bar[t[0]])
        gain = a**0.5 * spread**2 / float(total[t[0]])
        return centre + gain * (x_t - a**0.5 * centre)

    start = torch.full((1, 1, 300, 300), x_m)
    path = [list(range(m, 0, -1))]
    samples = Sampler(SCHEDULE, rule).reverse(start, path, posterior_mean, generators(1)).double()
    mean = float(posterior_mean(start[:1, :1, :1, :1], steps(m), steps(0)))
    var = float(spread**2 * (1 - alpha_bar[m]) / total[m])
    assert float(samples.mean()) == pytest.approx(mean, abs=4 * (var / 90_000) ** 0.5)
    # 90 000 samples: 0.5 % standard error. Neither variance is that of p(x_s | x_t) for this
    # spread; summed over the 300 steps 2.5 % and 0.35 % are missing.
    assert float(samples.var()) == pytest.approx(low * var, rel=0.015)


@pytest.mark.parametrize("path", [[300, 200, 50, 1], run_walk(301, 10, 51), [1000, 3]])
def test_on_gaussian_images_the_mean_rule_never_changes_its_mind(path):
    alpha_bar, spread = SCHEDULE.alpha_bar, 0.3
    answers = []

    def posterior_mean(x_t: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        a = alpha_bar[t].reshape(-1, 1, 1, 1)
        answers.append(a.sqrt() * spread**2 / (a * spread**2 + 1 - a) * x_t)
        return answers[-1]

    out = Sampler(SCHEDULE, "mean").reverse(images(1, 30), [path], posterior_mean, generators(1))
    # the expectation of the next expectation is this one
    torch.testing.assert_close(out, answers[0], rtol=1e-10, atol=0)
    assert len(answers) == len(path)


def test_images_of_a_batch_do_not_see_each_other():
    x, paths = images(4, 16), [[300, 200, 50, 1], [7], [], [40, 39]]
    together = Sampler(SCHEDULE).reverse(x, paths, shrink, generators(4))
    for b, rng in enumerate(generators(4)):
        alone = Sampler(SCHEDULE).reverse(x[[b]], [paths[b]], shrink, [rng])
        assert torch.equal(together[[b]], alone)


def test_an_empty_path_gives_the_input_back():
    x = images(2, 17)
    out = Sampler(SCHEDULE).reverse(x, [[], []], shrink, generators(2))
    assert torch.equal(out, x)
    assert out.data_ptr() != x.data_ptr()


def test_an_image_that_has_ended_is_not_computed_again():
    calls = []

    def restore(x_t: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        calls.append((rows.tolist(), t.tolist()))
        return shrink(x_t, t, rows)

    Sampler(SCHEDULE).reverse(images(3, 18), [[9, 5, 1], [2], [8, 3]], restore, generators(3))
    assert calls == [([0, 1, 2], [9, 2, 8]), ([0, 2], [5, 3]), ([0], [1])]


def test_the_input_is_left_alone():
    x = images(2, 19)
    before = x.clone()
    Sampler(SCHEDULE).reverse(x, [[5, 1], [3]], shrink, generators(2))
    assert torch.equal(x, before)


class Level(nn.Module):
    """An image that says √ᾱ of its step; it remembers how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        self.calls += 1
        return s.reshape(-1, 1, 1, 1).expand_as(x)


def chain(network, rule: str = "posterior", limits=(-9.0, 9.0), flips: int = 1) -> Chain:
    return Chain(network, Sampler(SCHEDULE, rule), limits, flips)


def test_a_chain_tells_the_network_the_level_of_the_step_and_returns_its_last_word():
    x, paths = images(2, 20).float(), [[300, 100], [700]]
    out, far = chain(Level()).run(x, paths, generators(2))
    expected = SCHEDULE.alpha_bar[[100, 700]].sqrt().float()
    assert torch.equal(out[:, 0, 0, 0], expected)
    assert far.isnan().all()


def test_a_chain_clamps_the_estimate_and_not_the_state():
    seen = []

    def passing(x: Tensor, s: Tensor) -> Tensor:
        seen.append(x)
        return 10 * x

    x = images(1, 21).float()
    out, _ = chain(passing, "mean", limits=(-0.5, 0.25)).run(x, [[500, 400]], generators(1))
    assert (out.min(), out.max()) == (-0.5, 0.25)
    assert torch.equal(seen[0], x)
    clamped = (10 * x).clamp(-0.5, 0.25)
    mean, _ = SCHEDULE.posterior(x, clamped, steps(500), steps(400))
    torch.testing.assert_close(seen[1], mean)


def test_a_chain_ends_where_the_estimate_is_too_far_and_returns_that_estimate():
    path, far_at = [300, 200, 100, 50, 1], {300: 0.1, 200: 0.2, 100: 0.3, 50: 0.4, 1: 0.5}
    by_level = {float(SCHEDULE.alpha_bar[t].sqrt().float()): far_at[t] for t in path}

    def distance(x0_hat: Tensor, rows: Tensor) -> Tensor:
        return torch.tensor([by_level[float(x)] for x in x0_hat[:, 0, 0, 0]])

    net = Level()
    x = torch.zeros(2, 1, 2, 2)
    out, far = chain(net).run(x, [path, path[2:]], generators(2), distance, stop=0.25)
    # the second image begins where the first one ends
    assert torch.equal(out[:, 0, 0, 0], SCHEDULE.alpha_bar[[100, 100]].sqrt().float())
    torch.testing.assert_close(
        far,
        torch.tensor([[0.1, 0.2, 0.3, math.nan, math.nan], [0.3, *[math.nan] * 4]]),
        equal_nan=True,
    )
    assert net.calls == 3


def test_a_distance_that_is_no_number_ends_the_chain():
    net = Level()
    x = torch.zeros(1, 1, 2, 2)
    _, far = chain(net).run(
        x, [[9, 5, 1]], generators(1), lambda out, rows: torch.full((len(rows),), math.nan)
    )
    assert net.calls == 1
    assert far.isnan().all()


def test_without_a_threshold_the_distance_is_watched_to_the_end():
    x = torch.zeros(1, 1, 2, 2)
    _, far = chain(Level()).run(
        x, [[9, 5, 1]], generators(1), lambda out, rows: 7 * out[:, 0, 0, 0]
    )
    torch.testing.assert_close(far[0], 7 * SCHEDULE.alpha_bar[[9, 5, 1]].sqrt().float())


@pytest.mark.parametrize("flips", [1, 4])
def test_a_chain_of_a_network_gives_an_image_the_same_result_in_any_batch(flips):
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 1, 3, padding=1)

    def scaled(x: Tensor, s: Tensor) -> Tensor:
        return s.reshape(-1, 1, 1, 1) * conv(x)

    x, paths = images(3, 22).float(), [[300, 200, 100, 1], [50, 20], []]
    with torch.no_grad():
        together, _ = chain(scaled, flips=flips).run(x, paths, generators(3))
        for b, rng in enumerate(generators(3)):
            alone, _ = chain(scaled, flips=flips).run(x[[b]], [paths[b]], [rng])
            # a convolution may sum in another order for another batch: single precision
            torch.testing.assert_close(together[[b]], alone, rtol=1e-5, atol=1e-6)


# ---- flips ---------------------------------------------------------------------------------------


def lopsided(x: Tensor) -> Tensor:
    """Anything that no flip leaves alone."""
    ramp = torch.arange(x.shape[-2] * x.shape[-1], dtype=x.dtype).reshape(x.shape[-2:])
    return (x * ramp).cumsum(-1).sin() + x.roll(1, -2)


@pytest.mark.parametrize("axes", [(-2,), (-1,), (-2, -1)])
def test_the_mean_over_four_flips_turns_with_the_image(axes):
    x = images(2, 23)
    turned = over_flips(lopsided, x.flip(axes), 4)
    torch.testing.assert_close(turned, over_flips(lopsided, x, 4).flip(axes), rtol=0, atol=1e-12)
    assert (lopsided(x.flip(axes)) - lopsided(x).flip(axes)).abs().max() > 0.1


def test_two_flips_are_none_and_the_vertical_one():
    x = images(1, 24)
    expected = (lopsided(x) + lopsided(x.flip(-2)).flip(-2)) / 2
    torch.testing.assert_close(over_flips(lopsided, x, 2), expected, rtol=0, atol=1e-12)
    assert torch.equal(over_flips(lopsided, x, 1), lopsided(x))


def test_what_turns_with_the_image_is_left_as_it_is():
    assert len(set(FLIPS)) == 4
    x = images(1, 25)
    torch.testing.assert_close(over_flips(torch.sin, x, 4), x.sin(), rtol=0, atol=1e-12)


# ---- paths ---------------------------------------------------------------------------------------


def test_the_published_run_walk_has_76_steps():
    path = run_walk(301, 10, 51)
    assert len(path) == 76
    assert path[:26] == list(range(301, 50, -10))
    assert path[26:] == list(range(50, 0, -1))


@pytest.mark.parametrize(
    ("start", "stride", "walk_from"),
    [(301, 10, 51), (300, 10, 51), (40, 10, 51), (51, 10, 51), (52, 10, 51), (9, 3, 1), (1, 10, 1)],
)
def test_a_run_walk_falls_from_start_to_1_and_walks_every_step(start, stride, walk_from):
    path = run_walk(start, stride, walk_from)
    falls = [a - b for a, b in pairwise(path)]
    assert (path[0], path[-1]) == (start, 1)
    assert all(0 < fall <= stride for fall in falls)
    walked = [t for t in path if t <= walk_from]
    assert walked == list(range(min(start, walk_from), 0, -1))


@pytest.mark.parametrize(("start", "n"), [(300, 5), (7, 3), (2, 2), (10, 1), (1000, 999), (1, 1)])
def test_an_even_path_falls_in_equal_steps(start, n):
    path = even_path(start, n)
    # 0 follows the last; rounding moves each by half a step at most
    falls = [a - b for a, b in zip(path, [*path[1:], 0], strict=True)]
    assert path[0] == start
    assert len(path) == n
    assert all(abs(fall - start / n) <= 1 for fall in falls)
    assert min(falls) > 0


def test_every_step_can_be_asked_for():
    assert even_path(6, 6) == [6, 5, 4, 3, 2, 1]


def test_from_the_end_of_the_chain_no_path_leads_on():
    assert even_path(0, 5) == []


# ---- slices that stand out -----------------------------------------------------------------------


def growth() -> np.ndarray:
    """Distances of 30 volumes x 8 slices: more in the middle slices, alike over the volumes."""
    rng = np.random.default_rng(2)
    last = np.linspace(0.5, 1.5, 8) * (1 + 0.01 * rng.standard_normal((30, 8)))
    return last[..., None] * np.linspace(0.2, 1, 6)


def test_volumes_alike_are_not_flagged():
    assert flagged(growth()).shape == (0, 2)


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_one_slice_that_changed_more_or_less_is_flagged(factor):
    planted = growth()
    planted[17, 3] *= factor
    assert flagged(planted).tolist() == [[17, 3]]


def test_only_the_last_step_decides_and_chains_may_be_of_any_length():
    uneven = growth()
    uneven[4, 5] *= 1.5
    for g in range(30):
        length = 2 + g % 4
        uneven[g, :, length - 1] = uneven[g, :, -1]
        uneven[g, :, length:] = np.nan
    uneven[7, 2, 0] *= 50  # on the way
    assert flagged(uneven).tolist() == [[4, 5]]


def test_an_empty_slice_is_not_flagged():
    empty = growth()
    empty[:, 0] = 0
    assert flagged(empty).shape == (0, 2)
