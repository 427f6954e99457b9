"""The contract: what holds for every method in METHODS, listed today or tomorrow."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import quell
from quell.live import Follower
from quell.methods import DEFAULT, METHODS, make
from quell.run import Run, Silent
from quell.scaling import Scale
from quell.series import InputError, Series
from quell.simulate import corrupt, g_factor, phantom

# Settings with which a method runs in a second; a method without a line runs as it is.
TINY: dict[str, dict[str, int]] = {
    "joint": {"steps": 8, "channels": 8, "patch": 16, "patches": 2},
    "ddm2": {"stage1_steps": 8, "steps": 8, "channels": 8, "patch": 16, "priors": 4},
    "noise2noise": {"steps": 40, "channels": 8, "patch": 16},
    "difusion": {"steps": 24, "channels": 8, "patch": 16},
    "c2s": {"steps": 40, "channels": 8, "patch": 16},
    "r2r": {"steps": 40, "channels": 8, "patch": 16},
    "noise2void": {"steps": 60, "channels": 8, "patch": 16},
    "noisier2noise": {"steps": 40, "channels": 8, "patch": 16, "recorruptions": 2},
    "noise2score": {"steps": 40, "channels": 8, "patch": 16},
    "sure": {"steps": 40, "channels": 8, "patch": 16},
    "unsure": {"steps": 60, "channels": 8, "patch": 16},
    "implicit_prior": {"steps": 40, "channels": 8, "patch": 16, "most_steps": 3},
    "noise2score_ip": {"steps": 40, "channels": 8, "patch": 16, "most_steps": 3},
    "sure_ip": {"steps": 40, "channels": 8, "patch": 16, "most_steps": 3},
    "noise2self": {"steps": 100, "channels": 8, "patch": 16, "stride": 2},
    "neighbor2neighbor": {"steps": 40, "channels": 8, "patch": 24},
    "deep_image_prior": {"steps": 55, "channels": 8},
    "nlm": {"search": 1},
    "mppca": {"stride": 2},
    "ascm": {"search": 1},
}
# How far the mean of a volume may move, as a share of it; 0.015 where nothing is said: networks
# have hardly begun after so few steps, and what they leave is weighed by a noise map that varies.
MEAN_KEPT = {
    "patch2self": 1e-4,
    "noise2noise": 0.02,  # this and those below after so few steps
    "neighbor2neighbor": 0.02,
    "deep_image_prior": 0.03,
}
# How much may be taken away, in sigma; 1.5 where nothing is said. At this signal over noise the
# pixels of the phantom can't be told from their neighbours, whatever the network.
TAKEN = {
    "noise2void": 3.0,
    "unsure": 3.0,
    "noise2self": 3.0,
    "neighbor2neighbor": 3.0,
    "deep_image_prior": 3.0,
}

every_method = pytest.mark.parametrize("method", METHODS)


def clean_slices() -> Series:
    """Four slices of the small phantom: every method sees them eight times."""
    whole, middle = phantom("small").clean, np.s_[:, :, 3:7]
    return replace(whole, data=whole.data[middle], mask=whole.mask[middle].copy())


@pytest.fixture(scope="module")
def noisy() -> Series:
    """Four slices, Rician noise that varies in space, some voxels zeroed by the scanner."""
    clean = clean_slices()
    sigma = 40 * g_factor(clean.data.shape[:3])
    y = corrupt(clean.data, sigma, np.random.default_rng(0), "rician")
    y[:2] = 0
    y.setflags(write=False)  # a method that writes into its input fails
    return replace(clean, data=y)


def denoise(method: str, scan: Series, **choices) -> quell.Result:
    return quell.denoise(scan, method=method, threads=1, **{**TINY.get(method, {}), **choices})


@pytest.fixture(scope="module")
def inputs(noisy) -> dict[str, Series]:
    """A copy of the scan for each method, which nothing keeps from being written into."""
    arrays = ("data", "mask", "bvals")
    return {
        method: replace(noisy, **{name: getattr(noisy, name).copy() for name in arrays})
        for method in METHODS
    }


@pytest.fixture(scope="module")
def results(inputs) -> dict[str, quell.Result]:
    return {method: denoise(method, scan) for method, scan in inputs.items()}


@every_method
def test_the_result_is_finite_float32_on_the_grid_of_the_scan(method, noisy, results):
    out = results[method].denoised
    assert out.shape == noisy.data.shape
    assert out.dtype == np.float32
    assert np.isfinite(out).all()


@every_method
def test_something_is_taken_away(method, noisy, results):
    inside = results[method].residual[noisy.mask]
    # about the noise: neither nothing nor the image
    assert 0.3 * 40 < inside.std() < TAKEN.get(method, 1.5) * 40


@every_method
def test_the_input_is_not_modified(method, noisy, inputs, results):
    assert method in results
    for name in ("data", "mask", "bvals"):
        np.testing.assert_array_equal(getattr(inputs[method], name), getattr(noisy, name))


@every_method
def test_the_same_seed_gives_the_same_bytes_looked_at_or_not(method, noisy, results):
    torch.manual_seed(5)  # the global generator must not matter
    follower = Follower(Silent(), "", {}, every=0)
    again = denoise(method, noisy, voice=follower)
    np.testing.assert_array_equal(again.denoised, results[method].denoised)
    assert [line for line in follower.lines if line.startswith("no picture")] == []
    is_learned = bool(follower.losses)  # then there is one on the way from the scan to the result
    assert follower.painter.pictures.number >= 2 + is_learned


@every_method
def test_a_saved_state_gives_the_same_bytes(method, noisy, results, tmp_path):
    result = results[method]
    save_file(result.state, tmp_path / "state.safetensors")
    loaded, noise, scan = load_file(tmp_path / "state.safetensors"), result.noise, noisy
    if result.method.units == "sigma":
        scale = Scale.of(noise.sigma, noise.law, noise.n_coils)
        scan, noise = replace(noisy, data=scale.apply(noisy.data)), noise.in_units_of_sigma()
    out = [result.method.denoise(scan, noise, state, Run()) for state in (result.state, loaded)]
    np.testing.assert_array_equal(*out)


@every_method
def test_units_do_not_matter(method, noisy, results):
    doubled = denoise(method, replace(noisy, data=2 * noisy.data)).denoised
    # 1e-3 of the signal: doubling itself rounds nothing, summing in another order might
    np.testing.assert_allclose(doubled, 2 * results[method].denoised, rtol=1e-3, atol=1)


@every_method
def test_the_mean_of_each_volume_is_kept(method, noisy):
    sigma = 40 * g_factor(noisy.data.shape[:3])
    y = corrupt(clean_slices().data, sigma, np.random.default_rng(1))  # no noise floor
    scan = replace(noisy, data=y)
    out = denoise(method, scan, noise_law="gaussian").denoised
    where = (slice(None),) * 3 if method == "patch2self" else noisy.mask
    kept, asked = (a[where].reshape(-1, 14).mean(axis=0, dtype=float) for a in (out, y))
    np.testing.assert_allclose(kept, asked, rtol=MEAN_KEPT.get(method, 0.015))


@every_method
def test_each_volume_stays_in_its_place(method, noisy, results):
    out, y = results[method].denoised[noisy.mask], noisy.data[noisy.mask]
    distance = ((out[:, :, None] - y[:, None, :]) ** 2).mean(axis=0)
    nearest = distance.argmin(axis=1)
    assert (noisy.is_b0[nearest] == noisy.is_b0).all()
    order = np.random.default_rng(2).permutation(noisy.n_volumes)
    turned = replace(
        noisy, data=noisy.data[..., order], bvals=noisy.bvals[order], bvecs=noisy.bvecs[order]
    )
    again = denoise(method, turned).denoised[noisy.mask]
    change = np.abs(again - out[:, order]).mean() / np.abs(out - y).mean()
    # another order may train another network, as another seed does, but to the same end
    other = denoise(method, noisy, seed=1).denoised[noisy.mask]
    by_seed = np.abs(other - out).mean() / np.abs(out - y).mean()
    assert change < max(0.2, 1.5 * by_seed) < 1


@every_method
def test_voxels_that_the_scanner_zeroed_stay_zero(method, results):
    assert (results[method].denoised[:2] == 0).all()


@every_method
def test_the_state_is_tensors_only(method, results):
    assert all(isinstance(value, torch.Tensor) for value in results[method].state.values())


@every_method
def test_a_method_says_what_it_is(method):
    kind = METHODS[method]
    assert kind.name == method
    assert make(method).units in ("sigma", "scanner")
    for words in (kind.paper, kind.needs, kind.summary):
        assert isinstance(words, str)
        assert words


@every_method
def test_every_preset_makes_a_method_whose_settings_it_holds(method):
    assert "default" in METHODS[method].presets
    for preset, settings in METHODS[method].presets.items():
        made = make(method, preset)
        assert settings.items() <= {f.name: getattr(made, f.name) for f in fields(made)}.items()


@every_method
def test_the_default_preset_is_the_method_as_written(method):
    assert make(method) == METHODS[method]()


@every_method
def test_settings_cannot_be_changed_afterwards(method):
    made = make(method)
    with pytest.raises(AttributeError):
        setattr(made, fields(made)[0].name, 1)


@every_method
@pytest.mark.parametrize(
    "setting", ["stpes", "name", "presets"]
)  # class attributes are no settings
def test_an_unknown_setting_is_refused_with_those_there_are(method, setting):
    with pytest.raises(InputError, match=rf"no setting '{setting}'") as refusal:
        make(method, **{setting: 3})
    assert refusal.value.status == 2
    there = str(refusal.value).partition("it has ")[2].split(", ")
    assert there == sorted(f.name for f in fields(METHODS[method]))


@every_method
def test_an_unknown_preset_is_refused(method):
    with pytest.raises(InputError, match="default") as refusal:
        make(method, "fastest")
    assert refusal.value.status == 2


def test_an_unknown_method_is_refused_before_any_work():
    with pytest.raises(InputError, match=", ".join(METHODS)) as refusal:
        quell.denoise(None, method="magic")
    assert refusal.value.status == 2


def test_the_default_is_a_method():
    assert DEFAULT in METHODS
