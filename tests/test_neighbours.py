"""Neighbours: volumes of the same b-value, nearest direction first, or as they lie in the file."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from quell.series import InputError, Series, prior_volumes, shells, show_the_same


def series(bvals: list[float] | None, bvecs: np.ndarray | None = None, n: int = 0) -> Series:
    """A scan of one voxel; n volumes where there are no b-values."""
    n = n or len(bvals)
    return Series(
        np.ones((1, 1, 1, n), np.float32),
        np.eye(4),
        nib.Nifti1Header(),
        None if bvals is None else np.asarray(bvals, float),
        bvecs,
    )


def directions(n: int, seed: int = 0) -> np.ndarray:
    g = np.random.default_rng(seed).standard_normal((n, 3))
    return g / np.linalg.norm(g, axis=1, keepdims=True)


def in_a_plane(*degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    return np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)


def by_volume(groups: np.ndarray) -> dict[int, list[int]]:
    return {int(group[0]): group[1:].tolist() for group in groups}


# ---- shells --------------------------------------------------------------------------------------


def test_shells_rise_with_the_b_value_and_b0_is_the_first():
    assert shells(series([1000, 0, 2000, 5, 1005, 995])).tolist() == [1, 0, 2, 0, 1, 1]


def test_without_b0_the_lowest_shell_is_the_first():
    assert shells(series([2000, 700, 710])).tolist() == [1, 0, 0]


def test_b_values_100_apart_are_one_shell_and_101_apart_are_two():
    assert shells(series([1000, 1100])).tolist() == [0, 0]
    assert shells(series([1000, 1101])).tolist() == [0, 1]


def test_b_values_up_to_50_are_all_b0():
    assert shells(series([50, 0, 25, 151])).tolist() == [0, 0, 0, 1]


def test_without_b_values_all_volumes_are_one_shell():
    assert shells(series(None, n=3)).tolist() == [0, 0, 0]


# ---- by direction --------------------------------------------------------------------------------


def test_the_nearest_directions_come_first_whatever_their_sign():
    scan = series([1000] * 5, in_a_plane(0, 50, 170, 200, 100))
    # an axis has no sign: 170 is 10 away from 0, 200 is 20 away
    assert by_volume(prior_volumes(scan, 3))[0] == [2, 3, 1]


def test_a_volume_comes_first_in_its_own_group_and_never_again():
    scan = series([1000] * 12, directions(12))
    groups = prior_volumes(scan, 6)
    assert groups.shape == (12, 7)
    assert groups[:, 0].tolist() == list(range(12))
    assert (groups[:, 1:] != groups[:, :1]).all()
    assert all(len(set(group)) == 7 for group in groups.tolist())


def test_neighbours_are_those_of_least_angle():
    bvecs = directions(20, seed=1)
    groups = by_volume(prior_volumes(series([700] * 20, bvecs), 4))
    angle = np.rad2deg(np.arccos(np.clip(np.abs(bvecs @ bvecs.T), 0, 1)))
    for v, others in groups.items():
        expected = [u for u in np.argsort(angle[v]).tolist() if u != v]
        assert others == expected[:4]


def test_neighbours_lie_in_the_same_shell():
    bvals = [0, 1000, 2000, 1000, 2000, 0, 1000, 2000]
    bvecs = in_a_plane(0, 0, 0, 40, 5, 0, 80, 90) * (np.array(bvals) > 0)[:, None]
    scan = series(bvals, bvecs)
    shell = shells(scan)
    for v, others in by_volume(prior_volumes(scan, 2)).items():
        assert (shell[others] == shell[v]).all()


def test_more_neighbours_than_there_are_become_all_there_are():
    assert prior_volumes(series([1000] * 4, directions(4)), 9).shape == (4, 4)


def test_a_lone_b0_is_in_no_group():
    scan = series([0, 1000, 1000, 1000], np.vstack([np.zeros(3), directions(3)]))
    groups = prior_volumes(scan, 2)
    assert groups[:, 0].tolist() == [1, 2, 3]
    assert 0 not in groups


def test_a_small_shell_shows_its_volumes_more_than_once():
    scan = series([0, 0, *[1000] * 6], np.vstack([np.zeros((2, 3)), directions(6)]))
    groups = by_volume(prior_volumes(scan, 4))
    assert groups[0] == [1] * 4
    assert groups[1] == [0] * 4
    scan = series([0, 0, 0, *[1000] * 6], np.vstack([np.zeros((3, 3)), directions(6)]))
    assert by_volume(prior_volumes(scan, 3))[0] == [1, 2, 1]


def test_without_directions_the_nearest_in_the_file_are_taken():
    groups = by_volume(prior_volumes(series([1000] * 5), 2))
    assert groups == {0: [1, 2], 1: [0, 2], 2: [1, 3], 3: [2, 4], 4: [3, 2]}


def test_equal_directions_are_told_apart_by_their_place_in_the_file():
    scan = series([1000] * 6, in_a_plane(0, 90, 0, 180, 90, 0))
    assert by_volume(prior_volumes(scan, 3))[3] == [2, 5, 0]  # 1, 2 and 3 places away
    assert by_volume(prior_volumes(scan, 3))[0] == [2, 3, 5]


def test_b0_volumes_are_neighbours_by_their_place_whatever_stands_in_the_b_vectors():
    noise = directions(8, seed=2)
    bvals = [0, 1000, 0, 1000, 1000, 0, 1000, 0]
    assert by_volume(prior_volumes(series(bvals, noise), 2))[2] == [0, 5]


def test_permuting_the_volumes_permutes_the_groups():
    bvals = np.array([0, 0, *[1000] * 9, *[2000] * 7])
    bvecs = np.vstack([np.zeros((2, 3)), directions(16, seed=3)])
    order = np.random.default_rng(4).permutation(18)
    groups = by_volume(prior_volumes(series(bvals, bvecs), 5))
    turned = by_volume(prior_volumes(series(bvals[order], bvecs[order]), 5))
    assert len(turned) == 18
    for v, others in turned.items():
        assert order[others].tolist() == groups[int(order[v])]


# ---- by acquisition ------------------------------------------------------------------------------


def test_one_before_and_one_after_are_taken_around_the_ends():
    scan = series([1000] * 4)
    assert prior_volumes(scan, 2, "acquisition").tolist() == [
        [0, 3, 1],
        [1, 0, 2],
        [2, 1, 3],
        [3, 2, 0],
    ]


def test_a_single_prior_is_the_volume_before():
    scan = series([1000] * 3)
    assert prior_volumes(scan, 1, "acquisition").tolist() == [[0, 2], [1, 0], [2, 1]]


def test_half_lie_before_and_half_after():
    groups = by_volume(prior_volumes(series([1000] * 9), 4, "acquisition"))
    assert groups[4] == [2, 3, 5, 6]
    assert groups[0] == [7, 8, 1, 2]


def test_in_file_order_b0_is_left_out_and_nothing_else_is_asked():
    bvals = [0, 1000, 0, 2000, 700, 0]
    groups = prior_volumes(series(bvals, directions(6)), 2, "acquisition")
    assert groups.tolist() == [[1, 4, 3], [3, 1, 4], [4, 3, 1]]


# ---- repeats -------------------------------------------------------------------------------------


def test_repeats_have_the_same_b_value_and_direction_to_within_a_degree():
    bvals = [0, 1000, 1000, 1000, 0, 2000, 1000, 1000]
    bvecs = in_a_plane(0, 10, 10.5, 13, 40, 10, 190, 80) * (np.array(bvals) > 0)[:, None]
    groups = by_volume(prior_volumes(series(bvals, bvecs), 3, "repeats"))
    # an axis has no sign: 190 is 10; the nearest in the file come first, a pair shows its own twice
    assert groups == {0: [4, 4], 1: [2, 6], 2: [1, 6], 4: [0, 0], 6: [2, 1]}


def test_repetitions_all_show_the_same_and_contrasts_never_do():
    scan = series(None, n=3)
    repetitions = replace(scan, fourth_axis="repetitions")
    assert by_volume(prior_volumes(repetitions, 5, "repeats")) == {0: [1, 2], 1: [0, 2], 2: [1, 0]}
    assert not show_the_same(replace(series([0, 0, 0]), fourth_axis="echoes")).any()
    assert not show_the_same(scan).any()  # no b-values: who knows


def test_a_scan_without_repeats_is_refused():
    with pytest.raises(InputError, match="no volume was acquired twice"):
        prior_volumes(series([0, 1000, 1000], in_a_plane(0, 10, 90)), 2, "repeats")


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["directions", "acquisition"])
@pytest.mark.parametrize("bvals", [[1000], [0, 1000]])
def test_a_scan_without_two_alike_is_refused(by, bvals):
    with pytest.raises(InputError, match="no volume has another one like it"):
        prior_volumes(series(bvals, directions(len(bvals))), 2, by)


def test_three_b_values_once_each_are_refused_by_direction():
    with pytest.raises(InputError, match="same b-value"):
        prior_volumes(series([0, 1000, 2000], directions(3)), 2)
