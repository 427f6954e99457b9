"""Predictor: before training the best pixelwise guess; its networks come from the seed alone."""

import pytest
import torch
from torch import Tensor, nn

from quell import predictor
from quell.predictor import Predictor, network
from quell.run import Run
from quell.schedule import reverse_warmup
from quell.unet import UNet, UNetSettings

SMALL_SR3 = UNetSettings(8, (1, 2, 2), embedding=8, groups=8, is_sr3=True, attention=(1,))
SCHEDULE = reverse_warmup()


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Recorder(nn.Module):
    """Answers with a constant; remembers what it was shown."""

    def __init__(self, answer: float = 0.0) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        self.x, self.condition = x, condition
        return torch.full_like(x, self.answer)


def levels(*t: int) -> Tensor:
    return SCHEDULE.alpha_bar[list(t)].sqrt().float()


@pytest.fixture
def small_published(monkeypatch):
    monkeypatch.setattr(predictor, "PUBLISHED", SMALL_SR3)


# ---- the mixing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("centre", "spread"), [(0.0, 1.0), (-0.6, 0.3), (0.2, 0.02)])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_before_training_it_is_the_posterior_mean_of_gaussian_pixels(centre, spread, dimensions):
    F = Predictor(network("lean", 8, 1, 1, dimensions, Run(), "F"), centre, spread, True)
    s = levels(1, 20, 300, 500, 1000)
    x_t = image(5, 1, *[8] * dimensions)
    with torch.no_grad():
        x0_hat = F(x_t, s)
    s, x_t = s.double().reshape(-1, 1, *[1] * dimensions), x_t.double()
    precision = 1 / spread**2 + s**2 / (1 - s**2)
    expected = (centre / spread**2 + s * x_t / (1 - s**2)) / precision
    # 1 - s² holds four digits at step 1, where it decides little; for a spread of 0.02 more
    torch.testing.assert_close(x0_hat.double(), expected, rtol=1e-4, atol=1e-4)


def test_the_network_sees_unit_variance_at_every_level():
    unet, n = Recorder(), 40_000
    centre, spread, steps = -0.6, 0.3, [1, 300, 600, 1000]
    x0 = centre + spread * image(4, 1, n, 1)
    x_t = SCHEDULE.diffuse(x0, torch.tensor(steps), image(4, 1, n, 1, seed=1))
    Predictor(unet, centre, spread, True)(x_t, levels(*steps))
    torch.testing.assert_close(unet.x.std(dim=(1, 2, 3)), torch.ones(4), rtol=0.02, atol=0)
    assert unet.x.mean(dim=(1, 2, 3)).abs().max() < 0.02  # four standard errors


def test_what_the_network_has_to_say_is_of_unit_variance_too():
    centre, spread, steps = 0.1, 0.3, [1, 300, 600, 1000]
    x0 = centre + spread * image(4, 1, 40_000, 1, seed=2)
    x_t = SCHEDULE.diffuse(x0, torch.tensor(steps), image(4, 1, 40_000, 1, seed=3))
    s = levels(*steps)
    guess = Predictor(Recorder(0.0), centre, spread, True)(x_t, s)
    of_one = Predictor(Recorder(1.0), centre, spread, True)(x_t, s) - guess
    needed = (x0 - guess) / of_one
    torch.testing.assert_close(needed.std(dim=(1, 2, 3)), torch.ones(4), rtol=0.02, atol=0)


def test_the_network_is_told_the_logarithm_of_noise_over_signal():
    unet = Recorder()
    Predictor(unet, 0.0, 1.0, True)(image(3, 1, 4, 4), levels(1, 300, 1000))
    t = torch.tensor([1, 300, 1000])
    expected = (SCHEDULE.sigma(t) / SCHEDULE.alpha_bar[t].sqrt()).log()[:, None].float()
    torch.testing.assert_close(unet.condition, expected, rtol=0, atol=1e-3)  # 1 - s² of float32
    assert unet.condition.diff(dim=0).min() > 1  # well apart


def test_without_noise_the_image_passes():
    x = image(1, 1, 4, 4)
    out = Predictor(Recorder(1.0), 0.3, 0.5, True)(x, torch.ones(1))
    torch.testing.assert_close(out, x, rtol=0, atol=2e-4)


def test_as_published_image_and_level_are_handed_through():
    unet, x, s = Recorder(0.7), image(2, 1, 4, 4), levels(5, 300)
    out = Predictor(unet, 3.0, 2.0, False)(x, s)
    assert torch.equal(unet.x, x)
    assert torch.equal(unet.condition, s[:, None])
    assert torch.equal(out, torch.full_like(x, 0.7))


def test_centre_and_spread_are_kept_with_the_weights():
    saved = Predictor(network("lean", 8, 1, 1, 2, Run(), "F"), -0.25, 0.5, True).state_dict()
    fresh = Predictor(network("lean", 8, 1, 1, 2, Run(seed=1), "F"), 0.0, 1.0, True)
    fresh.load_state_dict(saved)
    assert (float(fresh.centre), float(fresh.spread)) == (-0.25, 0.5)


# ---- networks ------------------------------------------------------------------------------------


def weights(net: UNet) -> list[Tensor]:
    return [p.detach() for p in net.parameters()]


@pytest.mark.parametrize(("kind", "n_condition"), [("lean", 0), ("lean", 1), ("published", 0)])
def test_weights_come_from_the_seed_and_the_purpose(kind, n_condition, small_published):
    def made(seed: int, purpose: str) -> Tensor:
        net = network(kind, 8, 2, n_condition, 2, Run(seed), purpose)
        return torch.cat([w.flatten() for w in weights(net)])

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = made(0, "F")
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, made(0, "F"))
    assert not torch.equal(first, made(1, "F"))
    assert not torch.equal(first, made(0, "Phi"))


def test_the_published_noise_model_starts_as_torch_does(small_published):
    net = network("published", 48, 2, 0, 2, Run(), "Phi")
    flat = net.encoder[0].conv.weight.detach().flatten(1)
    assert (flat @ flat.T - torch.eye(8)).abs().max() > 0.1
    assert (net.encoder[0].conv.bias != 0).any()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_published_networks_have_the_published_size_whatever_channels_says(
    small_published, dimensions
):
    net = network("published", 48, 2, 0, dimensions, Run(), "Phi")
    assert net.encoder[0].conv.weight.shape == (8, 2, *[3] * dimensions)


def test_lean_networks_have_the_channels_asked_for():
    assert network("lean", 16, 3, 1, 2, Run(), "F").encoder[0].conv.weight.shape == (16, 3, 3, 3)
