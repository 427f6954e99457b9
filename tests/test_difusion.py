"""Di-Fusion: fusion, noise and stopping as their formulas say, and what the result depends on.

The scan is a piece of the small phantom with Gaussian noise, in units of its sigma. Where a
network's answer matters, its last convolution is zero: it then says what pixels of a given centre
and spread are likely to be, so that a huge spread hands the image through and none is a constant.
"""

from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import generator
from quell.consistency import consistent, keep_means
from quell.intensities import Intensities
from quell.methods import difusion, make
from quell.methods.difusion import DiFusion, brain_weight
from quell.noise import LAGS, NoiseModel
from quell.run import Run
from quell.schedule import reverse_warmup
from quell.series import InputError, Series, shells
from quell.simulate import corrupt, phantom
from quell.slices import Batch

TINY = {"steps": 3, "channels": 8, "patches": 2, "patch": 16, "partners": 4, "latter": 301}
SHORT = {"stride": 100, "walk_from": 1}  # steps 301, 201, 101 and 1
SIGMA = 40.0  # of the noise, where the phantom's white matter is 750
SCHEDULE = reverse_warmup()
F64 = torch.float64


@pytest.fixture(scope="module")
def scan() -> Series:
    """16 x 18 x 3 voxels, 2 b0 and 12 directions, noise 1."""
    clean = phantom("small").clean
    piece = clean.data[8:24, 9:27, 4:7] / np.float32(SIGMA)
    noisy = corrupt(piece, 1.0, np.random.default_rng(0))
    return replace(clean, data=noisy, mask=clean.mask[8:24, 9:27, 4:7].copy())


@pytest.fixture(scope="module")
def fitted(scan) -> dict[str, Tensor]:
    """What four mean partners and a tiny network make."""
    return DiFusion(**TINY, mix="mean").fit([scan], [white(scan)], Run())


def white(scan: Series, sigma: float = 1.0) -> NoiseModel:
    covariance = np.zeros([2 * lag + 1 for lag in LAGS])
    covariance[LAGS] = 1
    map_ = np.full(scan.data.shape[:3], sigma, np.float32)
    return NoiseModel(map_, covariance, "gaussian", 1.0, "", 1, np.ones(1))


def with_spread(state: dict[str, Tensor], spread: float, centre: float = 0.0) -> dict[str, Tensor]:
    """The state whose network says what pixels of that centre and spread are likely to be."""
    said = {n: torch.zeros_like(v) if ".leave." in n else v for n, v in state.items()}
    return said | {"F.centre": torch.tensor(centre), "F.spread": torch.tensor(spread)}


def denoised(method: DiFusion, scan: Series, state: dict[str, Tensor], run: Run | None = None):
    return method.denoise(scan, white(scan), state, run or Run())


def images(n: int, seed: int, size: int = 8) -> Tensor:
    return torch.randn((n, 1, size, size), generator=generator(seed), dtype=F64)


# ---- fusion --------------------------------------------------------------------------------------

# t as the program counts it, from 0: lambda_1, lambda_2
TABLE = {
    1: (0.5000, 0.5000),
    5: (0.1667, 0.8333),
    10: (0.0909, 0.9091),
    50: (0.0196, 0.9804),
    100: (0.0099, 0.9901),
    200: (0.0050, 0.9950),
    300: (0.0033, 0.9967),
    500: (0.0093, 0.9906),
    700: (0.0046, 0.9946),
    999: (0.0018, 0.9947),
}


def fused(fusion: str, t: int) -> tuple[float, float]:
    """Weights of x and of x'."""
    one, zero, t = torch.ones((1, 1, 1, 1), dtype=F64), torch.zeros((1, 1, 1, 1)), torch.tensor([t])
    method = DiFusion(fusion=fusion)
    return (
        float(method.fuse(one, zero.double(), t, SCHEDULE)),
        float(method.fuse(zero.double(), one, t, SCHEDULE)),
    )


@pytest.mark.parametrize("t", TABLE)
def test_fusion_has_the_published_weights(t):
    assert fused("posterior", t + 1) == pytest.approx(TABLE[t], abs=6e-5)


def test_at_the_end_of_the_chain_fusion_is_the_volume_itself():
    assert fused("posterior", 1) == pytest.approx((1, 0), abs=1e-12)


def test_while_beta_is_constant_fusion_is_one_share_in_t():
    weights = [fused("posterior", t)[0] for t in range(2, 301)]
    assert weights == pytest.approx([1 / t for t in range(2, 301)], rel=2e-5)
    assert np.mean(weights) == pytest.approx(0.0177, abs=5e-5)  # so little of x is ever shown


def test_without_fusion_the_partner_stands_for_both():
    x, partner = images(2, 0), images(2, 1)
    assert torch.equal(
        DiFusion(fusion="none").fuse(x, partner, torch.tensor([9, 9]), SCHEDULE), partner
    )


def test_linear_fusion_goes_straight_from_one_to_the_other():
    assert fused("linear", 0) == (1, 0)
    assert fused("linear", 1000) == (0, 1)
    assert fused("linear", 250) == pytest.approx((0.75, 0.25))


# ---- noise ---------------------------------------------------------------------------------------


def diffused(method: DiFusion, t: int, seed: int = 4):
    """x, x', x_t, s, and xi as x_t holds it."""
    x, partner, steps = images(3, 2), images(3, 3), torch.full((3,), t)
    x_t, s = method.diffuse(x, partner, steps, SCHEDULE, generator(seed))
    a, b = (v.reshape(-1, 1, 1, 1).double() for v in (s, (1 - s**2).sqrt()))
    return x, partner, s, (x_t - a * method.fuse(x, partner, steps, SCHEDULE)) / b


@pytest.mark.parametrize("fusion", ["posterior", "none", "linear"])
def test_the_noise_has_the_values_of_the_difference_and_mean_zero(fusion):
    x, partner, _, xi = diffused(DiFusion(fusion=fusion), 300)
    difference = x - partner
    centred = difference - difference.mean(dim=(1, 2, 3), keepdim=True)
    assert xi.mean(dim=(1, 2, 3)).abs().max() < 1e-10
    values, expected = (a.flatten(1).sort().values for a in (xi, centred))
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-10)
    assert (xi - centred).abs().max() > 0.1


def test_all_images_of_a_batch_are_shuffled_in_one_order():
    x, partner, _, xi = diffused(DiFusion(), 300)
    difference = (x - partner).flatten(1)
    centred = difference - difference.mean(dim=1, keepdim=True)
    orders = [
        torch.cdist(a[:, None], b[:, None]).argmin(dim=1)
        for a, b in zip(xi.flatten(1), centred, strict=True)
    ]
    assert torch.equal(orders[0], orders[1])
    assert torch.equal(orders[0], orders[2])
    assert torch.equal(orders[0].sort().values, torch.arange(64))


@pytest.mark.parametrize("t", [2, 300])
def test_the_level_is_drawn_between_two_steps_for_every_image(t):
    _, _, s, _ = diffused(DiFusion(), t)
    low, high = SCHEDULE.alpha_bar[t].sqrt(), SCHEDULE.alpha_bar[t - 1].sqrt()
    assert ((s >= low - 1e-7) & (s <= high + 1e-7)).all()  # single precision
    assert len(set(s.tolist())) == 3


class Recorder:
    """Answers with a fixed image; remembers the levels it was told."""

    def __init__(self, answer: Tensor) -> None:
        self.answer, self.s = answer, []

    def __call__(self, x_t: Tensor, s: Tensor) -> Tensor:
        self.s.append(s)
        return self.answer


def test_the_aim_is_the_noisy_volume_in_the_mask():
    batch = Batch(torch.cat([images(3, 5), images(3, 6)], dim=1), torch.ones(3, 8, 8).double())
    off = batch.y[:, :1].clone()
    off[..., 0] += 5
    assert DiFusion().loss(Recorder(batch.y[:, :1]), batch, SCHEDULE, generator()) == 0
    loss = DiFusion().loss(Recorder(off), batch, SCHEDULE, generator())
    assert loss == pytest.approx(25 / 8)
    batch.mask[..., 0] = 0
    assert DiFusion().loss(Recorder(off), batch, SCHEDULE, generator()) == 0


def test_only_the_late_steps_are_learned_one_for_a_batch():
    batch = Batch(torch.cat([images(2, 5), images(2, 6)], dim=1), torch.ones(2, 8, 8).double())
    net = Recorder(batch.y[:, :1])
    for seed in range(300):
        DiFusion(latter=301).loss(net, batch, SCHEDULE, generator(seed))
    s = torch.stack(net.s).double()
    level = SCHEDULE.alpha_bar.sqrt()
    # the program draws 1...299 counted from 0; s lies between that step and the one before
    assert s.min() >= level[300] - 1e-7
    assert s.max() <= level[1] + 1e-7
    assert s.min() < level[290]
    assert s.max() > level[11]
    widest = (level[1:300] - level[2:301]).max()
    assert (s[:, 0] - s[:, 1]).abs().max() < widest + 1e-7


# ---- partners ------------------------------------------------------------------------------------


def mixed(mix: str, scan: Series, groups: np.ndarray) -> np.ndarray:
    method = DiFusion(mix=mix)
    return method.pairs(scan.data, groups, method.mixing(scan.data, groups, scan.mask))


def test_a_partner_may_be_the_mean_of_its_volumes(scan, fitted):
    groups = fitted["volumes"].numpy()
    both = mixed("mean", scan, groups)
    for g, (v, *others) in enumerate(groups):
        np.testing.assert_array_equal(both[..., g], scan.data[..., v])
        mean = scan.data[..., others].mean(axis=3)
        np.testing.assert_allclose(both[..., len(groups) + g], mean, rtol=1e-5)


def test_a_partner_by_least_squares_leaves_nothing_that_its_volumes_could_say(scan, fitted):
    groups = fitted["volumes"].numpy()
    both = mixed("least-squares", scan, groups)
    x, partner = (both[scan.mask][:, part].astype(float) for part in (slice(14), slice(14, None)))
    left = x - partner
    np.testing.assert_allclose(left.mean(axis=0), 0, atol=1e-3)
    for g, (_, *others) in enumerate(groups):
        shown = scan.data[scan.mask][:, others].astype(float)
        shown = (shown - shown.mean(axis=0)) / shown.std(axis=0)
        # a ridge of a millionth of the variance, and of b0 four twins are shown
        np.testing.assert_allclose((shown * left[:, [g]]).mean(axis=0), 0, atol=2e-3)
    by_mean = mixed("mean", scan, groups)[scan.mask][:, 14:]
    assert (left.std(axis=0) < (x - by_mean).std(axis=0)).all()


def test_volumes_may_come_in_any_order(scan):
    order = np.random.default_rng(3).permutation(14)
    bvecs = np.random.default_rng(4).standard_normal((14, 3))  # no two angles alike
    bvecs *= (scan.bvals > 0)[:, None] / np.linalg.norm(bvecs, axis=1, keepdims=True)
    turned = {"bvals": scan.bvals[order], "bvecs": bvecs[order], "data": scan.data[..., order]}
    here, there = (
        DiFusion(**{**TINY, "steps": 1}).fit([one], [white(one)], Run())["volumes"]
        for one in (replace(scan, bvecs=bvecs), replace(scan, **turned))
    )
    groups = {v: others for v, *others in here.tolist()}
    for v, *others in there.tolist():
        assert order[others].tolist() == groups[int(order[v])]


def test_as_published_the_partner_is_the_volume_before_and_the_order_matters(scan):
    paper = {**TINY, "steps": 1, "partners": 1, "neighbours": "acquisition"}
    groups = DiFusion(**paper).fit([scan], [white(scan)], Run())["volumes"].tolist()
    kept = [v for v in range(14) if v not in (0, 7)]
    assert groups == [[v, kept[i - 1]] for i, v in enumerate(kept)]


# ---- what the result depends on ------------------------------------------------------------------


def dependence(method: DiFusion, scan: Series, state: dict[str, Tensor]) -> tuple[float, float]:
    """How much of a change of x is seen in the result, in place and in all; x' stays.

    Only one volume gets new noise, and by the mean of others its partner does not hold it.
    """
    v, changed = 5, scan.data.copy()
    changed[..., v] += 3 * np.random.default_rng(5).standard_normal(scan.data.shape[:3])
    a, b = (denoised(method, replace(scan, data=d), state)[..., v] for d in (scan.data, changed))
    dx, dout = (changed - scan.data)[..., v][scan.mask], (b - a)[scan.mask]
    dx, dout = dx - dx.mean(), dout - dout.mean()  # means are kept whatever is done
    return float(dout @ dx / (dx @ dx)), float(np.linalg.norm(dout) / np.linalg.norm(dx))


@pytest.mark.parametrize("fusion", ["posterior", "none"])
def test_as_published_the_result_hardly_depends_on_the_volume_itself(scan, fitted, fusion):
    method = DiFusion(**TINY, **SHORT, mix="mean", own="none", stop=1e3, fusion=fusion)
    in_place, in_all = dependence(method, scan, with_spread(fitted, 1e3))
    # 1/301 by fusion; xi, shuffled, weighs 0.12 and agrees by chance by 1/√700 of that
    assert abs(in_place - (fusion == "posterior") / 301) < 0.015
    assert in_all < 0.15


def test_where_the_chain_begins_with_the_volume_all_of_it_is_seen(scan, fitted):
    method = DiFusion(**TINY, **SHORT, mix="mean", own="start", stop=1e3)
    assert dependence(method, scan, with_spread(fitted, 1e3)) == pytest.approx((1, 1), abs=0.01)


def test_consistency_gives_the_volume_the_say_that_its_noise_leaves_it(scan, fitted):
    method = DiFusion(**TINY, **SHORT, mix="mean", own="consistency", stop=1e3)
    in_place, in_all = dependence(method, scan, with_spread(fitted, 1e3))
    # other directions miss it by several sigma, so it weighs more than half
    assert 0.5 < in_place < 1
    assert in_all < 1.1


def test_consistency_weighs_the_end_of_the_chain_with_the_volume(scan, fitted):
    method = DiFusion(**TINY, **SHORT, mix="mean", own="consistency")
    chain_alone = denoised(replace(method, own="none", intensities="series"), scan, fitted)
    range_ = Intensities(fitted["top"].numpy())
    X, where = range_.apply(scan.data), scan.mask
    both = method.pairs(X, fitted["volumes"].numpy(), fitted)
    sigma = white(scan).sigma[..., None] * (2 / range_.top)
    end = method.walk(both, where, sigma, fitted, Run())
    expected, _ = consistent(X, end, sigma, shells(scan))
    for out, restored in ((denoised(method, scan, fitted), expected), (chain_alone, end)):
        back = range_.undo(keep_means(restored, X, where), np.arange(14))
        np.testing.assert_allclose(out, back, rtol=1e-4, atol=1e-3)


# ---- stopping ------------------------------------------------------------------------------------


def last_distance(run: Run) -> np.ndarray:
    far = run.kept["distance from input"]
    last = run.kept["stopping steps"][..., None] - 1
    return np.take_along_axis(far, last, axis=2)[..., 0]


class Fades(nn.Module):
    """A network that leads away from the volume, a little more at every step."""

    @classmethod
    def of(cls, *_: object) -> "Fades":
        return cls()

    def forward(self, x_t: Tensor, s: Tensor) -> Tensor:
        return 0.97 * x_t


def test_a_larger_stop_takes_more_steps_and_leads_farther(scan, fitted, monkeypatch):
    monkeypatch.setattr(difusion, "Predictor", Fades)
    monkeypatch.setattr(difusion, "load_weights", lambda net, state, prefix: net)
    method, steps, ends = DiFusion(**TINY, stride=10, walk_from=1, own="start"), [], []
    for stop in (0.0, 0.6, 1.0, 1e3):
        run = Run()
        denoised(replace(method, stop=stop), scan, fitted, run)
        steps.append(run.kept["stopping steps"])
        ends.append(last_distance(run))
        assert (ends[-1][steps[-1] < 31] > stop).all()
    assert (steps[0] == 1).all()
    assert (steps[-1] == 31).all()
    assert all((a <= b).all() for a, b in pairwise(steps))
    assert all(a.mean() < b.mean() for a, b in pairwise(ends))


def test_the_steps_that_were_taken_are_those_with_a_distance(scan, fitted):
    run = Run()
    denoised(DiFusion(**TINY, **SHORT, mix="mean", stop=2.0), scan, fitted, run)
    far, steps = run.kept["distance from input"], run.kept["stopping steps"]
    assert far.shape == (14, 3, 4)
    assert steps.shape == (14, 3)
    np.testing.assert_array_equal(np.isfinite(far).sum(axis=2), steps)
    within = np.arange(4) < steps[..., None] - 1
    assert (far[within] <= 2.0).all()  # else it would have ended before


def test_the_distance_is_in_units_of_the_noise_in_the_mask(scan, fitted):
    run = Run()
    denoised(DiFusion(**TINY, stop=0.0, own="start"), scan, with_spread(fitted, 1e-6, -0.5), run)
    X = Intensities(fitted["top"].numpy()).apply(scan.data)
    level = 2 / float(fitted["top"][0])  # the noise of the scan is 1
    for z in range(3):
        inside = X[:, :, z][scan.mask[:, :, z]].astype(float)
        expected = np.sqrt(((inside + 0.5) ** 2).mean(axis=0)) / level
        np.testing.assert_allclose(run.kept["distance from input"][:, z, 0], expected, rtol=1e-3)


def test_brain_weight_is_the_root_of_two_mean_inverse_shares():
    x = torch.full((2, 1, 10, 10), -1.0)
    x[0, 0, :5] = -0.94  # a share of 0.5 above -0.95 alone
    x[0, 0, 0] = 0.3  # and of 0.1 above -0.93 too
    x[1] = 0.0
    expected = torch.tensor([(0.5 / 0.5 + 0.5 / 0.1) ** 0.5, 1.0])
    torch.testing.assert_close(brain_weight(x), expected)


def test_the_weighted_distance_of_a_slice_is_that_of_its_brain():
    x = torch.full((1, 1, 10, 10), -1.0)
    x[0, 0, :3] = torch.rand((3, 10), generator=generator())
    x_out = x.clone()
    x_out[0, 0, :3] += 0.05
    whole = ((x_out - x) ** 2).mean().sqrt()
    assert float(whole * brain_weight(x)) == pytest.approx(0.05, rel=1e-5)


def test_the_published_distance_is_over_the_whole_slice_times_its_brain_weight(scan, fitted):
    run = Run()
    method = DiFusion(**TINY, threshold=1e-9, own="start")
    denoised(method, scan, with_spread(fitted, 1e-6, -0.5), run)
    X = torch.from_numpy(Intensities(fitted["top"].numpy()).apply(scan.data)).permute(3, 2, 0, 1)
    expected = ((X + 0.5) ** 2).mean(dim=(2, 3)).sqrt()
    weight = torch.stack([brain_weight(x[:, None]) for x in X])
    np.testing.assert_allclose(
        run.kept["distance from input"][..., 0], expected * weight, rtol=1e-3
    )
    assert (run.kept["stopping steps"] == 1).all()


def test_an_empty_slice_ends_at_once_and_stays_a_number(scan, fitted):
    empty, run = replace(scan, data=scan.data.copy()), Run()
    empty.data[:, :, 1] = 0
    out = denoised(DiFusion(**TINY, **SHORT, threshold=10.0), empty, fitted, run)
    assert np.isfinite(out).all()
    assert (run.kept["stopping steps"][:, 1] == 1).all()
    assert (run.kept["stopping steps"][:, [0, 2]] == 4).all()


# ---- the whole method ----------------------------------------------------------------------------


def test_a_lone_b0_passes_unchanged_and_is_named(scan):
    keep = np.setdiff1d(np.arange(14), 7)
    lone = replace(scan, data=scan.data[..., keep], bvals=scan.bvals[keep], bvecs=scan.bvecs[keep])
    method, run = DiFusion(**TINY, **SHORT), Run()
    out = denoised(method, lone, method.fit([lone], [white(lone)], run), run)
    assert run.kept["passed through"].tolist() == [0]
    np.testing.assert_array_equal(out[..., 0], lone.data[..., 0])
    assert (np.abs(out - lone.data).mean(axis=(0, 1, 2))[1:] > 0.05).all()


def test_a_scan_without_two_alike_is_refused(scan):
    single = replace(scan, data=scan.data[..., :2], bvals=scan.bvals[:2], bvecs=scan.bvecs[:2])
    with pytest.raises(InputError, match="another one like it"):
        DiFusion(**TINY).fit([single], [white(single)], Run())


def test_the_images_of_a_batch_do_not_change_each_other(scan, fitted):
    results = [
        denoised(DiFusion(**TINY, **SHORT, mix="mean", images_at_once=n), scan, fitted)
        for n in (1, 8)
    ]
    # in sigma, of signals up to 40: convolutions sum in another order, in single precision
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-3)


def test_the_chain_is_drawn_from_the_seed(scan, fitted):
    def out(seed: int) -> np.ndarray:
        torch.manual_seed(seed + 5)  # the global generator must not matter
        return denoised(DiFusion(**TINY, **SHORT, mix="mean", own="none"), scan, fitted, Run(seed))

    first = out(0)
    np.testing.assert_array_equal(first, out(0))
    assert np.abs(first - out(1)).mean() > 1e-3


PUBLISHED = {
    "partners": 1,
    "mix": "mean",
    "neighbours": "acquisition",
    "latter": 301,
    "walk_from": 51,
    "stride": 10,
    "own": "none",
    "threshold": 0.04,
    "steps": 100_000,
    "flips": 4,
    "network": "published",
    "patches": 32,
    "everywhere": True,
    "intensities": "volume-maximum",
}


@pytest.mark.parametrize(
    ("preset", "fusion", "rule"),
    [("paper", "posterior", "mean"), ("released", "none", "mean-mixed")],
)
def test_the_presets_hold_what_was_published_and_what_was_released(preset, fusion, rule):
    made = make("difusion", preset)
    expected = {**PUBLISHED, "fusion": fusion, "rule": rule}
    assert {name: getattr(made, name) for name in expected} == expected
    assert made.patch >= 512  # whole slices
    assert made.units == "scanner"


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_all_of_the_presets_but_their_network_runs_in_a_moment(scan, preset):
    scanner = replace(scan, data=SIGMA * scan.data)
    small = {**TINY, "partners": 1, "patch": 4096, "network": "lean"}
    method, run = replace(make("difusion", preset), **small), Run()
    noise = white(scanner, SIGMA)
    state = method.fit([scanner], [noise], run)
    out = replace(method, stride=100, walk_from=1).denoise(scanner, noise, state, run)
    assert out.shape == scan.data.shape
    assert np.isfinite(out).all()
    assert run.kept["passed through"].tolist() == [0, 7]
    np.testing.assert_array_equal(out[..., [0, 7]], scanner.data[..., [0, 7]])


@pytest.mark.parametrize("preset", DiFusion.presets)
def test_every_preset_names_settings_that_there_are(preset):
    assert set(DiFusion.presets[preset]) <= {field.name for field in fields(DiFusion)}


def test_the_whole_published_path_is_walked(scan, fitted):
    run, one = Run(), replace(scan, data=scan.data[:8, :8, :1], mask=scan.mask[:8, :8, :1])
    denoised(DiFusion(**TINY, mix="mean", stop=1e3), one, fitted, run)
    assert (run.kept["stopping steps"] == 76).all()
