"""Levels: the published PSNR is met by the published score, with the draw that is kept."""

import numpy as np
import pytest

from quell.evaluate import difusion_scores
from quell.evaluate.published import stretched
from quell.series import InputError
from quell.simulate import Acquisition, acquire, corrupt, phantom
from quell.studies import LEVELS, Amount, Study, sigma_for, simulate
from quell.studies.levels import PSNR_MAX, published_psnr

FOUR_COILS = Acquisition(4)


@pytest.fixture(scope="module")
def clean():
    return phantom("small").clean.data


@pytest.fixture(scope="module")
def draw(clean):
    return acquire(clean, FOUR_COILS, np.random.default_rng(0))


def test_the_psnr_is_the_published_one(clean):
    noisy = corrupt(clean, 60.0, np.random.default_rng(0), "rician")
    expected, _ = difusion_scores(noisy, clean)
    assert published_psnr(noisy, stretched(clean)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_has_its_psnr(level):
    made = simulate(Study(Amount(level=level), "small", acquisition=FOUR_COILS))
    assert made.psnr == pytest.approx(LEVELS[level], abs=0.05)
    assert difusion_scores(made.noisy, made.truth)[0] == made.psnr


@pytest.mark.parametrize("law", ["gaussian", "rician", "nc-chi"])
def test_noise_on_the_image_meets_a_psnr_too(law):
    how = Acquisition(4 if law == "nc-chi" else 1)
    made = simulate(Study(Amount(noisy_psnr=18.0), "small", law=law, acquisition=how))
    assert made.psnr == pytest.approx(18, abs=0.05)


def test_a_noisier_level_has_a_larger_sigma(draw):
    found = [sigma_for(psnr, draw.at, draw.truth) for psnr in LEVELS.values()]
    assert found == sorted(found, reverse=True)


def test_the_sigma_follows_the_unit_of_the_scan(clean, draw):
    kilo = acquire(clean * 1000, FOUR_COILS, np.random.default_rng(0))
    one, other = sigma_for(20.0, draw.at, draw.truth), sigma_for(20.0, kilo.at, kilo.truth)
    assert other == pytest.approx(1000 * one, rel=1e-3)


def test_a_psnr_that_no_sigma_gives_is_refused(draw):
    with pytest.raises(InputError, match="can't be as low as 1 dB"):
        sigma_for(1.0, draw.at, draw.truth)


def test_the_highest_psnr_that_may_be_asked_for_is_met(draw):
    sigma = sigma_for(PSNR_MAX, draw.at, draw.truth)
    assert difusion_scores(draw.at(sigma), draw.truth)[0] == pytest.approx(PSNR_MAX, abs=0.05)
