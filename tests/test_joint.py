"""Joint: its loss has the posterior mean for minimiser, for the scan's own noise and no other."""

from dataclasses import replace
from functools import partial

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from conftest import correlated, generator
from quell import noise as noise_model
from quell import prior
from quell.methods.joint import (
    PRIOR,
    UNTRAINED,
    Components,
    Joint,
    estimate,
    mean_of,
    with_voxels_on,
)
from quell.noise import LAGS, NoiseModel
from quell.record import referee, used
from quell.run import Run
from quell.series import InputError, Series
from quell.simulate import Phantom, corrupt, phantom
from quell.slices import Batch
from quell.trainer import Training

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
        return self.conv(image[:, 1:2])


def space(
    ev: list[float],
    guides: int = 1,
    noise: NoiseModel | None = None,
    size: int = 64,
    n_slices: int = 3,
) -> Components:
    """Components that are the volumes themselves, of an empty scan."""
    K, of = len(ev), noise or correlated(0, 0)
    empty = np.zeros((size, size, n_slices, K), np.float32)
    scan = Series(empty, np.eye(4), nib.Nifti1Header(), mask=np.ones(empty.shape[:3], bool))
    made = Components.of(scan, of, Joint(guides=guides, patch=size))
    own = {"mean": torch.zeros(K), "U": torch.eye(K), "ev": torch.tensor(ev)}
    return replace(made, **own)


def slab(y: Tensor) -> Tensor:
    """Patches (B, K, H, W) with the same beside them: (B, K, 3, H, W)."""
    return y[:, :, None].expand(-1, -1, 3, -1, -1).contiguous()


def batch_of(y: Tensor, mask: Tensor) -> Batch:
    return Batch(slab(y), mask, z=torch.ones(len(y), dtype=torch.long))


def minimise(joint: Joint, net: nn.Module, y: Tensor, ev: float, noise: NoiseModel) -> None:
    """Bring a net that is linear in its weights to the minimum of the method's own loss."""
    mask = torch.zeros(y[:, 0].shape)
    mask[:, 4:-4, 4:-4] = 1  # away from the border, where the filter meets padding
    known = space([ev], noise=noise.to_add(joint.noise))
    optimiser = torch.optim.LBFGS(net.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = joint.loss(net, batch_of(y, mask), known, generator(9))
        value.backward()
        return value

    optimiser.step(closure)


def test_the_prior_is_read_as_its_own_package_reads_it():
    read = prior.prior_of("joint")
    theirs = load_file(prior.PRIORS / "joint.safetensors")
    assert read.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(read[name], value.float())


# ---- the theorems --------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0])
def test_before_training_the_estimate_is_the_global_wiener_filter(tau):
    ev = torch.tensor([9.0, 2.0, 0.1])
    own, guides = torch.randn((2, 3, 3, 8, 8), generator=generator()).unbind()
    s_t, k = torch.full((3,), 1 + tau**2).sqrt(), torch.tensor([2, 0, 1])
    h = estimate(Silent(), own, guides[:, :1], k, s_t, space(ev.tolist()))
    gain = (ev / (ev + 1 + tau**2))[k, None, None]
    torch.testing.assert_close(h, gain * own[:, 1], rtol=1e-6, atol=1e-6)  # float32


def test_the_loss_is_that_of_corruption2self():
    ev, net = [9.0, 2.0, 0.1], Silent()
    x = torch.randn((1, 3, 16, 16), generator=generator())
    mask = (torch.rand((1, 16, 16), generator=generator(1)) < 0.5).float()
    known = space(ev, noise=correlated(0.3, 0.5), size=16)
    joint = Joint(components=3, patch=16, tau_min=0.7, tau_max=0.7)
    value = joint.loss(net, batch_of(x, mask), known, generator(2))
    s2 = 1 + 0.7**2
    log_r = net.condition[:, 0]  # what the network is told says which component it is
    k = [int(np.argmin(np.abs(np.log(np.array(ev) / s2) / 2 - float(one)))) for one in log_r]
    ev_k = torch.tensor(ev)[k, None, None]
    x_t, h = net.image[:, 1] * (ev_k + s2).sqrt(), net.image[:, 1] * ev_k / (ev_k + s2) ** 0.5
    gamma, delta = (s2 - 1) / s2, 1 / s2
    expected = mask * (gamma * h + delta * x_t - x[0, k]) ** 2 / gamma
    assert sorted(k[:3]) == [0, 1, 2]
    assert k[3:] == k[:3]  # once with z, once with -z
    middle = (x_t[:3] + x_t[3:]) / 2
    torch.testing.assert_close(middle, x[0, k[:3]], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(value, expected.sum() / (6 * mask.sum()), rtol=1e-4, atol=0)


def test_half_of_the_patches_are_turned_over_their_noise_with_them():
    net, joint, B = Silent(), Joint(components=1, patch=8, tau_min=0.5, tau_max=0.5), 200
    y = torch.tensor([0.0, 200.0, 400.0]).reshape(1, 1, 3, 1, 1).expand(B, 1, 3, 8, 8).clone()
    at = torch.full((B,), 2)  # the last slice: nothing is above it
    batch = Batch(y, torch.ones(B, 8, 8), z=at)
    joint.loss(net, batch, space([3.0], size=8), generator())
    x_t = net.image[:B, :3] * (3.0 + 1.25) ** 0.5
    is_turned = x_t[:, 0].mean(dim=(1, 2)) > 200
    assert 70 < is_turned.sum() < 130
    x_t[is_turned] = x_t[is_turned].flip(1)
    spread = (x_t - y[:, 0]).std(dim=(0, 2, 3))
    torch.testing.assert_close(spread, torch.tensor([0.5, 0.5, 0.0]), rtol=0.05, atol=1e-4)
    assert torch.equal(net.image[B:, 0].mean(dim=(1, 2)) > 90, is_turned)  # -z: the same way up


@pytest.mark.parametrize("tau", [0.3, 0.6, 1.0])
def test_on_a_scalar_gaussian_the_minimiser_is_the_wiener_gain(tau):
    y = (EV + 1) ** 0.5 * torch.randn(
        (64, 1, 64, 64), generator=generator(3)
    )  # noise of 1 is in it
    net, wrong = Filter(1), 0.5 * EV  # the first guess is wrong, the loss has to mend it
    joint, s2 = Joint(tau_min=tau, tau_max=tau), 1 + tau**2
    minimise(joint, net, y, wrong, correlated(0, 0))
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
    minimise(joint, net, EV**0.5 * clean + n, EV, noise)
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


def components(scan: Series, joint: Joint | None = None) -> Components:
    return Components.of(scan, correlated(0, 0), joint or Joint())


def test_the_rotation_is_orthonormal_so_white_noise_stays_white(small):
    U = components(in_sigmas(small, 60.0)).U.double()
    torch.testing.assert_close(
        U.T @ U, torch.eye(U.shape[1], dtype=torch.float64), rtol=0, atol=1e-6
    )


def test_there_and_back_keeps_the_mean_and_the_part_in_the_kept_components(small):
    scan = in_sigmas(small, 60.0)
    made = components(scan)
    x = np.moveaxis(made.slabs[:, :, 5, :, 1].numpy(), -1, 0)
    y = np.moveaxis(scan.data[:, :, 5], -1, 0)
    back = made.rotate_back(torch.from_numpy(x.copy())[None])[0]
    lost = torch.from_numpy(y.copy()) - back
    assert 0 < made.U.shape[1] < scan.n_volumes  # some were left out
    assert (made.U.T @ lost.flatten(1)).abs().max() < 1e-3  # float32 of values up to 40
    mean = torch.from_numpy(scan.data[scan.mask].mean(axis=0))
    torch.testing.assert_close(made.mean, mean, rtol=1e-5, atol=1e-3)


def test_components_are_kept_for_the_signal_they_hold(small):
    scan = in_sigmas(small, 60.0)
    more, fewer = (components(scan, Joint(least_signal=least)).ev for least in (0.5, 5.0))
    assert (more > 0.5).all()
    assert 1 <= len(fewer) < len(more)


def test_the_signal_variance_is_that_of_the_truth(small):
    scan = in_sigmas(small, 60.0)
    made = components(scan)
    clean = torch.from_numpy(small.clean.data[scan.mask] / np.float32(60))
    truth = ((clean - clean.mean(dim=0)) @ made.U).var(dim=0)
    strong = truth > 1  # weaker ones gather noise too: the largest of many
    torch.testing.assert_close(made.ev[strong], truth[strong], rtol=0.1, atol=0.1)


def test_a_component_is_not_among_its_own_guides():
    net, x = Silent(), 1 + torch.rand((1, 6, 3, 4, 4), generator=generator())
    k = torch.arange(6)
    estimate(net, x[0], x[:, :4, 1], k, torch.ones(6), space([5.0] * 6, guides=4))
    is_blank = (net.image[:, 3:] == 0).flatten(2).all(dim=2)
    assert torch.equal(is_blank, k[:, None] == torch.arange(4))


def test_two_volumes_are_enough():
    net, x = Silent(), torch.rand((1, 2, 3, 4, 4), generator=generator())
    k = torch.arange(2)
    h = estimate(net, x[0], x[:, :, 1], k, torch.ones(2), space([5.0, 1.0], guides=4))
    assert h.shape == (2, 4, 4)
    assert (net.image[:, 5:] == 0).all()  # guides that are not there


def test_a_scan_of_twice_the_signal_in_twice_the_noise_is_twice_the_result():
    """So one network serves all noise levels."""
    x = torch.randn((1, 2, 3, 4, 4), generator=generator())
    k = torch.arange(2)
    torch.manual_seed(0)
    net = nn.Conv2d(4, 1, 3, padding=1).requires_grad_(False)

    def h(x: Tensor, s_t: float, ev: list[float]) -> Tensor:
        def told(image: Tensor, condition: Tensor) -> Tensor:
            return net(image) + condition[:, :1, None, None]

        return estimate(told, x[0], x[:, :1, 1], k, torch.full((2,), s_t), space(ev))

    torch.testing.assert_close(2 * h(x, 1.0, [5.0, 1.0]), h(2 * x, 2.0, [20.0, 4.0]))


# ---- slabs ---------------------------------------------------------------------------------------


def test_a_slab_is_a_slice_between_its_neighbours_and_nothing_beyond_the_scan(small):
    made = components(in_sigmas(small, 60.0))
    slabs = made.slabs
    np.testing.assert_array_equal(slabs[:, :, 3, :, 0], slabs[:, :, 2, :, 1])
    np.testing.assert_array_equal(slabs[:, :, 3, :, 2], slabs[:, :, 4, :, 1])
    assert not slabs[:, :, 0, :, 0].any()
    assert not slabs[:, :, -1, :, 2].any()
    assert slabs.data_ptr() == made.x.data_ptr()  # a view: the scan is not held three times


def test_the_voxels_go_to_the_gpu_where_there_is_room(small, monkeypatch):
    spaces = [components(in_sigmas(small, 60.0))] * 2
    n_bytes = 2 * spaces[0].x.numel() * 4
    for free, is_moved in ((2 * n_bytes, True), (2 * n_bytes - 2, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, n=free: (n, n))
        there = with_voxels_on(torch.device("meta"), spaces)  # as if it were a GPU
        assert [space.x.is_meta for space in there] == [is_moved] * 2


def test_noise_of_a_slab_correlates_as_that_of_the_scan():
    own = correlated(0.3, 0.5)
    through = np.array([0.1, 0.4, 1, 0.4, 0.1])
    own = replace(own, covariance=own.covariance[:, :, LAGS[2], None] * through)
    made = space([3.0] * 8, noise=own, size=48, n_slices=9)
    slabs = torch.zeros(16, 8, 3, 48, 48)
    z = made.noise_like(slabs, torch.full((16,), 4), generator()).double()

    def mean(product: Tensor) -> float:
        return float(product.mean())

    i, j, k = LAGS
    assert mean(z[:, :, 1] ** 2) == pytest.approx(1, abs=0.02)
    assert mean(z[:, :, 0] * z[:, :, 1]) == pytest.approx(0.4, abs=0.02)
    assert mean(z[:, :, 0] * z[:, :, 2]) == pytest.approx(0.1, abs=0.02)
    for s in range(3):
        along_x = mean(z[:, :, s, 1:] * z[:, :, s, :-1])
        assert along_x == pytest.approx(own.covariance[i + 1, j, k], abs=0.02)
    assert made.told[4] == pytest.approx(0.4)


def test_no_noise_is_added_beyond_the_scan():
    made = space([3.0], size=16, n_slices=4)
    z = made.noise_like(torch.zeros(2, 1, 3, 16, 16), torch.tensor([0, 3]), generator())
    is_quiet = (z == 0).flatten(3).all(dim=3)[:, 0]
    assert is_quiet.tolist() == [[True, False, False], [False, False, True]]


# ---- trained -------------------------------------------------------------------------------------


def test_a_short_training_beats_the_noisy_scan_and_the_wiener_filter(small):
    scan, clean = in_sigmas(small, 100.0), small.clean.data / np.float32(100)
    noise = noise_model.learn(scan, scan.mask)
    joint, run = Joint(steps=80, channels=16, patch=32, patches=4), Run()
    untrained = {f"network.{name}": w for name, w in joint.network(run).state_dict().items()}

    def error(state: dict[str, Tensor]) -> float:
        out = joint.denoise(scan, noise, state, run)
        return float(((out - clean)[scan.mask] ** 2).mean())  # of the noisy scan: 1

    wiener, trained = error(untrained), error(joint.fit([scan], [noise], run))
    assert wiener < 0.6
    assert trained < 0.75 * wiener


def test_one_network_learns_from_scans_of_different_size_and_number_of_volumes(small):
    scan = in_sigmas(small, 100.0)
    other = replace(scan, data=scan.data[4:, :30, :7, :6], mask=scan.mask[4:, :30, :7])
    joint = Joint(steps=40, channels=16, patch=32, patches=2, start="scratch")
    noises = [correlated(0, 0)] * 2
    state = joint.fit([scan, other], noises, Run())
    for one, noise in zip((scan, other), noises, strict=True):
        kept = joint.denoise(one, noise, state, Run())
        assert kept.shape == one.data.shape
    truth = small.clean.data / np.float32(100)
    error = float(((joint.denoise(scan, noises[0], state, Run()) - truth)[scan.mask] ** 2).mean())
    assert error < 0.6


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


# ---- the prior -----------------------------------------------------------------------------------


def referee_of(run: Run) -> tuple[str, dict[str, float]]:
    """What was chosen, and the error of all that could be."""
    return used(run.kept), referee(run.kept)


def test_the_prior_as_it_is_beats_the_wiener_filter_by_the_truth_and_by_the_referee(small):
    scan, clean = in_sigmas(small, 100.0), small.clean.data / np.float32(100)
    noise = noise_model.learn(scan, scan.mask)
    instant, run = Joint(**Joint.presets["instant"]), Run()
    state = instant.fit([scan], [noise], run)
    chosen, errors = referee_of(run)
    assert chosen == PRIOR
    assert errors[PRIOR] < errors[UNTRAINED]
    untrained = {f"network.{name}": w for name, w in instant.network(run).state_dict().items()}
    wiener, known = (
        ((instant.denoise(scan, noise, state, run) - clean)[scan.mask] ** 2).mean()
        for state in (untrained, state)
    )
    assert known < 0.8 * wiener


def test_the_mean_over_flips_is_better_and_knows_no_left_and_right(small):
    scan, clean = in_sigmas(small, 100.0), small.clean.data / np.float32(100)
    noise = noise_model.learn(scan, scan.mask)
    state = {f"network.{name}": w for name, w in Joint().prior().items()}
    errors, turned = [], replace(scan, data=scan.data[::-1].copy(), mask=scan.mask[::-1].copy())
    for flips in (1, 2, 4):
        joint = Joint(flips=flips)
        out = joint.denoise(scan, noise, state, Run())
        errors.append(float(((out - clean)[scan.mask] ** 2).mean()))
    assert errors[2] < errors[1] < errors[0]
    back = joint.denoise(turned, noise, state, Run())[::-1]
    inside = scan.mask  # outside it, one pass has to do
    np.testing.assert_allclose(back[inside], out[inside], atol=0.05)  # bfloat16


def test_the_referee_ranks_weights_as_the_true_error_does(small):
    """Its value is the error against the truth at its noise level, but for a constant."""
    scan, clean = in_sigmas(small, 100.0), small.clean.data / np.float32(100)
    noise = noise_model.learn(scan, scan.mask)
    joint, run = Joint(), Run()
    space = Components.of(scan, noise, joint)
    known, net = joint.prior(), joint.network(run)
    untrained = {name: w.clone() for name, w in net.state_dict().items()}
    blends = {
        share: {name: untrained[name].lerp(known[name], share) for name in known}
        for share in (0.0, 0.5, 0.8, 1.0)
    }
    said = {share: mean_of(joint.losses(net, w, [space], run)) for share, w in blends.items()}
    true = {}
    for share, weights in blends.items():
        state = {f"network.{name}": w for name, w in weights.items()}
        true[share] = float(
            ((joint.denoise(scan, noise, state, run) - clean)[scan.mask] ** 2).mean()
        )
    assert sorted(said, key=said.get) == sorted(true, key=true.get)


def test_a_prior_that_does_not_fit_the_scan_is_not_used(small, monkeypatch):
    scan = in_sigmas(small, 100.0)
    noise = noise_model.learn(scan, scan.mask)
    wrong = {name: -3 * w for name, w in Joint().prior().items()}
    monkeypatch.setattr(Joint, "prior", lambda self: None if self.start == "scratch" else wrong)
    run, short = Run(), {"steps": 20, "patch": 16}
    again = Joint(**short).fit([scan], [noise], run)
    chosen, errors = referee_of(run)
    assert errors[PRIOR] > errors[UNTRAINED]
    assert chosen == "a network trained from scratch"
    scratch = Joint(**short, start="scratch").fit([scan], [noise], Run())
    assert all(torch.equal(scratch[name], again[name]) for name in scratch)


def test_a_training_that_does_harm_is_not_used(small, monkeypatch):
    scan = in_sigmas(small, 100.0)
    noise = noise_model.learn(scan, scan.mask)
    far_too_fast = partial(Training, learning_rate=10.0, muon_rate=10.0)
    monkeypatch.setattr("quell.methods.joint.Training", far_too_fast)
    run = Run()
    Joint(steps=5, patch=32).fit([scan], [noise], run)
    chosen, errors = referee_of(run)
    assert len(errors) == 3
    assert chosen == PRIOR


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"start": "prior", "channels": 48}, "other channels"),
        ({"start": "scratch", "steps": 0}, "learns nothing"),
        ({"start": "now"}, "auto, prior, scratch"),
        ({"steps": -1}, "0 or more"),
        ({"flips": 3}, "1, 2 or 4"),
    ],
)
def test_a_start_that_cannot_be_is_refused(settings, said):
    with pytest.raises(InputError, match=said) as refused:
        Joint(**settings)
    assert refused.value.status == 2


def test_the_card_of_the_prior_says_what_it_is():
    card = prior.card_of("joint")
    assert card["weights"] == sum(w.numel() for w in Joint().prior().values())
    assert "siemens-trio-dti20x2-dev" in card["never_seen"]
    assert all(scan["by"] for scan in card["learned_from"])
    assert not any("trio" in scan["scan"] for scan in card["learned_from"])
