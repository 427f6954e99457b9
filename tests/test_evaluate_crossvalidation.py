"""Predictions of held-out directions: exact without noise, and not to be had by smoothing."""

import numpy as np
import pytest

from quell.evaluate import cross_validate, tensor_prediction
from quell.evaluate.crossvalidation import r_squared
from quell.series import InputError
from quell.simulate import corrupt, even_directions

SHAPE = (6, 6, 2)
EVERYWHERE = np.ones(SHAPE, bool)


@pytest.fixture(scope="module")
def bundle() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Single fibres of all directions, 30 gradients of b = 1500 s/mm²: data, bvals, bvecs."""
    rng = np.random.default_rng(0)
    bvals = np.r_[0, 0, np.full(30, 1500.0)]
    bvecs = np.r_[np.zeros((2, 3)), even_directions(30, rng)]
    fibres = rng.normal(size=(*SHAPE, 3))
    fibres /= np.linalg.norm(fibres, axis=-1, keepdims=True)
    rate = 0.3e-3 + 1.4e-3 * (fibres @ bvecs.T) ** 2
    return 1000 * np.exp(-bvals * rate), bvals, bvecs


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


@pytest.mark.parametrize("model", ["dti", "csd"])
def test_a_model_predicts_the_clean_scan_that_it_describes(bundle, model):
    data, bvals, bvecs = bundle
    r2 = cross_validate(data, data, bvals, bvecs, EVERYWHERE, model, 3, rng()).r2
    assert np.median(r2) > {"dti": 0.999, "csd": 0.95}[model]  # CSD: few harmonics, no negatives
    assert r2.max() <= 1


def test_less_noise_in_the_fit_predicts_the_measured_scan_better(bundle):
    data, bvals, bvecs = bundle
    noisy = corrupt(data, 150.0, np.random.default_rng(2))
    half = data + 0.3 * (noisy - data)
    given = (noisy, bvals, bvecs, EVERYWHERE, "dti", 3)
    r2 = [cross_validate(d, *given, rng()).r2.mean() for d in (noisy, half, data)]
    assert r2[0] + 0.05 < r2[1] < r2[2]


def test_what_is_smooth_over_directions_looks_right_as_published_and_is_not(bundle):
    data, bvals, bvecs = bundle
    noisy = corrupt(data, 250.0, np.random.default_rng(2))
    smooth = tensor_prediction(noisy, bvals, bvecs, EVERYWHERE)  # by a tensor's own six numbers
    mild = data + 0.3 * (noisy - data)  # nearer to the truth than that
    assert np.mean((mild - data) ** 2) < 0.7 * np.mean((smooth - data) ** 2)
    rest = (bvals, bvecs, EVERYWHERE, "dti", 3)
    published = [cross_validate(d, d, *rest, rng()).r2.mean() for d in (smooth, mild)]
    assert published[0] > published[1] + 0.02
    other = corrupt(data, 250.0, np.random.default_rng(3))  # noise that neither has seen
    honest = [cross_validate(d, other, *rest, rng()).r2.mean() for d in (smooth, mild)]
    assert honest[0] < honest[1]


def test_nothing_and_the_opposite_predict_nothing(bundle):
    data, bvals, bvecs = bundle
    given = (bvals, bvecs, EVERYWHERE, "dti", 3)
    assert cross_validate(np.full_like(data, 7.0), data, *given, rng()).r2.max() < 1e-6
    rows = data.reshape(-1, len(bvals))
    assert r_squared(-rows, rows).max() == 0
    np.testing.assert_allclose(r_squared(2 * rows + 5, rows), 1)


def test_the_same_seed_deals_the_same_folds(bundle):
    data, bvals, bvecs = bundle
    noisy = corrupt(data, 150.0, np.random.default_rng(2))
    given = (noisy, noisy, bvals, bvecs, EVERYWHERE, "dti", 4)
    first, again = (cross_validate(*given, rng()).r2 for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_what_cannot_be_predicted_is_refused_in_words(bundle):
    data, bvals, bvecs = bundle

    def refused(kept: slice, model: str, folds: int) -> str:
        d, b, g = data[..., kept], bvals[kept], bvecs[kept]
        with pytest.raises(InputError) as error:
            cross_validate(d, d, b, g, EVERYWHERE, model, folds, rng())
        return str(error.value)

    assert "no model called dki" in refused(np.s_[:], "dki", 3)
    assert "1 folds hold nothing out" in refused(np.s_[:], "dti", 1)
    assert "needs a b=0 and 6 directions" in refused(np.s_[:9], "dti", 3)
    assert "needs a b=0 and 15 directions" in refused(np.s_[:20], "csd", 3)
    assert "needs a b=0" in refused(np.s_[2:], "dti", 3)


def test_csd_without_a_bundle_is_refused(bundle):
    _, bvals, bvecs = bundle
    isotropic = 1000 * np.exp(-bvals * 1e-3) * np.ones((*SHAPE, 1))
    with pytest.raises(InputError, match="CSD has no response"):
        cross_validate(
            isotropic, isotropic, bvals, bvecs, EVERYWHERE, "csd", 3, np.random.default_rng(0)
        )


def test_the_signal_of_one_voxel_is_kept_to_be_drawn(bundle):
    data, bvals, bvecs = bundle
    noisy = corrupt(data, 50.0, np.random.default_rng(2))
    found = cross_validate(data, noisy, bvals, bvecs, EVERYWHERE, "dti", 3, rng(), (2, 3, 1))
    assert found.voxel == (2, 3, 1)
    np.testing.assert_array_equal(found.measured, noisy[2, 3, 1, 2:])
    np.testing.assert_allclose(found.predicted, data[2, 3, 1, 2:], rtol=0.03)
    r = np.corrcoef(found.predicted, found.measured)[0, 1]
    assert found.r2[2, 3, 1] == pytest.approx(r**2, abs=1e-5)
