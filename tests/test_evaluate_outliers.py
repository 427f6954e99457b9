"""A slice that dropped out is found, and only it; noise alone shows none."""

import numpy as np
import pytest

from quell.evaluate.outliers import Outlier, SliceResiduals, outliers, share_of, slice_residual

GRID, V = (24, 24, 12), 24
BVALS = np.array([0.0] * 4 + [1000.0] * 20)
WHERE = np.ones(GRID, bool)
WHERE[:, :, 0] = False  # no mask in the first slice


def noise(seed: int, smooth: bool = False) -> np.ndarray:
    """(X, Y, Z, V) noise over σ; smooth: neighbours along x correlate by 1/2."""
    z = np.random.default_rng(seed).standard_normal((*GRID, V))
    return (z + np.roll(z, 1, axis=0)) / np.sqrt(2) if smooth else z


def residuals(z: np.ndarray) -> SliceResiduals:
    rows = [slice_residual(z[..., v], WHERE) for v in range(z.shape[3])]
    size, mean = (np.array(part) for part in zip(*rows, strict=True))
    return SliceResiduals(size, mean)


def found(z: np.ndarray, bvals: np.ndarray | None = BVALS) -> list[Outlier]:
    return outliers(residuals(z), bvals)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_noise_alone_shows_no_slice(seed: int, smooth: bool) -> None:
    assert found(noise(seed, smooth)) == []


def test_a_slice_that_dropped_out_is_found_and_only_it() -> None:
    z = noise(1)
    z[:, :, 5, 7] -= 2  # the scan lost 2 σ of signal there, the result did not
    (outlier,) = found(z)
    assert (outlier.volume, outlier.slices) == (7, (5,))
    assert "darker" in outlier.kind
    assert not outlier.is_whole


def test_a_slice_with_spikes_is_found_by_its_size() -> None:
    z = noise(2)
    z[:, :, 3, 9] *= 1.6
    (outlier,) = found(z)
    assert (outlier.volume, outlier.slices) == (9, (3,))
    assert "larger" in outlier.kind
    assert outlier.size == pytest.approx(1.6, rel=0.1)  # 576 voxels tell it to 3 %


def test_a_volume_that_moved_is_found_as_a_whole() -> None:
    z = noise(3)
    z[..., 11] += 1
    (outlier,) = found(z)
    assert outlier.is_whole
    assert "brighter" in outlier.kind
    assert len(outlier.slices) == outlier.n_slices == 11  # the first slice has no mask


def test_what_all_volumes_of_a_shell_share_is_not_found() -> None:
    z = noise(4)
    z[:, :, 6] *= 2  # the noise map is wrong there, for all alike
    z[..., :4] += 1  # the b=0 as a shell
    assert found(z) == []


def test_a_shell_of_few_volumes_is_not_judged() -> None:
    z = noise(5)
    z[:, :, 5, 0] -= 5
    assert found(z, np.array([0.0] * 3 + [1000.0] * 21)) == []


def test_without_b_values_all_volumes_are_one_shell() -> None:
    z = noise(6)
    z[:, :, 5, 0] -= 2
    assert [outlier.volume for outlier in found(z, None)] == [0]


def test_the_worst_comes_first_and_the_share_counts_slices() -> None:
    z = noise(7)
    z[:, :, 4, 8] -= 1
    z[:, :, 4:6, 9] -= 3
    both = found(z)
    assert [outlier.volume for outlier in both] == [9, 8]
    assert share_of(both, residuals(z)) == pytest.approx(3 / (11 * V))


def test_a_method_that_does_nothing_shows_nothing() -> None:
    assert found(np.zeros((*GRID, V))) == []
