"""Noise2Score + IP, SURE + IP: the network of the first alone, the ascent from its result after."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import correlated, few_images
from quell.methods.implicit_prior import ImplicitPrior
from quell.methods.noise2score import Noise2Score
from quell.methods.noise2score_ip import Noise2ScoreIp
from quell.methods.sure import Sure
from quell.methods.sure_ip import SureIp
from quell.run import Run
from quell.series import Series
from quell.simulate import corrupt

TINY = {"steps": 3, "channels": 8, "patches": 2, "patch": 16}


with_both = pytest.mark.parametrize(
    ("Both", "First"), [(SureIp, Sure), (Noise2ScoreIp, Noise2Score)]
)


@pytest.fixture(scope="module")
def scan() -> Series:
    clean = few_images(150.0)
    return replace(clean, data=corrupt(clean.data, 1.0, np.random.default_rng(0)))


@with_both
def test_its_networks_are_those_of_the_two_methods(scan, Both, First):
    both, first, prior = (
        method(**TINY).fit([scan], [correlated()], Run()) for method in (Both, First, ImplicitPrior)
    )
    assert both.keys() == first.keys() | prior.keys()
    for name, value in {**first, **prior}.items():
        assert torch.equal(both[name], value)


@with_both
def test_with_a_silent_prior_it_is_the_first_method(scan, Both, First):
    state = Both(**TINY).fit([scan], [correlated()], Run())
    silent = {k: v * (not k.startswith("prior")) for k, v in state.items()}
    first = First(**TINY).denoise(scan, correlated(), state, Run())
    out = Both(**TINY).denoise(scan, correlated(), silent, Run())
    np.testing.assert_allclose(out, first, rtol=0, atol=1e-4)  # the means are kept once more


@with_both
def test_the_ascent_starts_at_the_first_result(scan, Both, First):
    state = Both(**TINY).fit([scan], [correlated()], Run())
    awake = {k: v + 0.01 * k.startswith("prior") for k, v in state.items()}
    first = First(**TINY).denoise(scan, correlated(), state, Run())
    method = Both(**TINY, most_steps=2)
    out = method.denoise(scan, correlated(), awake, Run())
    prior = ImplicitPrior(**TINY, most_steps=2)
    expected = prior.denoise(replace(scan, data=first), correlated(), awake, Run())
    assert np.abs(out - first).max() > 0.1
    # but for the shift of the means, that the first result had and this did not when it started
    np.testing.assert_allclose(out - out.mean(), expected - expected.mean(), rtol=0.01, atol=0.2)
