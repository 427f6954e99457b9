"""Magnitude and phase from two files: one complex scan, whatever unit the phase is in."""

import nibabel as nib
import numpy as np
import pytest

from quell.series import InputError, load

SHAPE = (7, 6, 5, 4)
AFFINE = np.diag([2.0, 2, 3, 1])


def angles():
    """Radians from -π to π, as noise has them."""
    return np.random.default_rng(0).uniform(-np.pi, np.pi, SHAPE)


def magnitudes():
    return np.random.default_rng(1).uniform(0, 900, SHAPE).astype(np.float32)


def save(path, array, affine=AFFINE):
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


@pytest.fixture
def pair(tmp_path):
    """A function that writes magnitude and phase and reads them as one scan."""

    def read(phase, magnitude=None, affine=AFFINE):
        magnitude = magnitudes() if magnitude is None else magnitude
        scan = save(tmp_path / "mag.nii.gz", magnitude)
        return load(scan, phase=save(tmp_path / "phase.nii.gz", phase, affine))

    return read


IN_UNITS = {
    "radians": lambda a: a,
    "radians from 0": lambda a: np.mod(a, 2 * np.pi),
    "-4096 ... 4095": lambda a: np.round(a / np.pi * 4095.5 - 0.5),
    "0 ... 4095": lambda a: np.floor((a + np.pi) / (2 * np.pi) * 4096),
}


@pytest.mark.parametrize("unit", IN_UNITS)
def test_magnitude_and_phase_become_one_complex_scan(pair, unit):
    phase = IN_UNITS[unit](angles())
    series = pair(phase.astype(np.float32 if "radians" in unit else np.int16))
    assert series.data.dtype == np.complex64
    expected = magnitudes() * np.exp(1j * angles())
    np.testing.assert_allclose(series.data, expected, atol=900 * 2 * np.pi / 4096)


def test_the_magnitude_is_kept_to_the_last_digits(pair):
    series = pair(angles().astype(np.float32))
    np.testing.assert_allclose(np.abs(series.data), magnitudes(), rtol=1e-6)
    assert series.path.name == "mag.nii.gz"


def test_what_has_no_phase_is_left_out(pair):
    phase = angles().astype(np.float32)
    phase[1, 2, 3, 0] = np.nan
    series = pair(phase)
    assert series.n_nonfinite == 1
    assert series.nonfinite[1, 2, 3]
    assert not series.data[1, 2, 3].any()


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        (180 / np.pi * angles(), "neither radians nor a scanner's"),
        (1000 * angles(), "convert it to radians"),
        (np.round(angles() * 300 + 900), "convert it to radians"),
        (angles()[..., :3], "is 7 x 6 x 5 x 3 and the magnitude 7 x 6 x 5 x 4"),
        (np.exp(1j * angles()), "is complex"),
        (np.zeros(SHAPE), "every voxel is 0"),
    ],
)
def test_a_phase_that_does_not_fit_is_refused(pair, phase, words):
    kind = np.complex64 if np.iscomplexobj(phase) else np.float32
    with pytest.raises(InputError) as caught:
        pair(phase.astype(kind))
    assert words in str(caught.value)
    assert "phase.nii.gz" in str(caught.value)


@pytest.mark.parametrize(
    ("magnitude", "words"),
    [
        (magnitudes().astype(np.complex64) * 1j, "complex already"),
        (magnitudes() - 100, "negative values"),
    ],
)
def test_what_is_no_magnitude_is_refused(pair, magnitude, words):
    with pytest.raises(InputError, match=words):
        pair(angles().astype(np.float32), magnitude)


def test_a_phase_on_another_grid_is_refused(pair):
    with pytest.raises(InputError, match="lies elsewhere"):
        pair(angles().astype(np.float32), affine=np.diag([2.0, 2, 3.1, 1]))


def test_a_phase_that_is_not_there_is_named(tmp_path):
    scan = save(tmp_path / "mag.nii.gz", magnitudes())
    with pytest.raises(InputError, match=r"none\.nii does not exist"):
        load(scan, phase=tmp_path / "none.nii")
