"""Noise2Score + IP: its own network first, the ascent from its result after."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import correlated, few_images
from quell.methods.implicit_prior import ImplicitPrior
from quell.methods.noise2score import Noise2Score
from quell.methods.noise2score_ip import Noise2ScoreIp
from quell.run import Run
from quell.series import Series
from quell.simulate import corrupt

TINY = {"steps": 3, "channels": 8, "patches": 2, "patch": 16}


@pytest.fixture(scope="module")
def scan() -> Series:
    clean = few_images(150.0)
    return replace(clean, data=corrupt(clean.data, 1.0, np.random.default_rng(0)))


def test_its_networks_are_those_of_the_two_methods(scan):
    both, first, prior = (
        method(**TINY).fit([scan], [correlated()], Run())
        for method in (Noise2ScoreIp, Noise2Score, ImplicitPrior)
    )
    assert both.keys() == first.keys() | prior.keys()
    for name, value in {**first, **prior}.items():
        assert torch.equal(both[name], value)


def test_with_a_silent_prior_it_is_noise2score(scan):
    state = Noise2ScoreIp(**TINY).fit([scan], [correlated()], Run())
    silent = {k: v * (not k.startswith("prior")) for k, v in state.items()}
    first = Noise2Score(**TINY).denoise(scan, correlated(), state, Run())
    out = Noise2ScoreIp(**TINY).denoise(scan, correlated(), silent, Run())
    np.testing.assert_allclose(out, first, rtol=0, atol=1e-4)  # the means are kept once more


def test_the_ascent_starts_at_the_first_result(scan):
    state = Noise2ScoreIp(**TINY).fit([scan], [correlated()], Run())
    awake = {k: v + 0.01 * k.startswith("prior") for k, v in state.items()}
    first = Noise2Score(**TINY).denoise(scan, correlated(), state, Run())
    method = Noise2ScoreIp(**TINY, most_steps=2)
    out = method.denoise(scan, correlated(), awake, Run())
    prior = ImplicitPrior(**TINY, most_steps=2)
    expected = prior.denoise(replace(scan, data=first), correlated(), awake, Run())
    assert np.abs(out - first).max() > 0.1
    # but for the shift of the means, that the first result had and this did not when it started
    np.testing.assert_allclose(out - out.mean(), expected - expected.mean(), rtol=0.01, atol=0.2)
