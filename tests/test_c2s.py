"""Corruption2Self: its loss has E[X_g | X_t] for minimiser, and what follows from that.

Where a slope is asked for, the images are made orthogonal to the noise that the loss will draw:
every sample moment is then that of the theory, and a fit is exact to rounding.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from conftest import batch_of, correlated, few_images, generator
from quell.images import Images
from quell.methods import make
from quell.methods.c2s import Corruption2Self
from quell.noise import LAGS, NoiseModel, draw_like, power_spectrum
from quell.noise import draw as draw_noise
from quell.run import Run
from quell.scaling.magnitudes import mean_magnitude, quadrature, variance
from quell.scaling.stabiliser import tabulate
from quell.series import InputError, Series
from quell.simulate import corrupt

TINY = {"steps": 2, "channels": 8, "patches": 2, "patch": 16}
EV = 3.0  # signal variance where the image is made of Gaussian pixels
F64 = torch.float64


class Silent(nn.Module):
    """The network before training; it remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        self.seen.append((image, condition))
        return torch.zeros_like(image[:, :1])


class Gain(nn.Module):
    """A factor instead of the U-Net."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = a

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        return self.a * image[:, :1]


class Table(nn.Module):
    """Any function of one pixel, constant in narrow bins."""

    edges = torch.linspace(-2.5, 2.5, 41, dtype=F64)

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(len(self.edges) + 1, dtype=F64))

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        return self.values[torch.bucketize(image[:, :1].contiguous(), self.edges)]


class Filter(nn.Module):
    """A linear filter instead of the U-Net."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, size, padding=size // 2, bias=False)
        nn.init.zeros_(self.conv.weight)

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        return self.conv(image[:, :1])


class Answer(nn.Module):
    """Answers with what it was told to."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        return self.answer


def root(shape: tuple[int, int] = (64, 64), **correlation: float) -> Tensor:
    return correlated(**correlation).in_plane_filter(shape)


def pixels(total: float, n_beside: int = 0, mean: float = 0.0) -> Images:
    """Images of that variance, noise included; what is beside them has mean 0 and variance 1."""
    size = torch.ones(1, 1 + n_beside)
    size[0, 0] = total**0.5
    where = np.ones((64, 64, 1), bool)
    centre = torch.zeros(1, 1 + n_beside)
    centre[0, 0] = mean
    return Images(np.zeros((64, 64, 1, 1)), where, np.arange(1 + n_beside)[None], centre, size)


def at(tau: float, **settings) -> Corruption2Self:
    """The method with one noise level."""
    return Corruption2Self(tau="uniform", tau_min=tau, tau_max=tau, **settings)


def drawn(method: Corruption2Self, X: Tensor, filter_: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """tau and Z that the loss will draw for these images."""
    rng = generator(seed)
    tau = method.levels(len(X), rng)
    return tau[:, None, None, None].to(X), draw_like(X, filter_, rng)


def exact(method: Corruption2Self, signal: float, sigma: float = 1.0) -> tuple[Tensor, float]:
    """X = X_0 + noise with exact moments against the Z of seed 9, and the variance that Z has."""
    shape = (2, 1, 64, 64)
    _, Z = drawn(method, torch.zeros(shape, dtype=F64), root(), 9)
    parts = torch.cat(
        [Z.reshape(1, -1).double(), torch.randn((2, Z.numel()), generator=generator(7), dtype=F64)]
    )
    Q = torch.linalg.qr(parts.T).Q * Z.double().norm()
    X = signal**0.5 * Q[:, 1] + sigma * Q[:, 2]
    return X.reshape(shape), float((Z.double() ** 2).mean())


def fitted(method: Corruption2Self, X: Tensor, images: Images) -> tuple[float, float]:
    """Slope of the linear h with the least loss, and that loss, which is quadratic in it."""

    def loss(a: float) -> float:
        return float(method.loss(Gain(a), batch_of(X), images, root(), generator(9)))

    low, middle, high = loss(-1), loss(0), loss(1)
    a = (low - high) / (2 * (low + high - 2 * middle))
    s_t = torch.tensor([(1 + method.tau_min**2) ** 0.5], dtype=F64)
    one, g = torch.ones((1, 1, 1, 1), dtype=F64), torch.zeros(1, dtype=torch.long)
    h = images.estimate(Gain(a), one, one, s_t, g, method.target)
    return float(h), loss(a)


# ---- the theorem ---------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [0.0, 0.6, 0.95])
def test_gamma_and_delta_are_the_two_shares_of_tweedies_formula(target):
    tau = torch.tensor([0.05, 0.5, 1.0, 7.0], dtype=F64)
    gamma, _ = Corruption2Self(target=target).gamma_and_weight(tau)
    delta = (1 - target**2) / (1 + tau**2 - target**2)
    torch.testing.assert_close(gamma + delta, torch.ones(4, dtype=F64), rtol=1e-14, atol=0)


@pytest.mark.parametrize("target", [0.0, 0.6])
def test_without_added_noise_h_has_no_share_and_with_endless_noise_all(target):
    gamma, _ = Corruption2Self(target=target).gamma_and_weight(torch.tensor([1e-6, 1e6]).double())
    torch.testing.assert_close(gamma, torch.tensor([0.0, 1.0]).double(), rtol=0, atol=1e-11)


def test_a_target_as_noisy_as_the_scan_leaves_all_to_h():
    gamma, _ = Corruption2Self(target=1.0).gamma_and_weight(torch.tensor([0.1, 1.0, 3.0]))
    torch.testing.assert_close(gamma, torch.ones(3))


@pytest.mark.parametrize("target", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("weight", ["inverse-variance", "power"])
def test_the_residual_is_that_of_gamma_h_plus_delta_x_t_minus_x(target, weight):
    method = Corruption2Self(target=target, weight=weight, alpha=0.7)
    X = 2 * torch.randn((6, 1, 64, 64), generator=generator(1), dtype=F64)
    tau, Z = drawn(method, X, root(x=0.4), 2)
    images, net = pixels(4.0), Gain(0.3)
    s_t = (1 + tau.flatten() ** 2).sqrt()
    h = images.estimate(net, X + tau * Z, X, s_t, batch_of(X).group, target)
    gamma, w = method.gamma_and_weight(tau)
    expected = (w * (gamma * h + (1 - gamma) * (X + tau * Z) - X) ** 2).mean()
    value = method.loss(net, batch_of(X), images, root(x=0.4), generator(2))
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)  # tau, gamma in float32


@pytest.mark.parametrize("target", [0.0, 0.6])
def test_it_is_a_regression_on_the_image_with_noise_taken_off(target):
    method = Corruption2Self(target=target)
    X = 2 * torch.randn((6, 1, 64, 64), generator=generator(1), dtype=F64)
    tau, Z = drawn(method, X, root(), 2)
    images, net, s2 = pixels(4.0), Gain(0.3), 1 + tau**2
    h = images.estimate(net, X + tau * Z, X, s2.flatten().sqrt(), batch_of(X).group, target)
    gamma = tau**2 / (s2 - target**2)
    recorrupted = X - (1 - target**2) / tau * Z
    expected = (s2 / tau**2 * gamma**2 * (h - recorrupted) ** 2).mean()
    value = method.loss(net, batch_of(X), images, root(), generator(2))
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=0)  # tau, gamma in float32


@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("target", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("first_guess", [EV, 0.3 * EV])
def test_on_gaussian_pixels_the_best_linear_h_is_the_wiener_filter(tau, target, first_guess):
    method = at(tau, target=target)
    X, _ = exact(method, EV)
    slope, _ = fitted(method, X, pixels(1 + first_guess))
    assert slope == pytest.approx((EV + target**2) / (EV + 1 + tau**2), rel=1e-4)  # float32 tau


def test_on_pixels_of_two_kinds_the_best_h_is_the_posterior_mean():
    a, tau, target, shape = 2.0, 0.8, 0.6, (128, 1, 64, 64)
    method, images, net = at(tau, target=target), pixels(a**2 + 1), Table()
    X0 = a * (2.0 * (torch.rand(shape, generator=generator(3)) < 0.5) - 1)
    X = (X0 + torch.randn(shape, generator=generator(4))).double()
    _, Z = drawn(method, X, root(), 9)
    gradients = []
    for value in (0.0, 1.0):  # the loss is quadratic, and no two bins meet: one Newton step
        net.values.data.fill_(value)
        net.values.grad = None
        method.loss(net, batch_of(X), images, root(), generator(9)).backward()
        gradients.append(net.values.grad.clone())
    net.values.data = -gradients[0] / (gradients[1] - gradients[0])
    s2, X_t = 1 + tau**2, X + tau * Z
    h = images.estimate(net, X_t, X, torch.full((128,), s2**0.5), batch_of(X).group, target)
    x0 = a * torch.tanh(a * X_t / s2)
    error = (h - (x0 + target**2 / s2 * (X_t - x0))).flatten()  # from E[X_g | X_t]
    which = torch.bucketize((X_t / (a**2 + s2) ** 0.5).flatten().contiguous(), net.edges)
    n = torch.bincount(which, minlength=42)
    bias = (torch.bincount(which, error.detach(), minlength=42) / n)[n > 2000]
    share = (s2 - target**2) / s2
    spread = (
        share**2 * (s2 / tau**2 + a**2 - x0**2)
    ).flatten()  # variance of the target, X_t known
    z = bias / (torch.bincount(which, spread, minlength=42)[n > 2000] ** 0.5 / n[n > 2000])
    assert len(z) > 25
    assert z.abs().max() < 3.5


def test_leaving_noise_is_a_blend_of_the_result_and_the_image():
    target, tau = 0.7, 0.003
    X, _ = exact(at(tau), EV)
    clean, _ = fitted(at(tau), X, pixels(1 + EV))
    left, _ = fitted(at(tau, target=target), X, pixels(1 + EV))
    kappa = target**2
    assert left == pytest.approx((1 - kappa) * clean + kappa, abs=1e-4)


@pytest.mark.parametrize("sigma", [0.8, 1.0, 1.25])  # what the scan has; 1 is assumed
@pytest.mark.parametrize("tau", [0.003, 0.5, 2.0])
def test_a_wrong_sigma_over_or_undershoots(sigma, tau):
    X, _ = exact(at(tau), EV * sigma, sigma)  # any signal
    total = EV * sigma + sigma**2
    # the Z drawn has variance 1, the scan's noise sigma²
    slope, _ = fitted(at(tau), X, pixels(1 + EV))
    assert slope == pytest.approx(1 - (tau**2 + 1) / (total + tau**2), rel=2e-4, abs=2e-4)
    if tau < 0.01:
        right, rho = EV * sigma / total, 1 / sigma**2
        assert slope == pytest.approx(1 + rho * (right - 1), abs=2e-4)


@pytest.mark.parametrize("tau", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("target", [0.0, 0.6, 1.0])
def test_what_is_not_to_be_known_weighs_the_same_at_every_level(tau, target):
    method = at(tau, target=target)
    X, variance_of_Z = exact(method, 0.0)  # the clean image is 0: all that is left is noise
    _, least = fitted(method, X, pixels(1.5))
    assert least == pytest.approx(variance_of_Z, rel=1e-4)


# ---- noise like the scan's -----------------------------------------------------------------------


def response(method: Corruption2Self, net: Filter, images: Images, n: int) -> np.ndarray:
    """Gain of the whole h at each frequency of an n x n grid."""
    point = torch.zeros((1, 1, n, n))
    point[..., n // 2, n // 2] = 1
    s_t, g = torch.tensor([(1 + method.tau_min**2) ** 0.5]), torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        kernel = images.estimate(net, point, point, s_t, g)[0, 0].numpy()
    return np.fft.fft2(np.fft.ifftshift(kernel)).real


@pytest.mark.parametrize("kind", ["measured", "white"])
def test_only_noise_of_the_scans_own_covariance_leads_to_the_wiener_filter(kind):
    signal, noise, shape = correlated(0.5, -0.4), correlated(0.3, 0.5), (64, 1, 64, 64)
    fields = [
        draw_noise(m.in_plane_filter((64, 64)), shape, generator(s))
        for s, m in enumerate((signal, noise))
    ]
    X = EV**0.5 * fields[0] + fields[1]
    batch = batch_of(X)
    batch.mask[:, :4] = batch.mask[:, -4:] = batch.mask[..., :4] = batch.mask[..., -4:] = 0
    method, images, net = at(0.8, noise=kind), pixels(1 + EV), Filter(7)
    added = noise.to_add(method.noise).in_plane_filter((64, 64))
    optimiser = torch.optim.LBFGS(net.parameters(), max_iter=30, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = method.loss(net, batch, images, added, generator(9))
        value.backward()
        return value

    optimiser.step(closure)
    S, N = (power_spectrum(m.covariance[..., LAGS[2]], [32, 32]) for m in (signal, noise))
    wiener = EV * S / (EV * S + (1 + 0.8**2) * N)
    rms = float(np.sqrt(np.mean((response(method, net, images, 32) - wiener) ** 2)))
    # 49 weights from 200 000 voxels, cut to 7 x 7: 0.02; with white noise 0.35
    assert rms < 0.03 if kind == "measured" else rms > 0.2


# ---- magnitudes ----------------------------------------------------------------------------------


def variances(f, n_coils: float, theta: list[float]) -> np.ndarray:
    """Variance of f(m) of magnitudes of these signals."""
    signal = np.array(theta)
    magnitude, share = quadrature(signal, mean_magnitude(signal, n_coils), n_coils)
    value = f(magnitude)
    return (share * value**2).sum(axis=1) - (share * value).sum(axis=1) ** 2


def asymptotic(n_coils: float):
    """Foi's asymptote, for N coils."""
    return lambda m: np.sqrt(np.maximum(m**2 - (n_coils - 0.5), 0))


@pytest.mark.parametrize(
    ("n_coils", "raw", "stabilised"),
    [(1, (0.60, 0.84, 0.93, 0.98), (0.80, 0.99, 1.01, 1.00)),
     (4, (0.54, 0.65, 0.76, 0.89), (1.07, 1.09, 1.05, 1.01))],
)  # fmt: skip
def test_the_asymptotic_stabiliser_has_the_variances_that_are_known_of_it(n_coils, raw, stabilised):
    theta = [1.0, 2.0, 3.0, 5.0]
    # the table was measured, to two digits
    np.testing.assert_allclose(variances(lambda m: m, n_coils, theta), raw, atol=0.011)
    np.testing.assert_allclose(
        variances(asymptotic(n_coils), n_coils, theta), stabilised, atol=0.011
    )
    signal = np.array(theta)
    exact_ = variance(signal, mean_magnitude(signal, n_coils), n_coils)
    np.testing.assert_allclose(variances(lambda m: m, n_coils, theta), exact_, rtol=1e-9)


@pytest.mark.parametrize("n_coils", [1, 4])
def test_the_stabiliser_of_quell_is_nearer_to_one_than_the_asymptotic_one(n_coils):
    theta = np.linspace(0, 10, 101).tolist()
    own, known = (
        np.abs(variances(f, n_coils, theta) - 1).max()
        for f in (tabulate(float(n_coils)).apply, asymptotic(n_coils))
    )
    assert own < 0.6 * known


@pytest.mark.parametrize(("n_coils", "signal"), [(1, 1.6), (1, 8.0), (4, 1.6)])
def test_a_magnitude_corrupted_anew_as_a_magnitude_is_one_of_more_noise(n_coils, signal):
    law, tau, rng = "nc-chi" if n_coils > 1 else "rician", 0.8, np.random.default_rng(0)
    s_t = (1 + tau**2) ** 0.5
    m = corrupt(np.full((100, 100, 2, 1), signal, np.float32), 1.0, rng, law, n_coils)
    m_t = corrupt(m, tau, rng, law, n_coils).ravel()
    of_more = stats.ncx2(2 * n_coils, (signal / s_t) ** 2)
    assert stats.kstest((m_t / s_t) ** 2, of_more.cdf).pvalue > 0.01
    if signal < 2:  # real noise on a magnitude makes no magnitude
        plain = corrupt(m, tau, rng).ravel()
        apart = stats.kstest(np.sign(plain) * (plain / s_t) ** 2, of_more.cdf)
        assert apart.statistic > 0.04
        assert apart.pvalue < 1e-12


# ---- a reference that contains the input ---------------------------------------------------------


@pytest.mark.parametrize("K", [3, 6])
@pytest.mark.parametrize("is_inside", [True, False])
def test_a_reference_with_the_input_in_it_rewards_noise_that_is_left(K, is_inside):
    parts = torch.randn((400, K + 2), generator=generator(5), dtype=F64)
    Q = torch.linalg.qr(parts).Q * 20  # X_0 and the noise of K + 1 repetitions, exactly
    X0, noise = EV**0.5 * Q[:, 0], Q[:, 1:]
    X = (X0 + noise[:, 0])[None, None, None]
    averaged = noise[:, :K] if is_inside else noise[:, 1:]
    reference = (X0 + averaged.mean(dim=1))[None, None, None]
    kappas = torch.linspace(0, 1, 1001, dtype=F64)
    one, g = torch.ones(1), torch.zeros(1, dtype=torch.long)
    errors = [
        ((pixels(1 + EV).estimate(Silent(), X, X, one, g, k**0.5) - reference) ** 2).mean()
        for k in kappas.tolist()
    ]
    best = kappas[torch.stack(errors).argmin()]
    assert best == pytest.approx(1 / K if is_inside else 0, abs=1e-3)  # the step of the search


# ---- the network, its input and its loss ---------------------------------------------------------


@pytest.mark.parametrize("tau", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("target", [0.0, 0.6])
def test_before_training_h_is_the_wiener_filter_of_single_pixels(tau, target):
    X, g = 5 + torch.randn((1, 1, 8, 8), generator=generator()), torch.zeros(1, dtype=torch.long)
    s2 = 1 + tau**2
    net = Corruption2Self(channels=8).network(0, Run())
    with torch.no_grad():
        h = pixels(1 + EV, mean=5.0).estimate(net, X, X, torch.tensor([s2**0.5]), g, target)
    expected = 5 + (EV + target**2) / (EV + s2) * (X - 5)
    torch.testing.assert_close(h, expected, rtol=1e-6, atol=1e-5)


def test_a_volume_of_noise_alone_and_one_of_no_noise_stay_finite():
    X, g = torch.randn((1, 1, 8, 8), generator=generator()), torch.zeros(1, dtype=torch.long)
    for total in (1.0, 0.5, 1e-12, 1e12):
        h = pixels(total).estimate(Gain(1.0), X, X, torch.ones(1), g, 1.0)
        assert torch.isfinite(h).all()


def test_the_network_sees_unit_variance_and_is_told_level_and_signal():
    net, images, tau = Silent(), pixels(1 + EV, mean=5.0), 2.0
    X = 5 + (1 + EV) ** 0.5 * torch.randn((8, 1, 64, 64), generator=generator())
    at(tau).loss(net, batch_of(X), images, root(), generator(1))
    ((image, condition),) = net.seen
    assert image.mean().abs() < 0.02  # 33 000 pixels: a standard error of 0.006
    assert image.std() == pytest.approx(1, abs=0.02)
    expected = torch.tensor([np.log(1 + tau**2), np.log(EV)]).float() / 2
    torch.testing.assert_close(condition, expected.expand(8, 2))


def test_others_are_shown_as_they_are_whatever_is_added():
    net, y = Silent(), torch.randn((3, 4, 16, 16), generator=generator())
    for seed, tau in enumerate((0.1, 1.0, 3.0)):
        at(tau).loss(net, batch_of(y), pixels(1 + EV, 3), root((16, 16)), generator(seed))
    first, second, third = (image for image, _ in net.seen)
    torch.testing.assert_close(first[:, 1:], y[:, 1:])
    assert torch.equal(first[:, 1:], second[:, 1:])
    assert torch.equal(first[:, 1:], third[:, 1:])
    assert (first[:, 0] - second[:, 0]).abs().max() > 0.1


@pytest.mark.parametrize("target", [0.0, 0.6])
def test_there_is_no_loss_for_a_network_that_knows_what_was_added(target):
    method, images = Corruption2Self(target=target), pixels(1 + EV)
    X = 2 * torch.randn((4, 1, 64, 64), generator=generator(), dtype=F64)
    tau, Z = drawn(method, X, root(), 6)
    answer = X - (1 - target**2) / tau * Z
    X_t, s_t = X + tau * Z, (1 + tau.flatten() ** 2).sqrt()
    silent, one = (
        images.estimate(Answer(torch.full_like(X, f)), X_t, X, s_t, batch_of(X).group, target)
        for f in (0.0, 1.0)
    )
    net = Answer((answer - silent) / (one - silent))
    assert method.loss(net, batch_of(X), images, root(), generator(6)) < 1e-9
    assert method.loss(net, batch_of(X), images, root(), generator(7)) > 0.5


def test_only_the_mask_counts():
    X = torch.randn((2, 1, 16, 16), generator=generator())
    spoilt, batch = X.clone(), batch_of(X)
    spoilt[..., 8:] += 100
    mask = torch.ones(2, 16, 16)
    mask[..., 8:] = 0
    values = [
        at(0.5).loss(Silent(), replace(batch, y=y, mask=mask), pixels(4.0), root(), generator(1))
        for y in (X, spoilt)
    ]
    assert values[0] == values[1]


# ---- noise levels --------------------------------------------------------------------------------

# the distribution of tau where it is not cut off
OF_TAU = {
    "log-normal": stats.lognorm(0.8, scale=0.5).cdf,
    "uniform": stats.uniform(0.1, 2.9).cdf,
    "level": lambda tau: (np.sqrt(1 + tau**2) - 1) / (10**0.5 - 1),
}


@pytest.mark.parametrize("kind", OF_TAU)
def test_levels_have_their_distribution_one_in_each_nth_of_it(kind):
    tau = Corruption2Self(tau=kind).levels(1000, generator()).double().numpy()
    assert tau.min() >= (1e-3 if kind == "level" else 0.1 - 1e-7)
    assert tau.max() <= 3 + 1e-6
    inside = (tau > 0.101) & (tau < 2.999)
    place = OF_TAU[kind](tau[inside]) * 1000
    # float32 moves a value by far less than a hundredth of its part
    assert (np.abs(place - (np.arange(1000)[inside] + 0.5)) < 0.51).all()
    assert inside.sum() > 950


def test_a_batch_covers_all_levels_and_the_next_one_has_others():
    tau = torch.stack([Corruption2Self().levels(8, generator(seed)) for seed in range(50)])
    assert (tau.diff(dim=1) > 0).all()
    assert len(tau.unique()) > 350  # but for those cut off at the ends


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_the_weight_of_the_paper_is_a_power_of_the_level(alpha):
    tau = torch.tensor([0.1, 1.0, 5.0])
    _, weight = Corruption2Self(weight="power", alpha=alpha).gamma_and_weight(tau)
    torch.testing.assert_close(weight, (1 + tau**2) ** alpha)


# ---- scans ---------------------------------------------------------------------------------------

SIGMA = 150.0  # where the phantom's white matter is 750


@pytest.fixture(scope="module")
def clean() -> Series:
    return few_images(SIGMA)


@pytest.fixture(scope="module")
def scan(clean) -> Series:
    return replace(clean, data=corrupt(clean.data, 1.0, np.random.default_rng(0)))


def white(scan: Series) -> NoiseModel:
    return replace(correlated(), sigma=np.ones(scan.data.shape[:3], np.float32))


def untrained(method: Corruption2Self, n_beside: int = 0) -> dict[str, Tensor]:
    return {f"network.{k}": v for k, v in method.network(n_beside, Run()).state_dict().items()}


def awake(method: Corruption2Self, n_beside: int = 0) -> dict[str, Tensor]:
    """A network with something to say: nothing in it is zero."""
    rng = generator(8)
    return {
        name: value + 0.05 * torch.randn(value.shape, generator=rng)
        for name, value in untrained(method, n_beside).items()
    }


def denoised(method: Corruption2Self, scan: Series, state: dict[str, Tensor]) -> np.ndarray:
    return method.denoise(scan, white(scan), state, Run())


def test_a_short_training_takes_three_decibels_off(scan, clean):
    method = Corruption2Self(steps=60, channels=16, patches=4, patch=32)
    out = denoised(method, scan, method.fit([scan], [white(scan)], Run()))
    error, before = ((x - clean.data)[clean.mask] for x in (out, scan.data))
    first = denoised(method, scan, untrained(method))
    gain = 10 * np.log10((before**2).mean() / (error**2).mean())
    assert gain > 5  # 6.1 when this was written
    assert (error**2).mean() < 0.75 * ((first - clean.data)[clean.mask] ** 2).mean()


@pytest.mark.parametrize("target", [0.0, 0.6])
def test_untrained_it_is_the_wiener_filter_of_every_volume_with_its_mean(scan, target):
    out = denoised(method := Corruption2Self(**TINY, target=target), scan, untrained(method))
    inside = scan.data[scan.mask].astype(float)
    mean, total = inside.mean(axis=0), inside.var(axis=0)
    expected = mean + (total - 1 + target**2) / total * (scan.data - mean)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-4)


def test_one_image_is_enough(scan):
    lone = replace(scan, data=scan.data[:, :, :1, :1], mask=scan.mask[:, :, :1], bvals=None)
    method = Corruption2Self(**TINY)
    state = method.fit([lone], [white(lone)], Run())
    assert np.isfinite(denoised(method, lone, state)).all()


@pytest.mark.parametrize("recorruptions", [0, 2])
def test_the_result_does_not_depend_on_how_many_images_share_a_pass(scan, recorruptions):
    results = []
    for at_once in (1, 3, 8):
        method = Corruption2Self(**TINY, images_at_once=at_once, recorruptions=recorruptions)
        results.append(denoised(method, scan, awake(method)))
    # convolutions of other batches round in another order
    np.testing.assert_allclose(results[1], results[0], rtol=0, atol=2e-4)
    np.testing.assert_allclose(results[2], results[0], rtol=0, atol=2e-4)


def test_the_seed_decides_what_is_added(scan):
    method = Corruption2Self(**TINY, recorruptions=1)
    results = [method.denoise(scan, white(scan), awake(method), Run(seed=s)) for s in (0, 0, 1)]
    np.testing.assert_array_equal(results[0], results[1])
    assert np.abs(results[0] - results[2]).max() > 0.01


def test_recorruptions_are_averaged_so_their_own_noise_falls(scan):
    method = Corruption2Self(**TINY, recorruption_tau=0.4)
    inside = scan.data[scan.mask].astype(float)
    mean, total = inside.mean(axis=0), inside.var(axis=0)
    w = (total - 1) / (total + 0.4**2)
    for n in (1, 9):
        out = denoised(replace(method, recorruptions=n), scan, untrained(method))
        added = (out - (mean + w * (scan.data - mean))) / w
        # 1000 voxels of 5 volumes: a standard error of 1 %
        assert added[scan.mask].std() == pytest.approx(0.4 / n**0.5, rel=0.05)


@pytest.mark.parametrize("others", [0, 3])
def test_contrasts_are_shown_and_not_denoised(scan, others):
    shown = replace(scan, data=scan.data[..., 1:], bvals=scan.bvals[1:], bvecs=scan.bvecs[1:])
    shown = replace(shown, contrasts=3 * scan.data[..., :1])
    method = Corruption2Self(**TINY, others=others)
    state = awake(method, others + 1)
    out = denoised(method, shown, state)
    assert out.shape == shown.data.shape
    larger = denoised(method, replace(shown, contrasts=7 * shown.contrasts), state)
    np.testing.assert_allclose(larger, out, atol=1e-3)  # its units do not matter
    other = denoised(method, replace(shown, contrasts=shown.contrasts[::-1]), state)
    assert np.abs(other - out).max() > 0.01
    method.fit([shown], [white(shown)], Run())


def test_the_mean_of_each_volume_is_kept(scan):
    method = Corruption2Self(**TINY)
    out = denoised(method, scan, awake(method))
    kept, asked = (x[scan.mask].mean(axis=0, dtype=float) for x in (out, scan.data))
    np.testing.assert_allclose(kept, asked, atol=1e-4)


def test_one_network_learns_from_many_scans_each_with_its_own_noise(scan):
    method, double = Corruption2Self(**TINY | {"steps": 8}), replace(scan, data=2 * scan.data)
    state = method.fit([scan, double], [white(scan), correlated(x=0.5)], Run())
    other = method.fit([scan, double], [white(scan), white(scan)], Run())
    assert np.isfinite(denoised(method, double, state)).all()
    assert any(not torch.equal(state[name], other[name]) for name in state)


# ---- attention -----------------------------------------------------------------------------------


def attention_of(net: nn.Module) -> nn.Module:
    (attention,) = (layer for layer in net.encoder if hasattr(layer, "of_level"))
    return attention


def test_attention_starts_as_nothing_but_learns():
    net, x = Corruption2Self(**TINY, attention=True).network(0, Run()), torch.ones(2, 1, 16, 16)
    seen = []
    attention_of(net).register_forward_hook(lambda layer, given, out: seen.extend([given[0], out]))
    nn.init.ones_(net.leave.weight)
    net(
        x + torch.randn(x.shape, generator=generator()), torch.ones(2, 2)
    ).square().mean().backward()
    assert torch.equal(*seen)
    assert attention_of(net).leave.weight.grad.abs().max() > 0


def test_learned_attention_knows_the_noise_level():
    attention = attention_of(Corruption2Self(**TINY, attention=True).network(0, Run()))
    nn.init.normal_(attention.leave.weight, generator=generator())
    x, e = (torch.randn(shape, generator=generator()) for shape in ((1, 16, 4, 4), (1, 64)))
    with torch.no_grad():
        here, there = attention(x, e), attention(x, 2 * e)
    assert (here - there).abs().max() > 0.01


def test_attention_is_part_of_what_is_learned_and_denoises(scan):
    method = Corruption2Self(**TINY, attention=True)
    state = method.fit([scan], [white(scan)], Run())
    assert len(state) > len(untrained(Corruption2Self(**TINY)))
    assert np.isfinite(denoised(method, scan, state)).all()


# ---- settings ------------------------------------------------------------------------------------


def test_the_paper_preset_is_the_paper_as_far_as_it_was_published():
    method = make("c2s", "paper")
    assert method.tau == "uniform"
    assert method.tau_min <= 0.001  # from 0 on
    assert method.weight == "power"
    assert method.noise == "white"
    assert method.attention
    assert (method.others, method.target, method.recorruptions) == (0, 0, 0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tau": "cosine"}, "log-normal, uniform, level"),
        ({"weight": "none"}, "inverse-variance, power"),
        ({"noise": "pink"}, "measured, white"),
        ({"neighbours": "left"}, "directions"),
        ({"tau_min": 2.0, "tau_max": 1.0}, "tau_min"),
        ({"tau_min": 0.0}, "more than 0"),
        ({"target": 1.1}, "more noise than there is"),
        ({"target": -0.1}, "0 or more"),
        ({"average": 1.0}, "never moves"),
        ({"recorruptions": -1}, "0 or more"),
        ({"steps": 0}, "more than 0"),
        ({"channels": 12}, "multiple of 8"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_words(settings, words):
    with pytest.raises(InputError, match=words) as refusal:
        make("c2s", **settings)
    assert refusal.value.status == 2
