"""The way of a scan from Python: units, choices, and what comes out."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

import quell
from quell.fingerprints import fingerprint
from quell.noise import learn
from quell.options import Options
from quell.pipeline import known
from quell.record import as_json, methods_paragraph, settings_of, sidecar
from quell.run import Run, Voice
from quell.series import mask_of
from quell.simulate import corrupt, phantom

QUICK = {"method": "patch2self", "threads": 1}
NETWORK = {"threads": 1, "steps": 3, "channels": 8, "patch": 16}


class Heard(Voice):
    """A voice that remembers."""

    def __init__(self):
        self.lines, self.tasks = [], []

    def say(self, line):
        self.lines.append(line)

    def progress(self, task, done, total, note=""):
        self.tasks.append((task, done, total))


@pytest.mark.parametrize("choices", [QUICK, NETWORK], ids=["linear", "network"])
def test_twice_the_scan_gives_twice_the_result(series, choices):
    once = quell.denoise(series, **choices)
    twice = quell.denoise(replace(series, data=2 * series.data), **choices)
    np.testing.assert_allclose(twice.denoised, 2 * once.denoised, rtol=1e-3, atol=0.5)
    np.testing.assert_allclose(twice.noise_map, 2 * once.noise_map, rtol=1e-3)


@pytest.mark.parametrize("choices", [QUICK, NETWORK], ids=["linear", "network"])
def test_the_scan_handed_in_is_left_alone(series, choices):
    before = series.data.copy()
    result = quell.denoise(series, **choices)
    np.testing.assert_array_equal(series.data, before)
    assert result.denoised.shape == series.data.shape
    assert result.denoised.dtype == np.float32
    assert np.all(np.isfinite(result.denoised))


def test_noise_goes_and_the_means_stay(series):
    result = quell.denoise(series, **QUICK)
    assert result.residual[result.mask].std() > 0.4 * np.median(result.noise_map[result.mask])
    before, after = (d.mean(axis=(0, 1, 2)) for d in (series.data, result.denoised))
    np.testing.assert_allclose(after, before, rtol=1e-4)


def test_the_floor_is_kept_unless_its_removal_is_asked_for(series):
    kept = quell.denoise(series, **NETWORK)
    removed = quell.denoise(series, remove_floor=True, **NETWORK)
    assert (kept.floor_removed, removed.floor_removed) == (False, True)
    dark = kept.denoised < 2 * np.median(kept.noise_map)
    assert np.all(removed.denoised <= kept.denoised + 1e-2)
    assert removed.denoised[dark].mean() < 0.8 * kept.denoised[dark].mean()


def test_a_given_noise_map_is_obeyed(series):
    given = np.full(series.data.shape[:3], 33, dtype=np.float32)
    result = quell.denoise(series, noise_map=given, **QUICK)
    np.testing.assert_array_equal(result.noise_map, given)
    assert result.noise.source == "map given"


def test_a_given_noise_model_is_not_learned_again(series):
    model = learn(series, mask_of(series), "gaussian")
    assert quell.denoise(series, noise_model=model, **QUICK).noise is model


def test_settings_and_options_can_be_given_by_name(series):
    result = quell.denoise(series, quell.Options(seed=4), noise_law="gaussian", **NETWORK)
    assert result.noise.law == "gaussian"
    assert settings_of(result.method)["patch"] == 16
    assert len(result.losses) == 3


@pytest.mark.parametrize(
    "choices",
    [
        {"steps": "many"},
        {"steps": np.nan},
        {"depth": 3},
        {"noise_law": "cauchy"},
        {"coils": -1},
        {"threads": 0},
        {"device": "abacus"},
        {"method": "magic"},
        {"preset": "slow"},
    ],
)
def test_choices_that_cannot_be_meant_are_refused_in_words(series, choices):
    with pytest.raises(quell.InputError) as refused:
        quell.denoise(series, **choices)
    assert refused.value.status == 2
    assert "\n" not in str(refused.value)


def test_numbers_of_numpy_are_settings_too(series):
    result = quell.denoise(series, **{**NETWORK, "steps": np.int64(1), "tau_max": np.float32(1)})
    assert settings_of(result.method)["steps"] == 1


def test_published_scales_of_complex_data_are_refused_in_words(series):
    complex_ = replace(series, data=series.data.astype(np.complex64))
    with pytest.raises(quell.InputError, match="takes no complex data with these settings"):
        quell.denoise(complex_, method="ddm2", preset="paper")


def test_warnings_are_said_and_errors_when_strict(series):
    few = replace(series, data=series.data[..., :4], bvals=None, bvecs=None)
    voice = Heard()
    result = quell.denoise(few, voice=voice, **QUICK)
    said = [line for line in voice.lines if line.startswith("warning: ")]
    warnings = [finding for finding in result.findings if finding.level == "warning"]
    assert len(said) == len(warnings) > 1  # of the checks, and of the noise model
    assert {"few-volumes", "noise-from-differences"} <= {finding.code for finding in warnings}
    with pytest.raises(quell.InputError, match="refused by --strict"):
        quell.denoise(few, strict=True, **QUICK)


def test_every_step_and_slice_is_told(series):
    voice = Heard()
    quell.denoise(series, voice=voice, **NETWORK)
    told = [(task, i, 3) for task in ("training", "denoising") for i in (1, 2, 3)]
    assert voice.tasks[:6] == told
    assert {task for task, *_ in voice.tasks[6:]} <= {"denoising outside the mask"}


def test_what_decides_the_result_decides_the_checkpoint(series):
    scan = replace(series, mask=mask_of(series))
    noise, run = learn(scan, scan.mask), Run()
    method = quell.METHODS["joint"]
    name = fingerprint(scan, method(), noise, run)
    one_voxel = scan.data.copy()
    one_voxel[3, 3, 1, 5] += 1
    others = (
        fingerprint(replace(scan, data=one_voxel), method(), noise, run),
        fingerprint(replace(scan, mask=~scan.mask), method(), noise, run),
        fingerprint(scan, method(steps=9), noise, run),
        fingerprint(scan, method(), replace(noise, covariance=noise.covariance * 0.9), run),
        fingerprint(scan, method(), noise, Run(seed=1)),
    )
    assert fingerprint(scan, method(), noise, Run()) == name
    assert len({name, *others}) == 6


def test_the_sidecar_is_valid_json_whatever_the_scan_is_called(series, tmp_path):
    scan = replace(series, path=tmp_path / os.fsdecode(b"scan-\xff.nii"))
    options = quell.Options()
    result = quell.denoise(scan, options, **QUICK)
    text = as_json(sidecar(result, scan, options, "quell")).encode("utf-8", "backslashreplace")
    assert json.loads(text)["Sources"] == [scan.path.name]
    assert json.loads(text)["Manufacturer"] == "none"


def test_the_paragraph_for_the_paper_names_the_method_and_the_noise(series):
    result = quell.denoise(series, **QUICK)
    paragraph = methods_paragraph(result, quell.Options(seed=7))
    for words in ("patch2self", "Fadnavis", "seed 7", "Rician", result.noise.source):
        assert words in paragraph


def test_the_floor_comes_off_whatever_units_a_method_works_in(series):
    kept, removed = (quell.denoise(series, **QUICK, remove_floor=off) for off in (False, True))
    assert kept.method.units == "scanner"  # else this shows nothing new
    assert (kept.floor_removed, removed.floor_removed) == (False, True)
    mask = kept.mask
    assert (removed.denoised[mask] < kept.denoised[mask] + 1e-3).all()
    assert removed.denoised[mask].mean() < kept.denoised[mask].mean()


def test_the_fingerprint_changes_with_what_says_which_volumes_are_alike(series):
    mask = mask_of(series)
    scan = replace(series, mask=mask)
    noise, run = learn(scan, mask), Run()
    method = quell.denoise(series, **QUICK).method
    other = [
        scan,
        replace(scan, bvals=scan.bvals + 100),
        replace(scan, bvecs=scan.bvecs[:, ::-1].copy()),
        replace(scan, bvals=None),
        replace(scan, fourth_axis="repetitions"),
    ]
    assert len({fingerprint(one, method, noise, run) for one in other}) == len(other)


def test_a_full_blend_is_the_scan_in_magnitude_data_too(series):
    blended = quell.denoise(series, **NETWORK, blend=1.0)
    np.testing.assert_allclose(blended.denoised, series.data, rtol=1e-4, atol=0.01)
    with pytest.raises(quell.InputError, match="leave one of them out"):
        quell.denoise(series, **NETWORK, blend=0.5, remove_floor=True)


@pytest.mark.parametrize("noise", ["measured", "white"])
def test_a_method_that_takes_noise_for_white_is_warned_of_where_it_correlates(noise):
    clean = phantom("small").clean
    rng, said = np.random.default_rng(0), []
    for correlation in (None, (0.3, 0.4, 0.0)):
        scan = replace(clean, data=corrupt(clean.data, 40.0, rng, correlation=correlation))
        options = Options(method="c2s", settings={"noise": noise}, noise_law="gaussian")
        *_, findings = known(scan, options, Run())
        said.append("white-noise-assumed" in {finding.code for finding in findings})
    assert said == [False, noise == "white"]
