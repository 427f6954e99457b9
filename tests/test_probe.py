"""Probing: structures are added as the scanner would see them, and what is left is measured."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage, stats

import quell
from conftest import correlated
from quell.noise import NoiseModel
from quell.probing import ONE, Probe, probes_of, short_probe
from quell.series import InputError, Series
from quell.simulate import corrupt, phantom
from quell.simulate.blobs import Blob, Kind, add_blobs, ball, detectability
from quell.simulate.placing import AROUND, MOST_BESIDE, MOST_BESIDE_ALL, groups_of, room_in

SHAPE, V, SIGMA = (44, 40, 14), 9, 5.0


def noise_of(shape: tuple[int, ...], law: str = "gaussian", N: float = 1.0) -> NoiseModel:
    return replace(correlated(), sigma=np.full(shape, SIGMA, np.float32), law=law, n_coils=N)


@pytest.fixture(scope="module")
def scan() -> Series:
    """A step of anatomy, 9 volumes, white Gaussian noise; signal over noise 20 and 40."""
    like, rng = phantom("small").clean, np.random.default_rng(1)
    clean = np.full((*SHAPE, V), 20 * SIGMA)
    clean[SHAPE[0] // 2 :] *= 2
    y = (clean + SIGMA * rng.standard_normal(clean.shape)).astype(np.float32)
    bvecs = rng.standard_normal((V, 3))
    bvecs /= np.linalg.norm(bvecs, axis=1, keepdims=True)
    bvals = np.r_[0.0, np.full(V - 1, 1000.0)]
    mask = np.zeros(SHAPE, bool)
    mask[1:-1, 1:-1, 1:-1] = True
    return replace(like, data=y, mask=mask, bvals=bvals, bvecs=bvecs)


def probed(scan: Series, seed: int = 0, **more) -> list[Probe]:
    return list(probes_of(scan, noise_of(SHAPE), np.random.default_rng(seed), **more))


# ---- what is measured ----------------------------------------------------------------------------


def test_a_method_that_changes_nothing_keeps_all_and_spreads_nothing(scan):
    (probe,) = probed(scan, n_scans=1)
    measured = probe.measure(scan.data, probe.data)
    for row in measured.rows(probe.noise.covariance):
        assert row.kept.mean == pytest.approx(1, abs=1e-5)
        for share in (row.rim, row.around, row.elsewhere, row.ghost):
            assert share.n == 0 or share.mean == pytest.approx(0, abs=1e-6)
    assert measured.added.rms == 0


def test_a_method_that_says_the_mean_everywhere_keeps_nothing(scan):
    def means(data: np.ndarray) -> np.ndarray:
        where = data.mean(axis=(0, 1, 2), dtype=np.float64, where=scan.mask[..., None])
        return np.broadcast_to(where, data.shape)

    (probe,) = probed(scan, n_scans=1, only=[ONE])
    (row,) = probe.measure(means(scan.data), means(probe.data)).rows(probe.noise.covariance)
    assert 0 < row.kept.mean < 0.01  # its own n of the N voxels have their share
    assert row.elsewhere.mean == pytest.approx(0, abs=0.03)  # the share of all others


def test_a_gaussian_filter_keeps_what_its_kernel_says(scan):
    def smooth(data: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(data, (1, 1, 1, 0), truncate=3)

    (probe,) = probed(scan, n_scans=1, only=[ONE])
    (row,) = probe.measure(smooth(scan.data), smooth(probe.data)).rows(probe.noise.covariance)
    k = np.exp(-0.5 * np.arange(-3, 4) ** 2)
    k /= k.sum()
    lags = ball(2.5, 14)[:, :, None] - ball(2.5, 14)[:, None, :]
    is_near = (np.abs(lags) <= 3).all(axis=0)
    weights = np.prod(k[np.clip(lags + 3, 0, 6)], axis=0) * is_near
    assert row.kept.mean == pytest.approx(weights.sum() / 81, abs=2e-3)  # a ball may lie at the rim
    assert row.kept.error < 2e-3
    assert row.rim.mean > row.around.mean > 0.01
    assert row.kept.mean + row.rim.mean + row.around.mean == pytest.approx(1, abs=0.05)


def test_what_goes_into_other_volumes_is_found_there(scan):
    def mixed(data: np.ndarray) -> np.ndarray:
        return 0.75 * data + 0.25 * np.roll(data, 1, axis=3)

    (probe,) = probed(scan, n_scans=1, only=[ONE])
    (row,) = probe.measure(mixed(scan.data), mixed(probe.data)).rows(probe.noise.covariance)
    found = [row.kept.mean, row.elsewhere.mean, row.ghost.mean]
    assert found == pytest.approx([0.75, 0.25, 0.25], abs=1e-4)


def test_the_standard_error_is_that_of_the_mean(scan):
    def thresholded(data: np.ndarray) -> np.ndarray:  # what it keeps depends on the noise
        mean = data.mean(axis=3, keepdims=True)
        return np.where(data - mean > 2.5 * SIGMA, data, mean)

    means, errors, rng = [], [], np.random.default_rng(7)
    weak, clean = [Kind(1.9, 3.0, 1)], np.full(scan.data.shape, 100.0, np.float32)
    for seed in range(40):
        y = clean + SIGMA * rng.standard_normal(clean.shape, np.float32)
        (probe,) = probed(replace(scan, data=y), seed, n_scans=1, only=weak, each=6)
        (row,) = probe.measure(thresholded(y), thresholded(probe.data)).rows(probe.noise.covariance)
        means.append(row.kept.mean)
        errors.append(row.kept.error)
    said = np.sqrt(np.mean(np.square(errors)))
    assert 0.7 < said / np.std(means, ddof=1) < 1.4  # 40 draws know a spread to 11 %


def test_what_is_made_where_nothing_was_is_found(scan):
    (probe,) = probed(scan, n_scans=1, only=[ONE])
    more = probe.data.copy()
    far = probe.scan.where.copy()
    for blob in probe.blobs:
        x, y, z = blob.centre
        far[max(0, x - 9) : x + 10, max(0, y - 9) : y + 10, max(0, z - 9) : z + 10] = False
    x, y, z = np.argwhere(far)[0]
    more[x, y, z, 3] += 4 * SIGMA
    assert probe.measure(scan.data, more).added.largest == pytest.approx(4, abs=1e-3)


# ---- how a structure gets into a scan ------------------------------------------------------------


@pytest.mark.parametrize(("law", "N"), [("rician", 1), ("nc-chi", 4)])
@pytest.mark.parametrize("signal", [0.5, 1.0, 2.0, 6.0])
def test_magnitudes_grow_as_those_of_a_stronger_signal(law, N, signal):
    clean, rng = np.full((24, 24, 9, 1), signal * SIGMA), np.random.default_rng(3)
    y = corrupt(clean, SIGMA, rng, law, N)
    inside = np.mgrid[2:22, 2:22, 1:8].reshape(3, -1)
    blob = Blob(Kind(9.0, 3.0, 1), inside, np.array([0]), False)
    more = add_blobs(y, [blob], noise_of(y.shape[:3], law, N), rng)[tuple(inside)].ravel()
    stronger = corrupt(clean + 3 * SIGMA, SIGMA, np.random.default_rng(4), law, N)
    goal = stronger[tuple(inside)].ravel()
    assert np.mean(more) == pytest.approx(np.mean(goal), abs=0.08 * SIGMA)
    assert np.std(more) == pytest.approx(np.std(goal), rel=0.1)
    assert stats.ks_2samp(more, goal).statistic < 0.06  # y + 3 sigma: .2 and more at low signal


def test_gaussian_data_grow_by_the_strength_and_nothing_else_changes(scan):
    (probe,) = probed(scan, n_scans=1)
    grown = np.zeros(scan.data.shape)
    for blob in probe.blobs:
        x, y, z = blob.voxels
        grown[x[:, None], y[:, None], z[:, None], blob.volumes] += blob.kind.strength * SIGMA
    assert np.allclose(probe.data - scan.data, grown, atol=1e-3)


def test_a_volume_of_more_noise_has_stronger_structures(scan):
    levels = np.linspace(1, 3, V)
    noise = replace(noise_of(SHAPE), levels=levels)
    probe = short_probe(scan, noise, np.random.default_rng(0))
    for blob in probe.blobs:
        more = (probe.data - scan.data)[tuple(blob.voxels)][:, blob.volumes]
        assert more.mean() == pytest.approx(5 * SIGMA * levels[blob.volumes[0]], rel=1e-3)
    (row,) = probe.measure(scan.data, probe.data).rows(noise.covariance)
    assert row.kept.mean == pytest.approx(1, abs=1e-4)


def test_in_complex_data_a_structure_has_the_phase_of_the_signal(scan):
    phase = np.exp(1j * np.linspace(0, 3, SHAPE[0])[:, None, None, None]).astype(np.complex64)
    phase = np.broadcast_to(phase, scan.data.shape)
    complex_scan = replace(scan, data=scan.data * phase)
    (probe,) = probed(complex_scan, n_scans=1, phase=phase, only=[ONE])
    blob = probe.blobs[0]
    at = (*blob.voxels[:, :, None], blob.volumes)
    assert np.allclose(probe.data[at] - complex_scan.data[at], 5 * SIGMA * phase[at], atol=1e-2)
    (row,) = probe.measure(complex_scan.data, probe.data).rows(probe.noise.covariance)
    assert row.kept.mean == pytest.approx(1, abs=1e-4)


def test_a_structure_of_white_noise_stands_out_by_the_root_of_its_voxels():
    kind, c = Kind(2.5, 5.0, 4), correlated().covariance
    assert detectability(kind, ball(2.5, 20), c) == pytest.approx(5 * 9 * 2)
    less = detectability(kind, ball(2.5, 20), correlated(x=0.4).covariance)
    assert 45 < less < 80


# ---- where it is put -----------------------------------------------------------------------------


@pytest.mark.parametrize(("radius", "n"), [(1.9, 27), (2.5, 81), (3.5, 179), (1.0, 7)])
def test_balls_have_the_sizes_that_are_said(radius, n):
    assert ball(radius, 20).shape == (3, n)
    assert (ball(radius, 1)[2] == 0).all()


def test_structures_lie_in_the_mask_apart_and_half_of_them_at_edges(scan):
    for probe in probed(scan):
        for i, blob in enumerate(probe.blobs):
            assert scan.mask[tuple(blob.voxels)].all()
            for other in probe.blobs[:i]:
                away = np.linalg.norm(blob.voxels[:, :, None] - other.voxels[:, None], axis=0)
                together = set(blob.volumes) & set(other.volumes)
                assert away.min() > (2 * AROUND - 1 if together else AROUND - 1)
        assert probe.beside <= (MOST_BESIDE, MOST_BESIDE_ALL)
        is_edge = np.array([blob.is_edge for blob in probe.blobs])
        away = np.abs(np.array([blob.centre[0] for blob in probe.blobs]) - SHAPE[0] / 2)
        assert np.median(away[is_edge]) < np.median(away[~is_edge])  # the step is in the middle
        assert 0.3 < is_edge.mean() < 0.7


def test_the_nearest_four_are_those_of_least_angle_and_no_b0(scan):
    closeness = np.abs(scan.bvecs @ scan.bvecs.T)
    closeness[:, 0] = -1
    for group in groups_of(scan)[4]:
        assert len(set(group)) == 4
        assert 0 not in group
    nearest = [set(np.argsort(-closeness[v])[:4]) for v in range(1, V)]
    assert [set(group) for group in groups_of(scan)[4]] == nearest


def test_the_same_seed_puts_the_same_structures(scan):
    one, two, other = (probed(scan, seed, n_scans=1)[0].data for seed in (3, 3, 4))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_one_image_has_structures_in_one_volume_only(scan):
    one = replace(scan, data=scan.data[..., 1:2], bvals=None, bvecs=None)
    (probe,) = probed(one, n_scans=1)
    assert {blob.kind.volumes for blob in probe.blobs} == {1}
    row = short_probe(one, noise_of(SHAPE), np.random.default_rng(0))
    said = row.measure(one.data, row.data).rows(row.noise.covariance)[0].sentence(1)
    assert said == "A 5 sigma structure of 81 voxels: 100 % would be kept (± 0)."


def test_a_single_slice_has_discs(scan):
    flat = replace(scan, data=scan.data[:, :, 6:7], mask=scan.mask[:, :, 6:7])
    probe = short_probe(flat, noise_of((*SHAPE[:2], 1)), np.random.default_rng(0))
    assert {blob.voxels.shape[1] for blob in probe.blobs} == {21}


def test_a_mask_without_room_is_refused_and_a_small_one_has_small_structures(scan):
    mask = np.zeros(SHAPE, bool)
    mask[4:7, 4:7, 4:7] = True
    small = short_probe(replace(scan, mask=mask), noise_of(SHAPE), np.random.default_rng(0))
    assert {blob.voxels.shape[1] for blob in small.blobs} <= {7, 27}
    mask[5, 5, 5] = False
    with pytest.raises(InputError, match="no room"):
        probed(replace(scan, mask=mask))


def test_places_without_signal_are_left_out(scan):
    data = scan.data.copy()
    data[:20] = 0
    room = room_in(replace(scan, data=data), noise_of(SHAPE), [1.9], np.random.default_rng(0))
    assert all(places[0].min() >= 21 for places in room.places.values())


# ---- many at once --------------------------------------------------------------------------------


LARGE, SMALL = np.s_[12:60, 14:70, 5:13], np.s_[16:52, 18:58, 5:12]
CASES = [("wiener", LARGE, 4), ("mppca", SMALL, 2)]  # the latter takes its time


@pytest.mark.parametrize(("method", "part", "n"), CASES)
def test_many_at_once_are_kept_as_each_alone(head, method, part, n):
    own, kept = head.clean, np.r_[0, 4:20]
    scale = np.float32(15 * SIGMA / head.white_matter_b0)
    clean = own.data[part][..., kept] * scale
    y = corrupt(clean, SIGMA, np.random.default_rng(0))
    scan = replace(own, data=y, mask=own.mask[part], bvals=own.bvals[kept], bvecs=own.bvecs[kept])
    noise = replace(noise_of(y.shape[:3]), eigenvalues=np.ones(y.shape[3]))

    def denoised(data: np.ndarray) -> np.ndarray:
        given = replace(scan, data=data)
        return quell.denoise(given, method=method, threads=1, noise_model=noise).denoised

    kinds = [ONE, Kind(2.5, 5.0, 4), Kind(1.9, 5.0, 1), Kind(2.5, 3.0, scan.n_volumes)]
    rng = np.random.default_rng(0)
    many = next(probes_of(scan, noise, rng, None, 1, kinds, 4))
    before = denoised(scan.data)
    together = many.measure(before, denoised(many.data)).responses
    chosen = [next(i for i, b in enumerate(many.blobs) if b.kind == kind) for kind in kinds]
    for i in chosen[:n]:
        blob = many.blobs[i]
        alone = replace(many, blobs=[blob], data=add_blobs(scan.data, [blob], noise, rng))
        ((_, said),) = alone.measure(before, denoised(alone.data)).responses
        assert together[i][1].kept == pytest.approx(said.kept, abs=0.03)


# ---- the short form of a run ---------------------------------------------------------------------


def test_a_run_says_what_it_keeps_and_the_result_is_the_same(scan):
    given = {"method": "wiener", "threads": 1}
    plain, told = (quell.denoise(scan, probe=probe, **given) for probe in (False, True))
    assert plain.probe is None
    assert np.array_equal(plain.denoised, told.denoised)
    assert told.probe.kind == ONE
    assert 0 < told.probe.kept.mean < 0.9
    assert told.probe.kept.n >= 4
    assert told.seconds["probe"] > 0


def test_a_run_that_would_have_to_train_once_more_does_not(scan):
    small = replace(scan, data=scan.data[:16, :16, :4], mask=None)
    quick = {"method": "c2s", "preset": "fast", "steps": 2, "threads": 1}
    assert quell.denoise(small, probe=True, **quick).probe is None
