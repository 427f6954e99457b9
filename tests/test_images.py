"""Images: which volumes are shown together, in what units, and what an image is given of chance."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import generator
from quell.images import Images, draw_from
from quell.run import Run
from quell.series import InputError, Series
from quell.simulate import phantom
from quell.slices import Batch


@pytest.fixture(scope="module")
def scan() -> Series:
    """2 b0 and 12 directions, 16 x 18 x 3 voxels."""
    clean = phantom("small").clean
    here = np.s_[8:24, 9:27, 4:7]
    return replace(clean, data=clean.data[here], mask=clean.mask[here].copy())


def test_every_volume_is_an_image_with_its_own_mean_and_size(scan):
    im = Images.of(scan)
    assert im.groups.tolist() == [[v] for v in range(14)]
    inside = scan.data[scan.mask].astype(float)
    np.testing.assert_allclose(im.mean[:, 0], inside.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(im.sd[:, 0], inside.std(axis=0), rtol=1e-6)


def test_others_come_from_the_shell_and_contrasts_from_the_scan(scan):
    im = Images.of(replace(scan, contrasts=5 * scan.data[..., :2]), 1)
    for v, (own, other, *contrasts) in enumerate(im.groups.tolist()):
        assert own == v
        assert other != v
        assert scan.is_b0[other] == scan.is_b0[v]
        assert contrasts == [14, 15]
    assert im.n_beside == 3
    np.testing.assert_array_equal(im.data[..., 14:], 5 * scan.data[..., :2])
    np.testing.assert_allclose(im.sd[:, 2], 5 * im.sd[0, 0], rtol=1e-6)


def test_standardised_images_have_mean_0_and_variance_1_in_the_mask(scan):
    im = Images.of(scan, 1)
    y = torch.from_numpy(np.moveaxis(scan.data[..., im.groups[5]].reshape(1, -1, 3, 2), -1, 1))
    inside = im.standardised(y, torch.tensor([5]))[0][:, torch.from_numpy(scan.mask.reshape(-1, 3))]
    torch.testing.assert_close(inside.mean(dim=1), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(inside.std(dim=1, correction=0), torch.ones(2), rtol=0, atol=1e-5)


def test_scans_that_show_different_numbers_of_images_are_refused(scan):
    with pytest.raises(InputError, match="differ in how many"):
        Images.of_all([scan, replace(scan, contrasts=scan.data[..., :1])])


def test_a_volume_that_has_no_other_like_it_is_refused(scan):
    kept = np.arange(1, 14)
    lone = replace(scan, data=scan.data[..., kept], bvals=scan.bvals[kept], bvecs=scan.bvecs[kept])
    with pytest.raises(InputError, match="others=0"):
        Images.of(lone, 2)


def test_a_batch_is_of_one_scan_and_says_of_which(scan):
    scans = [scan, replace(scan, data=2 * scan.data + 1)]
    batches = [draw_from(Images.of_all(scans), 2, 16, generator(seed)) for seed in range(20)]
    assert {batch.scan for batch in batches} == {0, 1}
    for batch in batches:
        source = scans[batch.to(torch.device("cpu")).scan].data
        for patch, v in zip(batch.y[:, 0], batch.group.tolist(), strict=True):
            assert np.isin(patch.numpy(), source[..., v]).all()


def noise_of(scan: Series, places: list[tuple[int, int]], seed: int = 0) -> torch.Tensor:
    """The second noise of these volumes and slices."""
    n, white = len(places), torch.ones(24, 14)
    group, z = (torch.tensor(column) for column in zip(*places, strict=True))
    batch = Batch(torch.zeros(n, 1, 16, 18), torch.ones(n, 16, 18), group, z)
    again = Images.of(scan).fresh_noise(batch, white, Run(seed=seed))
    first, second = next(again), next(again)
    assert (first - second).abs().mean() > 0.5
    return second


def test_an_image_is_given_the_same_noise_whatever_batch_it_is_in(scan):
    places = [(0, 0), (0, 1), (1, 0), (7, 2)]
    together, alone = noise_of(scan, places), [noise_of(scan, [place]) for place in places]
    assert torch.equal(together, torch.cat(alone))
    assert together.std() == pytest.approx(1, abs=0.1)
    for k in range(3):
        assert (together[k] - together[k + 1]).abs().mean() > 0.5  # no two images the same
    assert (together - noise_of(scan, places, seed=1)).abs().mean() > 0.5
