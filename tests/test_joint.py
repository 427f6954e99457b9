"""Joint: its loss has the posterior mean for minimiser, for the scan's own noise and no other."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import correlated, generator
from quell import noise as noise_model
from quell.methods.joint import Components, Joint, estimate
from quell.noise import LAGS
from quell.run import Run
from quell.series import Series
from quell.simulate import Phantom, corrupt, phantom
from quell.slices import Batch

EV = 3.0  # signal variance where there is only one component


@pytest.fixture(scope="module")
def small() -> Phantom:
    return phantom("small")


class Silent(nn.Module):
    """The network before training; it remembers what it was shown."""

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        self.image, self.condition = image, condition
        return torch.zeros_like(image[:, :1])


class Filter(nn.Module):
    """A linear filter of the component alone, instead of the U-Net."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, size, padding=size // 2, bias=False)
        nn.init.zeros_(self.conv.weight)

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        return self.conv(image[:, :1])


def space(ev: list[float], guides: int = 1) -> Components:
    """Components that are the volumes themselves."""
    K = len(ev)
    rotation = {"mean": torch.zeros(K), "rotation": torch.eye(K)}
    return Components(rotation | {"signal_variance": torch.tensor(ev)}, guides)


def minimise(joint: Joint, net: nn.Module, y: Tensor, ev: float, root: Tensor) -> None:
    """Bring a net that is linear in its weights to the minimum of the method's own loss."""
    mask = torch.zeros(y[:, 0].shape)
    mask[:, 4:-4, 4:-4] = 1  # away from the border, where the filter meets padding
    optimiser = torch.optim.LBFGS(net.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = joint.loss(net, Batch(y, mask), space([ev]), root, generator(9))
        value.backward()
        return value

    optimiser.step(closure)


# ---- the theorems --------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0])
def test_before_training_the_estimate_is_the_global_wiener_filter(tau):
    ev = torch.tensor([9.0, 2.0, 0.1])
    x_t, s_t = torch.randn((2, 3, 8, 8), generator=generator()), torch.full((2,), 1 + tau**2).sqrt()
    i, k = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 1])
    h = estimate(Silent(), x_t, s_t, i, k, space(ev.tolist()))
    gain = (ev / (ev + 1 + tau**2))[k, None, None]
    torch.testing.assert_close(h, gain * x_t[i, k], rtol=1e-6, atol=1e-6)  # float32


def test_the_loss_is_that_of_corruption2self():
    ev, net = [9.0, 2.0, 0.1], Silent()
    x = torch.randn((1, 3, 16, 16), generator=generator())
    mask = (torch.rand((1, 16, 16), generator=generator(1)) < 0.5).float()
    root = correlated(0.3, 0.5).in_plane_filter((16, 16))
    value = Joint(components=3).loss(net, Batch(x, mask), space(ev), root, generator(2))
    log_s, log_ev = net.condition.T  # what the network saw tells tau, x_t and which component
    k = [int(np.argmin(np.abs(np.log(ev) / 2 - float(one)))) for one in log_ev]
    s2, ev_k = (2 * log_s).exp()[:, None, None], torch.tensor(ev)[k, None, None]
    x_t, h = net.image[:, 0] * (ev_k + s2).sqrt(), net.image[:, 0] * ev_k / (ev_k + s2).sqrt()
    gamma, delta = (s2 - 1) / s2, 1 / s2
    expected = mask * (gamma * h + delta * x_t - x[0, k]) ** 2 / gamma
    assert sorted(k) == [0, 1, 2]
    torch.testing.assert_close(value, expected.sum() / (3 * mask.sum()), rtol=1e-4, atol=0)


@pytest.mark.parametrize("tau", [0.3, 0.6, 1.0])
def test_on_a_scalar_gaussian_the_minimiser_is_the_wiener_gain(tau):
    y = (EV + 1) ** 0.5 * torch.randn(
        (64, 1, 64, 64), generator=generator(3)
    )  # noise of 1 is in it
    net, wrong = Filter(1), 0.5 * EV  # the first guess is wrong, the loss has to mend it
    joint, s2 = Joint(tau_min=tau, tau_max=tau), 1 + tau**2
    minimise(joint, net, y, wrong, correlated(0, 0).in_plane_filter((64, 64)))
    c = (wrong * s2 / (wrong + s2)) ** 0.5 / (wrong + s2) ** 0.5
    gain = wrong / (wrong + s2) + c * net.conv.weight.item()
    # 200 000 voxels, target of variance EV + 1 + 1/tau²: a standard error of 0.004 at tau = 0.3
    assert gain == pytest.approx(EV / (EV + s2), abs=0.012)


def response(net: Filter, wrong: float, s2: float, n: int) -> np.ndarray:
    """Gain of the whole estimate at each frequency of an n x n grid."""
    kernel = np.zeros((n, n))
    kernel[:7, :7] = net.conv.weight.detach()[0, 0].numpy()
    centred = np.roll(kernel, (-3, -3), axis=(0, 1))
    c = (wrong * s2 / (wrong + s2)) ** 0.5 / (wrong + s2) ** 0.5
    return wrong / (wrong + s2) + c * np.fft.fft2(centred).real


@pytest.mark.parametrize("kind", ["measured", "white"])
def test_on_correlated_noise_matched_noise_gives_the_wiener_filter_and_white_noise_a_wrong_one(
    kind,
):
    signal, noise, shape = correlated(0.5, -0.4), correlated(0.3, 0.5), (96, 1, 64, 64)
    roots = [model.in_plane_filter((64, 64)) for model in (signal, noise)]
    clean, n = (noise_model.draw(r, shape, generator(s)) for s, r in enumerate(roots))
    joint, net, tau = Joint(noise=kind, tau_min=0.8, tau_max=0.8), Filter(7), 0.8
    root = noise.to_add(joint.noise).in_plane_filter((64, 64))
    minimise(joint, net, EV**0.5 * clean + n, EV, root)
    S, N = (
        noise_model.power_spectrum(m.covariance[..., LAGS[2]], [32, 32]) for m in (signal, noise)
    )
    wiener = EV * S / (EV * S + (1 + tau**2) * N)
    error = response(net, EV, 1 + tau**2, 32) - wiener
    rms = float(np.sqrt(np.mean(error**2)))
    # 49 weights from 300 000 voxels: 0.01; the cut to 7 x 7 adds little. White noise: 0.35.
    assert rms < 0.02 if kind == "measured" else rms > 0.2


# ---- rotation ------------------------------------------------------------------------------------


def in_sigmas(small: Phantom, sigma: float, seed: int = 0) -> Series:
    """The small phantom with Gaussian noise, in units of its sigma."""
    y = corrupt(small.clean.data, sigma, np.random.default_rng(seed))
    return replace(small.clean, data=(y / np.float32(sigma)))


def test_the_rotation_is_orthonormal_so_white_noise_stays_white(small):
    U = Joint().rotation(in_sigmas(small, 60.0))["rotation"].double()
    torch.testing.assert_close(
        U.T @ U, torch.eye(U.shape[1], dtype=torch.float64), rtol=0, atol=1e-6
    )


def test_there_and_back_keeps_the_mean_and_the_part_in_the_kept_components(small):
    scan = in_sigmas(small, 60.0)
    state = Joint().rotation(scan)
    components = Components(state, 4)
    y = torch.from_numpy(np.moveaxis(scan.data[:, :, 5], -1, 0).copy())[None]
    back = components.rotate_back(components.rotate(y))
    lost = (y - back).flatten(2)[0]
    assert 0 < state["rotation"].shape[1] < scan.n_volumes  # some were left out
    assert (state["rotation"].T @ lost).abs().max() < 1e-3  # float32 of values up to 40
    twice = components.rotate_back(components.rotate(back))
    torch.testing.assert_close(twice, back, rtol=0, atol=1e-3)
    mean = torch.from_numpy(scan.data[scan.mask].mean(axis=0))
    torch.testing.assert_close(state["mean"], mean, rtol=1e-5, atol=1e-3)


def test_components_are_kept_for_the_signal_they_hold(small):
    state = Joint(least_signal=0.5).rotation(in_sigmas(small, 60.0))
    fewer = Joint(least_signal=5.0).rotation(in_sigmas(small, 60.0))
    assert (state["signal_variance"] > 0.5).all()
    assert 1 <= len(fewer["signal_variance"]) < len(state["signal_variance"])


def test_the_signal_variance_is_that_of_the_truth(small):
    scan = in_sigmas(small, 60.0)
    state = Joint().rotation(scan)
    clean = torch.from_numpy(small.clean.data[scan.mask] / np.float32(60))
    truth = ((clean - clean.mean(dim=0)) @ state["rotation"]).var(dim=0)
    strong = truth > 1  # weaker ones gather noise too: the largest of many
    torch.testing.assert_close(state["signal_variance"][strong], truth[strong], rtol=0.1, atol=0.1)


def test_a_component_is_not_among_its_own_guides():
    net, x = Silent(), 1 + torch.rand((1, 6, 4, 4), generator=generator())
    k = torch.arange(6)
    estimate(net, x, torch.ones(1), torch.zeros_like(k), k, space([5.0] * 6, guides=4))
    is_blank = (net.image[:, 1:] == 0).flatten(2).all(dim=2)
    assert torch.equal(is_blank, k[:, None] == torch.arange(4))


def test_two_volumes_are_enough():
    net, x = Silent(), torch.rand((1, 2, 4, 4), generator=generator())
    k = torch.arange(2)
    h = estimate(net, x, torch.ones(1), torch.zeros_like(k), k, space([5.0, 1.0], guides=4))
    assert h.shape == (2, 4, 4)
    assert (net.image[:, 3:] == 0).all()  # guides that are not there


# ---- trained -------------------------------------------------------------------------------------


def test_a_short_training_beats_the_noisy_scan_and_the_wiener_filter(small):
    scan, clean = in_sigmas(small, 100.0), small.clean.data / np.float32(100)
    noise = noise_model.learn(scan, scan.mask)
    joint, run = Joint(steps=80, channels=16, patch=32, patches=4), Run()
    before = joint.network(run.rng("network")).state_dict()
    untrained = joint.rotation(scan) | {f"network.{name}": value for name, value in before.items()}

    def error(state: dict[str, Tensor]) -> float:
        out = joint.denoise(scan, noise, state, run)
        return float(((out - clean)[scan.mask] ** 2).mean())  # of the noisy scan: 1

    wiener, trained = error(untrained), error(joint.fit([scan], [noise], run))
    assert wiener < 0.6
    assert trained < 0.75 * wiener  # measured 0.63


def test_white_and_measured_noise_train_different_networks(small):
    noisy = in_sigmas(small, 60.0)
    noise = replace(correlated(0.3, 0.5), sigma=np.ones(noisy.data.shape[:3], np.float32))
    tiny = {"steps": 3, "channels": 8, "patch": 16}
    a, b, c = (
        Joint(**tiny, noise=kind).fit([noisy], [n], Run())
        for kind, n in (("measured", noise), ("white", noise), ("measured", noise.as_white()))
    )
    assert not torch.equal(a["network.encoder.0.conv.weight"], b["network.encoder.0.conv.weight"])
    assert torch.equal(b["network.encoder.0.conv.weight"], c["network.encoder.0.conv.weight"])


def test_training_does_not_use_the_global_generator(small):
    noisy = in_sigmas(small, 60.0)
    joint, states = Joint(steps=2, channels=8, patch=16), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(joint.fit([noisy], [correlated(0, 0)], Run()))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
