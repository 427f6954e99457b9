# ruff: noqa: F401, F811  # fixtures are imported and then named as arguments
"""The edges of the diffusion methods: published presets, empty slices, short chains, 3-D."""

import warnings
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from quell import predictor
from quell.chains import flagged, over_flips
from quell.methods import make
from quell.methods.ddm2 import Ddm2
from quell.methods.difusion import DiFusion
from quell.predictor import network
from quell.run import Run
from quell.sampling import even_path
from quell.schedule import reverse_warmup
from quell.series import InputError, Series, prior_volumes
from quell.unet import UNetSettings
from test_ddm2 import SIGMA, TINY, chained, known, scan, two_slices, white

SMALL_SR3 = UNetSettings(8, (1, 2, 2), embedding=8, groups=8, is_sr3=True, attention=(1,))


@pytest.fixture
def small_published(monkeypatch):
    monkeypatch.setattr(predictor, "PUBLISHED", SMALL_SR3)


def test_the_published_diffusion_network_starts_orthogonally(small_published):
    net = network("published", 48, 1, 1, 2, Run(), "F")
    for name, parameter in net.named_parameters():
        if parameter.ndim > 1:
            flat = parameter.detach().flatten(1)
            flat = flat if flat.shape[0] <= flat.shape[1] else flat.T
            torch.testing.assert_close(flat @ flat.T, torch.eye(len(flat)), rtol=0, atol=1e-5)
        else:
            assert (parameter == (0 if name.endswith("bias") else 1)).all()


@pytest.mark.parametrize(
    ("name", "preset"), [("ddm2", "paper"), ("difusion", "paper"), ("difusion", "released")]
)
def test_the_published_presets_run(scan, small_published, name, preset):
    tiny = {k: v for k, v in TINY.items() if k not in ("priors", "patch", "channels")}
    if name == "difusion":
        tiny.pop("stage1_steps")
    scanner = replace(scan, data=SIGMA * scan.data)
    method = replace(make(name, preset), **tiny)
    state = method.fit([scanner], [white(scanner, SIGMA)], Run())
    quick = replace(method, chain=3) if name == "ddm2" else replace(method, stride=100, walk_from=1)
    assert np.isfinite(quick.denoise(scanner, white(scanner, SIGMA), state, Run())).all()


@pytest.mark.parametrize(("start", "n"), [(5, 10), (2, 1000), (7, 8)])
def test_more_steps_than_there_are_become_every_step(start, n):
    assert even_path(start, n) == list(range(start, 0, -1))


def test_a_chain_of_every_step_takes_every_step_of_every_slice():
    method = known(lambda x_t, s: x_t, chain=0)
    run = Run()
    chained(method, two_slices(), [[10, 5]], run)
    assert np.isfinite(run.kept["distance from input"]).sum(axis=2).tolist() == [[10, 5]]


@pytest.mark.parametrize(("n_volumes", "n"), [(2, 4), (3, 6), (4, 12)])
def test_in_file_order_too_a_volume_is_never_its_own_neighbour(n_volumes, n):
    s = Series(
        np.ones((1, 1, 1, n_volumes), np.float32),
        np.eye(4),
        nib.Nifti1Header(),
        np.full(n_volumes, 1000.0),
    )
    groups = prior_volumes(s, n, "acquisition")
    assert (groups[:, 1:] != groups[:, :1]).all()


@pytest.mark.parametrize("intensities", ["series", "volume-maximum"])
def test_the_noise_model_says_the_level_in_any_units(scan, intensities):
    method = Ddm2(
        **{**TINY, "stage1_steps": 1, "steps": 1}, matching="noise-model", intensities=intensities
    )
    sigma = SIGMA if method.units == "scanner" else 1.0
    given = replace(scan, data=sigma * scan.data)
    state = method.fit([given], [white(given, sigma)], Run())
    schedule, top = reverse_warmup(), state["top"][state["volumes"][:, 0]]
    t = state["matched"][:, 0]
    level = schedule.sigma(t) / schedule.alpha_bar[t].sqrt()
    torch.testing.assert_close(level, (2 * sigma / top).double(), rtol=0.1, atol=0)


def test_in_3d_the_state_is_that_of_the_volume_and_not_of_its_first_slice(scan):
    empty = scan.mask.copy()
    empty[:, :, 0] = False
    # depth 3 for the smallest of networks
    method = Ddm2(
        **{**TINY, "patch": 8, "stage1_steps": 1, "steps": 1}, dimensions=3, output="one-step"
    )
    state = method.fit([scan], [white(scan)], Run())
    a = known(
        lambda x_t, s: x_t / s.reshape(-1, 1, 1, 1, 1),
        dimensions=3,
        output="one-step",
        start="consistent",
    )
    a.denoise(replace(scan, mask=empty), white(scan), state, Run())
    levels = torch.cat([s for _, s in a.calls[0]])
    least = reverse_warmup().alpha_bar[2].sqrt().float()
    assert (levels < least - 1e-5).all()  # noise of about 1 is no state 2


def test_in_3d_flips_are_in_plane_as_in_training():
    x = torch.arange(2 * 3 * 4.0).reshape(1, 1, 2, 3, 4)
    seen = []
    over_flips(lambda v: seen.append(v) or v, x, 4)
    assert all((v.diff(dim=-1) == 1).all() for v in seen)  # never upside down along z


def test_a_distance_without_bound_is_no_warning():
    far = np.full((5, 2, 3), 1.0)
    far[:, 0, 0], far[:, 0, 1:] = np.inf, np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert flagged(far).shape == (0, 2)


@pytest.mark.parametrize("latter", [1, 2, 1002])
def test_steps_that_the_chain_does_not_have_are_refused_in_words(scan, latter):
    with pytest.raises(InputError):
        DiFusion(steps=1, channels=8, patch=16, latter=latter).fit([scan], [white(scan)], Run())


def test_a_least_state_beyond_the_chain_is_refused_in_words(scan):
    with pytest.raises(InputError):
        Ddm2(**TINY, least_state=1001).fit([scan], [white(scan)], Run())


def test_an_empty_lone_b0_is_no_warning(scan):
    keep = np.setdiff1d(np.arange(14), 7)
    data = scan.data[..., keep].copy()
    data[..., 0] = 0
    lone = replace(scan, data=data, bvals=scan.bvals[keep], bvecs=scan.bvecs[keep])
    method = Ddm2(**TINY, intensities="volume-maximum")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = method.fit([lone], [white(lone)], Run())
        out = method.denoise(lone, white(lone), state, Run())
    assert np.isfinite(out).all()
