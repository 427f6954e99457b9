"""Complex data: demodulated, denoised as real and imaginary parts, put together again."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from quell import denoise
from quell.demodulation import along, demodulate, remodulate
from quell.series import InputError, Series, shells, write_nifti
from quell.simulate import phantom

SIGMA = 30.0
TINY = {"steps": 60, "channels": 16, "patch": 24}


@pytest.fixture(scope="module")
def clean() -> Series:
    """The small phantom with a smooth phase: an echo shift along x and a curve along y."""
    scan = phantom("small").clean
    X, Y, _, V = scan.data.shape
    x, y = np.arange(X)[:, None] / X, np.arange(Y)[None] / Y
    turn = 2 * np.pi * 1.4 * x + 2 * (y - 0.5) ** 2
    phase = np.exp(1j * (turn[:, :, None, None] + 0.1 * np.arange(V)))
    return replace(scan, data=(scan.data * phase).astype(np.complex64))


@pytest.fixture(scope="module")
def noisy(clean) -> Series:
    rng = np.random.default_rng(3)
    n = rng.standard_normal((2, *clean.data.shape))
    return replace(clean, data=(clean.data + SIGMA * (n[0] + 1j * n[1])).astype(np.complex64))


def error(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    return float(np.mean(np.abs(a - b)[mask] ** 2))


def test_there_and_back_is_the_scan(noisy):
    real, phase = demodulate(noisy)
    assert real.data.shape[3] == 2 * noisy.n_volumes
    assert real.data.dtype == np.float32
    np.testing.assert_allclose(np.abs(phase), 1, rtol=1e-5)
    np.testing.assert_allclose(remodulate(real.data, phase), noisy.data, rtol=1e-4, atol=1e-2)


def test_the_signal_is_in_the_real_part(clean, noisy):
    real, _ = demodulate(noisy)
    V, where = noisy.n_volumes, noisy.mask
    raw = noisy.data.imag[where].std()
    turned = real.data[..., V:][where].std()
    assert raw > 5 * SIGMA  # before, both parts hold the image
    assert turned < 2 * SIGMA
    assert real.data[..., :V][where].mean() > 0.9 * np.abs(clean.data)[where].mean()


def test_gradients_are_told_twice_and_the_parts_are_shells_of_their_own(noisy):
    real, _ = demodulate(noisy)
    V = noisy.n_volumes
    np.testing.assert_array_equal(real.bvals, np.tile(noisy.bvals, 2))
    np.testing.assert_array_equal(real.bvecs[V:], noisy.bvecs)
    shell = shells(real)
    assert not set(shell[:V]) & set(shell[V:])
    np.testing.assert_array_equal(shell[:V], shells(noisy))


def test_a_strong_echo_shift_does_not_hide_the_phase():
    x = np.arange(64)
    image = np.exp(2j * np.pi * 9 * x / 64)[:, None, None, None] * np.ones((64, 48, 2, 1)) * 100
    scan = Series(image.astype(np.complex64), np.eye(4), nib.Nifti1Header())
    real, _ = demodulate(scan)
    np.testing.assert_allclose(real.data[..., 0], 100, rtol=1e-3)
    np.testing.assert_allclose(real.data[..., 1], 0, atol=0.1)


@pytest.mark.parametrize(
    ("method", "settings", "left"),
    [("joint", TINY, 0.5), ("c2s", TINY, 0.5), ("patch2self", {}, 0.8)],  # its 14 volumes are few
)
def test_complex_data_is_denoised_with_its_phase(clean, noisy, method, settings, left):
    result = denoise(noisy, method=method, threads=1, **settings)
    assert result.denoised.dtype == np.complex64
    assert result.denoised.shape == noisy.data.shape
    before = error(noisy.data, clean.data, noisy.mask)
    assert error(result.denoised, clean.data, noisy.mask) < left * before
    assert result.noise.law == "gaussian"
    assert np.median(result.noise.sigma[noisy.mask]) == pytest.approx(SIGMA, rel=0.05)
    assert np.iscomplexobj(result.residual)


def test_the_noise_floor_is_gone(clean, noisy):
    dark = noisy.mask & (np.abs(clean.data[..., -1]) < 2 * SIGMA)
    result = denoise(noisy, threads=1, **TINY)
    truth = np.abs(clean.data)[..., -1][dark].mean()
    floor = np.abs(noisy.data)[..., -1][dark].mean()
    got = np.abs(result.denoised)[..., -1][dark].mean()
    assert floor - truth > 0.15 * SIGMA  # else this shows nothing
    assert got - truth < 0.5 * (floor - truth)


def test_from_the_command_line_complex_stays_complex(quell, noisy, tmp_path):
    write_nifti(tmp_path / "in.nii.gz", noisy.data, noisy)
    words = "--method", "patch2self", "--residual-out", tmp_path / "r.nii.gz"
    ended = quell("denoise", tmp_path / "in.nii.gz", tmp_path / "out.nii.gz", *words)
    assert ended.status == 0, ended.err
    out = nib.load(tmp_path / "out.nii.gz")
    assert out.get_data_dtype() == np.complex64
    residual = np.asarray(nib.load(tmp_path / "r.nii.gz").dataobj)
    np.testing.assert_allclose(
        np.asarray(out.dataobj) + residual, noisy.data, atol=0.5 + 1e-3 * np.abs(noisy.data).max()
    )
    assert (tmp_path / "out_report.html").exists()


def test_a_pair_of_magnitude_and_phase_stays_a_pair(quell, noisy, tmp_path):
    write_nifti(tmp_path / "mag.nii.gz", np.abs(noisy.data), noisy)
    write_nifti(tmp_path / "phase.nii.gz", np.angle(noisy.data), noisy)
    write_nifti(tmp_path / "both.nii.gz", noisy.data, noisy)
    words = "--method", "patch2self", "--no-report"
    pair = "--phase", tmp_path / "phase.nii.gz", "--phase-out", tmp_path / "p.nii.gz"
    for name, out, more in (("mag", "m", pair), ("both", "c", ())):
        ended = quell(
            "denoise", tmp_path / f"{name}.nii.gz", tmp_path / f"{out}.nii.gz", *words, *more
        )
        assert ended.status == 0, ended.err
    m, p, c = (np.asarray(nib.load(tmp_path / f"{n}.nii.gz").dataobj) for n in "mpc")
    assert not np.iscomplexobj(m)
    np.testing.assert_allclose(m * np.exp(1j * p), c, atol=1e-2 * np.abs(c).max())
    ended = quell(
        "denoise", tmp_path / "mag.nii.gz", tmp_path / "x.nii.gz", *words, *pair[2:], "--force"
    )
    assert ended.status == 2
    assert "no phase to write" in ended.err


def test_check_names_complex_data_and_its_noise(quell, noisy, tmp_path):
    write_nifti(tmp_path / "in.nii.gz", noisy.data, noisy)
    ended = quell("check", tmp_path / "in.nii.gz")
    assert ended.status == 0, ended.out
    assert "the data are complex" in " ".join(ended.out.split())
    assert "gaussian" in ended.out


@pytest.mark.parametrize("law", ["rician", "nc-chi"])
def test_a_law_of_magnitudes_is_refused(noisy, law):
    with pytest.raises(InputError, match="complex data have Gaussian noise") as refused:
        denoise(noisy, method="patch2self", noise_law=law, coils=4.0 if law == "nc-chi" else None)
    assert refused.value.status == 2


def test_the_residual_of_a_pair_is_that_of_its_magnitudes(quell, noisy, tmp_path):
    write_nifti(tmp_path / "mag.nii.gz", np.abs(noisy.data), noisy)
    write_nifti(tmp_path / "phase.nii.gz", np.angle(noisy.data), noisy)
    words = "--method", "patch2self", "--no-report", "--phase", tmp_path / "phase.nii.gz"
    out, residual = tmp_path / "out.nii.gz", tmp_path / "r.nii.gz"
    ended = quell("denoise", tmp_path / "mag.nii.gz", out, *words, "--residual-out", residual)
    assert ended.status == 0, ended.err
    m, r = (np.asarray(nib.load(path).dataobj) for path in (out, residual))
    assert not np.iscomplexobj(r)
    np.testing.assert_allclose(m + r, np.abs(noisy.data), rtol=1e-3, atol=0.5)


def test_a_model_of_complex_data_is_refused_for_magnitude(quell, noisy, tmp_path):
    write_nifti(tmp_path / "c.nii.gz", noisy.data, noisy)
    write_nifti(tmp_path / "m.nii.gz", np.abs(noisy.data), noisy)
    words, model = ("--method", "patch2self", "--no-report"), tmp_path / "m.safetensors"
    made = quell(
        "denoise", tmp_path / "c.nii.gz", tmp_path / "o.nii.gz", *words, "--model-out", model
    )
    assert made.status == 0, made.err
    words = "--model", model, "--allow-mismatch", "--no-report"
    ended = quell("denoise", tmp_path / "m.nii.gz", tmp_path / "p.nii.gz", *words)
    assert ended.status == 1
    assert "was learned from complex data" in ended.err


def test_the_residual_is_measured_along_the_phase_volume_by_volume(noisy):
    statistics = denoise(noisy, threads=1, **TINY).statistics
    assert len(statistics.ratio_per_volume) == noisy.n_volumes  # not one for each part
    assert statistics.ratio == pytest.approx(1, abs=0.2)  # 60 steps leave some noise
    assert statistics.n_negative == 0
    np.testing.assert_allclose(statistics.shell_sizes, [2, 12])


def test_what_is_along_the_phase_of_the_result_has_the_noise_of_a_part():
    rng = np.random.default_rng(0)
    n = rng.standard_normal((2, 20, 20, 3, 2))
    result = 50 * np.exp(1j * rng.uniform(-3, 3, (20, 20, 3, 2)))
    seen, size = along(result, result + n[0] + 1j * n[1])
    np.testing.assert_allclose(size, 50, rtol=1e-6)
    assert (seen - size).std() == pytest.approx(1, abs=0.05)
    assert abs((seen - size).mean()) < 0.05
