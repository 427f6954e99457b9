"""The schedule: tables as published, x_t as its formula says, the step back as Bayes' rule says."""

import pytest
import torch

from quell.schedule import Schedule, linear, reverse_warmup

SCHEDULES = {"linear": linear(), "reverse_warmup": reverse_warmup()}
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
F64 = torch.float64


def images(n: int, seed: int, dtype: torch.dtype = F64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((n, 1, 3, 5), generator=generator, dtype=F64).to(dtype)


@each_schedule
def test_the_tables_start_without_noise_and_lose_signal_at_every_step(schedule):
    assert schedule.T == 1000
    assert len(schedule.betas) == len(schedule.alpha_bar) == 1001
    assert schedule.betas[0] == 0
    assert schedule.alpha_bar[0] == 1
    assert (schedule.alpha_bar.diff() < 0).all()
    assert schedule.alpha_bar[-1] > 0


def test_reverse_warmup_stays_level_for_300_steps_and_then_rises_to_the_end():
    betas = reverse_warmup().betas[1:]
    assert (betas[:301] == 5e-5).all()  # the rise starts at the level itself
    assert betas[301] > 5e-5
    assert betas[-1] == pytest.approx(1e-2, rel=1e-12)
    torch.testing.assert_close(betas[300:].diff(2), torch.zeros(698, dtype=F64), atol=1e-15, rtol=0)


def test_reverse_warmup_gives_the_noise_levels_of_ddm2():
    t = torch.tensor([1, 5, 50, 100, 200, 300, 400, 500, 1000])
    sigma_t = (1 - reverse_warmup().alpha_bar[t]).sqrt()
    expected = [0.0071, 0.0158, 0.0500, 0.0706, 0.0998, 0.1220, 0.294, 0.515, 0.985]
    torch.testing.assert_close(sigma_t, torch.tensor(expected, dtype=F64), atol=6e-4, rtol=0)


def test_linear_ends_where_ddpm_does():
    schedule = linear()
    assert schedule.betas[1] == pytest.approx(1e-4)
    assert schedule.betas[1000] == pytest.approx(2e-2)
    assert schedule.alpha_bar[1000] == pytest.approx(4.04e-5, rel=0.01)  # nearly all noise


@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_the_share_of_rising_steps_may_be_none_or_all(warmup):
    betas = reverse_warmup(T=10, warmup=warmup).betas[1:]
    assert len(betas) == 10
    assert betas[-1] == pytest.approx(1e-2 if warmup else 5e-5)


@each_schedule
def test_x_t_has_the_mean_and_the_variance_of_its_step(schedule):
    n, t = 400_000, 350
    eps = torch.randn((1, 1, n, 1), generator=torch.Generator().manual_seed(0), dtype=F64)
    x_t = schedule.diffuse(torch.full_like(eps, 3.0), torch.tensor([t]), eps)
    alpha_bar = schedule.alpha_bar[t].item()
    assert x_t.mean().item() == pytest.approx(3 * alpha_bar**0.5, abs=0.006)  # 4 standard errors
    assert x_t.var().item() == pytest.approx(1 - alpha_bar, rel=0.01)


@each_schedule
def test_at_step_0_there_is_no_noise(schedule):
    x0 = images(2, 0)
    torch.testing.assert_close(schedule.diffuse(x0, torch.zeros(2, dtype=int), images(2, 1)), x0)


@each_schedule
def test_one_step_after_another_adds_up_to_alpha_bar(schedule):
    signal, noise = torch.ones((), dtype=F64), torch.zeros((), dtype=F64)
    for beta in schedule.betas[1:]:  # x_t = √(1-β) x_{t-1} + √β ε
        signal, noise = (1 - beta).sqrt() * signal, (1 - beta) * noise + beta
    torch.testing.assert_close(signal**2, schedule.alpha_bar[-1])
    torch.testing.assert_close(noise, 1 - schedule.alpha_bar[-1])


@each_schedule
@pytest.mark.parametrize("t", [2, 3, 250, 301, 999, 1000])
def test_the_posterior_is_bayes_rule_for_two_gaussians(schedule, t):
    x0, x_t = images(2, 2), images(2, 3)
    beta, before = schedule.betas[t], schedule.alpha_bar[t - 1]
    # prior x_{t-1} ~ N(√ᾱ_{t-1} x0, 1-ᾱ_{t-1}); likelihood x_t ~ N(√(1-β) x_{t-1}, β)
    precision = 1 / (1 - before) + (1 - beta) / beta
    expected = (before.sqrt() * x0 / (1 - before) + (1 - beta).sqrt() * x_t / beta) / precision
    mean, variance = schedule.posterior(x_t, x0, torch.tensor([t, t]))
    torch.testing.assert_close(mean, expected, atol=1e-12, rtol=1e-12)
    assert variance.flatten().tolist() == pytest.approx([1 / precision.item()] * 2, rel=1e-10)


@each_schedule
def test_the_last_step_returns_the_estimate_and_adds_nothing(schedule):
    x0_hat = images(2, 4)
    mean, variance = schedule.posterior(images(2, 5), x0_hat, torch.tensor([1, 1]))
    torch.testing.assert_close(mean, x0_hat, atol=1e-12, rtol=0)
    assert (variance == 0).all()


def test_every_image_of_a_batch_has_its_own_step():
    schedule, x0, eps, t = reverse_warmup(), images(3, 6), images(3, 7), torch.tensor([1, 400, 900])
    x_t = schedule.diffuse(x0, t, eps)
    mean, variance = schedule.posterior(x_t, x0, t)
    assert variance.shape == (3, 1, 1, 1)
    for i in range(3):
        alone = slice(i, i + 1)
        assert torch.equal(x_t[alone], schedule.diffuse(x0[alone], t[alone], eps[alone]))
        assert torch.equal(mean[alone], schedule.posterior(x_t[alone], x0[alone], t[alone])[0])


def test_results_have_the_type_of_the_images_and_their_precision():
    schedule, t = reverse_warmup(), torch.tensor([1, 700])
    x0, eps = images(2, 8), images(2, 9)
    single = schedule.diffuse(x0.float(), t, eps.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), schedule.diffuse(x0, t, eps), atol=1e-6, rtol=1e-6)


@each_schedule
@pytest.mark.parametrize(("t", "s"), [(3, 1), (11, 1), (61, 51), (301, 291), (700, 299), (1000, 1)])
def test_a_jump_is_bayes_rule_for_two_gaussians(schedule, t, s):
    x0, x_t = images(2, 11), images(2, 12)
    kept = (1 - schedule.betas[s + 1 : t + 1]).prod()  # of x_s, as its share of the variance
    before = (1 - schedule.betas[1 : s + 1]).prod()
    # prior x_s ~ N(√ᾱ_s x0, 1-ᾱ_s); likelihood x_t ~ N(√kept x_s, 1-kept)
    precision = 1 / (1 - before) + kept / (1 - kept)
    expected = (before.sqrt() * x0 / (1 - before) + kept.sqrt() * x_t / (1 - kept)) / precision
    mean, variance = schedule.posterior(x_t, x0, torch.tensor([t, t]), torch.tensor([s, s]))
    torch.testing.assert_close(mean, expected, atol=1e-11, rtol=1e-11)
    assert variance.flatten().tolist() == pytest.approx([1 / precision.item()] * 2, rel=1e-10)


@each_schedule
@pytest.mark.parametrize(("t", "u", "s"), [(3, 2, 1), (300, 299, 10), (1000, 400, 300), (9, 5, 0)])
def test_two_jumps_add_up_to_one(schedule, t, u, s):
    x0, x_t = images(1, 13), images(1, 14)
    t, u, s = (torch.tensor([step]) for step in (t, u, s))
    middle, first = schedule.posterior(x_t, x0, t, u)
    mean, second = schedule.posterior(middle, x0, u, s)
    once_mean, once = schedule.posterior(x_t, x0, t, s)
    of_x_u = schedule.posterior_weights(u, s)[1]
    torch.testing.assert_close(mean, once_mean, atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(second + of_x_u**2 * first, once, atol=1e-15, rtol=1e-10)


@each_schedule
def test_a_jump_along_the_way_of_an_image_stays_on_it(schedule):
    t, s = torch.tensor([1, 40, 300, 1000]), torch.tensor([0, 39, 20, 500])
    of_x0, of_x_t = schedule.posterior_weights(t, s)
    # without noise x_t = √ᾱ_t x0, and then x_s = √ᾱ_s x0
    along = of_x0 + of_x_t * schedule.alpha_bar[t].sqrt()
    torch.testing.assert_close(along, schedule.alpha_bar[s].sqrt(), atol=0, rtol=1e-12)


@pytest.mark.parametrize("jump", [1, 10, 100])
def test_while_beta_is_constant_the_chain_is_a_running_mean(jump):
    t = torch.arange(jump, 301)
    of_x0, of_x_t = reverse_warmup().posterior_weights(t, t - jump)
    t = t.double()
    # the first order in beta t = 0.015 cancels; the second, (beta t)² / 24, is 1e-5
    torch.testing.assert_close(of_x0, jump / t, atol=0, rtol=2e-5)
    torch.testing.assert_close(of_x_t, (t - jump) / t, atol=0, rtol=2e-5)
    torch.testing.assert_close(of_x0 + of_x_t, torch.ones_like(t), atol=2e-5, rtol=0)


@each_schedule
def test_the_weights_are_the_mean_and_one_step_back_is_meant_where_none_is_named(schedule):
    x0, x_t, t = images(1, 15), images(1, 16), torch.tensor([250])
    of_x0, of_x_t = schedule.posterior_weights(t)
    mean, variance = schedule.posterior(x_t, x0, t)
    torch.testing.assert_close(mean, of_x0 * x0 + of_x_t * x_t)
    again = schedule.posterior(x_t, x0, t, t - 1)
    assert torch.equal(mean, again[0])
    assert torch.equal(variance, again[1])


@each_schedule
@pytest.mark.parametrize("t", [1, 7, 1000])
def test_a_jump_to_the_image_returns_the_estimate_and_adds_nothing(schedule, t):
    x0_hat = images(1, 17)
    mean, variance = schedule.posterior(images(1, 18), x0_hat, torch.tensor([t]), torch.tensor([0]))
    torch.testing.assert_close(mean, x0_hat, atol=1e-12, rtol=0)
    assert (variance == 0).all()


@each_schedule
def test_sigma_is_the_noise_of_a_step(schedule):
    t = torch.tensor([[0, 1], [300, 1000]])
    torch.testing.assert_close(
        schedule.sigma(t) ** 2 + schedule.alpha_bar[t], torch.ones(2, 2).to(F64)
    )
    assert schedule.sigma(t)[0, 0] == 0


@pytest.mark.parametrize(("t", "s"), [(5, 5), (5, 6), (5, -1), (0, -1)])
def test_a_jump_that_does_not_lead_back_is_refused(t, s):
    schedule, x = reverse_warmup(T=10), images(1, 19)
    with pytest.raises(ValueError, match="back"):
        schedule.posterior(x, x, torch.tensor([t]), torch.tensor([s]))


def test_volumes_are_diffused_as_slices_are():
    schedule, t, s = reverse_warmup(), torch.tensor([300, 20]), torch.tensor([7, 3])
    x0, eps = images(2, 20), images(2, 21)
    deep = [schedule.diffuse(x0[..., None], t, eps[..., None])]
    deep += schedule.posterior(eps[..., None], x0[..., None], t, s)
    flat = [schedule.diffuse(x0, t, eps), *schedule.posterior(eps, x0, t, s)]
    for a, b in zip(deep, flat, strict=True):
        assert torch.equal(a[..., 0], b)


@pytest.mark.parametrize("betas", [[], [0.0], [0.1, 0.2], [0.0, 0.0], [0.0, 1.0], [0.0, -0.1]])
def test_betas_that_make_no_schedule_are_refused(betas):
    with pytest.raises(ValueError, match="beta"):
        Schedule(torch.tensor(betas, dtype=F64))


def test_a_step_outside_the_schedule_is_refused():
    schedule, x = reverse_warmup(T=10), images(1, 10)
    with pytest.raises(ValueError, match="no step leads back"):
        schedule.posterior(x, x, torch.tensor([0]))
    with pytest.raises(ValueError, match="from the end of the schedule"):
        schedule.diffuse(x, torch.tensor([-1]), x)
    with pytest.raises(IndexError):
        schedule.diffuse(x, torch.tensor([11]), x)
