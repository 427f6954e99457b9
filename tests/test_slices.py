"""Slices: patches that show what they should, and slices back where they were."""

import numpy as np
import pytest
import torch

from conftest import generator
from quell.run import Run
from quell.slices import Batch, draw, map_images, map_slices

SHAPE = (20, 30, 4)


def coordinates() -> np.ndarray:
    """A series whose three volumes say where a voxel lies, (X, Y, Z, 3)."""
    return np.stack(np.indices(SHAPE), axis=-1).astype(np.float32)


def scattered() -> np.ndarray:
    x, y, z = np.indices(SHAPE)
    return (3 * x + 5 * y + z) % 97 == 0  # a voxel in a hundred


def test_every_patch_holds_a_voxel_of_the_mask():
    batch = draw(coordinates(), scattered(), 200, 8, generator())
    assert (batch.mask.sum(dim=(1, 2)) >= 1).all()
    lone = np.zeros(SHAPE, bool)
    lone[0, 29, 3] = True  # in a corner
    assert (draw(coordinates(), lone, 50, 8, generator()).mask.sum(dim=(1, 2)) == 1).all()


def test_a_mask_voxel_may_lie_anywhere_in_its_patch():
    lone = np.zeros(SHAPE, bool)
    lone[10, 15, 2] = True
    batch = draw(coordinates(), lone, 500, 4, generator())
    assert (batch.mask.sum(dim=0) > 0).all()  # 16 places, about 31 patches each


def test_flips_keep_volumes_and_mask_together():
    mask = scattered()
    batch = draw(coordinates(), mask, 100, 8, generator())
    x, y, z = batch.y.long().numpy().transpose(1, 0, 2, 3)
    np.testing.assert_array_equal(batch.mask.numpy(), mask[x, y, z])


def test_patches_come_in_all_four_orientations_and_are_whole_neighbourhoods():
    batch = draw(coordinates(), np.ones(SHAPE, bool), 100, 8, generator())
    steps_x = (batch.y[:, 0, 1:] - batch.y[:, 0, :-1]).flatten(1)
    steps_y = (batch.y[:, 1, :, 1:] - batch.y[:, 1, :, :-1]).flatten(1)
    for steps in (steps_x, steps_y):
        assert (steps == steps[:, :1]).all()
        assert (steps.abs() == 1).all()
    assert (
        len({(a.item(), b.item()) for a, b in zip(steps_x[:, 0], steps_y[:, 0], strict=True)}) == 4
    )


def test_every_voxel_of_the_mask_is_drawn_as_often_as_another():
    mask = np.zeros(SHAPE, bool)
    mask[2, 3, 0] = mask[17, 25, 3] = True
    batch = draw(coordinates(), mask, 1000, 1, generator())
    assert float((batch.y[:, 2] == 3).float().mean()) == pytest.approx(0.5, abs=0.06)  # 4 sd


def test_slices_smaller_than_a_patch_are_taken_whole():
    batch = draw(coordinates(), scattered(), 3, 24, generator())
    assert batch.y.shape == (3, 3, 20, 24)
    assert batch.mask.shape == (3, 20, 24)


def test_the_same_generator_draws_the_same_batch():
    a, b, c = (draw(coordinates(), scattered(), 8, 8, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(a.y, b.y)
    assert torch.equal(a.mask, b.mask)
    assert not torch.equal(a.y, c.y)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_tensor_gives_the_batch_that_its_array_gives(dimensions):
    data, mask = coordinates(), scattered()
    data.flags.writeable = False
    a, b = (
        draw(one, mask, 8, 4, generator(), dimensions=dimensions)
        for one in (data, torch.from_numpy(data.copy()))
    )
    assert torch.equal(a.y, b.y)
    assert torch.equal(a.mask, b.mask)


@pytest.mark.parametrize("of", [np.asarray, torch.from_numpy])
def test_a_batch_is_a_copy(of):
    data, mask = coordinates(), scattered()
    batch = draw(of(data), mask, 8, 8, generator())
    batch.y.zero_(), batch.mask.zero_()
    np.testing.assert_array_equal(data, coordinates())
    np.testing.assert_array_equal(mask, scattered())


def test_slices_that_nothing_changes_come_back_as_the_series():
    data = coordinates()
    back = map_slices(lambda y: y, data, Run())
    np.testing.assert_array_equal(back, data)
    assert back.dtype == np.float32
    assert not np.shares_memory(back, data)


def test_each_slice_is_restored_by_itself_and_in_its_place():
    seen = []

    def mark(y: torch.Tensor) -> torch.Tensor:
        seen.append(y.shape)
        return y[:, 2:] * 10 + 1  # one volume of three

    out = map_slices(mark, coordinates(), Run())
    assert seen == [(1, 3, 20, 30)] * 4
    np.testing.assert_array_equal(out, coordinates()[..., 2:] * 10 + 1)


def test_no_gradients_are_kept_of_restored_slices():
    weight = torch.ones(1, requires_grad=True)
    graphs = []
    map_slices(lambda y: graphs.append((y * weight).requires_grad) or y, coordinates(), Run())
    assert graphs == [False] * 4


# ---- groups of volumes ---------------------------------------------------------------------------


def many() -> np.ndarray:
    """Six volumes that say which one they are, in which slice and where, (X, Y, Z, 6)."""
    x, y, z = np.indices(SHAPE)
    place = x * 100 + y + z * 10_000
    return np.stack([place + v * 100_000 for v in range(6)], axis=-1).astype(np.float32)


GROUPS = np.array([[3, 0, 1], [5, 2, 4]])


def test_a_patch_shows_the_volumes_of_its_group_in_their_order():
    batch = draw(many(), scattered(), 60, 8, generator(), GROUPS)
    volumes = (batch.y // 100_000).long()
    expected = torch.from_numpy(GROUPS)[batch.group][:, :, None, None].expand_as(volumes)
    assert torch.equal(volumes, expected)
    assert set(batch.group.tolist()) == {0, 1}


def test_all_volumes_of_a_patch_show_the_same_place_and_its_slice_is_said():
    batch = draw(many(), np.ones(SHAPE, bool), 60, 8, generator(), GROUPS)
    place = batch.y % 100_000
    assert torch.equal(place, place[:, :1].expand_as(place))
    z = (place[:, 0] // 10_000).long()
    assert torch.equal(z, batch.z[:, None, None].expand_as(z))
    assert set(batch.z.tolist()) == {0, 1, 2, 3}


def test_every_group_is_drawn_as_often_as_another():
    groups = np.arange(6)[:, None]
    batch = draw(many(), np.ones(SHAPE, bool), 1200, 1, generator(), groups)
    shares = torch.bincount(batch.group, minlength=6) / 1200
    torch.testing.assert_close(shares, torch.full((6,), 1 / 6), rtol=0, atol=0.045)  # 4 sd


def test_without_groups_all_volumes_are_channels_and_the_group_is_the_first():
    batch = draw(many(), scattered(), 5, 8, generator())
    assert batch.y.shape[1] == 6
    assert (batch.group == 0).all()


def test_in_3d_a_patch_is_as_deep_as_wide_and_keeps_mask_and_order():
    mask = scattered()
    batch = draw(coordinates(), mask, 40, 3, generator(), np.array([[0, 1, 2]]), dimensions=3)
    assert batch.y.shape == (40, 3, 3, 3, 3)
    assert batch.mask.shape == (40, 3, 3, 3)
    x, y, z = batch.y.long().numpy().transpose(1, 0, 2, 3, 4)
    np.testing.assert_array_equal(batch.mask.numpy(), mask[x, y, z])
    assert (np.diff(z, axis=3) == 1).all()  # never upside down
    assert (
        len(
            {
                (a, b)
                for a, b in zip(
                    np.diff(x, axis=1)[:, 0, 0, 0], np.diff(y, axis=2)[:, 0, 0, 0], strict=True
                )
            }
        )
        == 4
    )
    assert (batch.z == 0).all()


def test_in_3d_a_thin_scan_is_taken_whole():
    batch = draw(coordinates(), scattered(), 3, 8, generator(), dimensions=3)
    assert batch.y.shape == (3, 3, 8, 8, 4)


# ---- images of groups ----------------------------------------------------------------------------


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("n_at_once", [1, 3, 100])
def test_images_that_nothing_changes_come_back_as_the_volumes(n_at_once, dimensions):
    out = map_images(
        lambda batch: batch.y[:, :1], many(), scattered(), GROUPS, Run(), n_at_once,
        dimensions=dimensions,
    )  # fmt: skip
    np.testing.assert_array_equal(out, many()[..., GROUPS[:, 0]])
    assert out.dtype == np.float32


def test_an_image_knows_its_group_its_slice_and_its_mask():
    seen = []

    def look(batch: Batch) -> torch.Tensor:
        for y, mask, g, z in zip(batch.y, batch.mask, batch.group, batch.z, strict=True):
            np.testing.assert_array_equal(y.numpy(), np.moveaxis(many()[:, :, z, GROUPS[g]], -1, 0))
            np.testing.assert_array_equal(mask.numpy(), scattered()[:, :, z])
            seen.append((int(g), int(z)))
        return batch.y[:, 1:2]

    out = map_images(look, many(), scattered(), GROUPS, Run(), 3)
    assert seen == [(g, z) for g in range(2) for z in range(4)]
    np.testing.assert_array_equal(out, many()[..., GROUPS[:, 1]])


def test_images_come_in_batches_and_volumes_one_at_a_time():
    sizes = []

    def count(batch: Batch) -> torch.Tensor:
        sizes.append(tuple(batch.y.shape))
        return batch.y[:, :1]

    map_images(count, many(), scattered(), GROUPS, Run(), 3)
    assert sizes == [(3, 3, 20, 30), (3, 3, 20, 30), (2, 3, 20, 30)]
    sizes.clear()
    map_images(count, many(), scattered(), GROUPS, Run(), 3, dimensions=3)
    assert sizes == [(1, 3, 20, 30, 4)] * 2


# ---- means in the mask ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 2)])
def test_the_mean_and_the_rms_are_those_of_the_mask(shape):
    mask = (torch.rand((3, *shape), generator=generator()) < 0.3).float()
    y, x = (torch.randn((3, 2, *shape), generator=generator(seed)) for seed in (1, 2))
    batch, inside = Batch(y, mask), mask.bool()
    torch.testing.assert_close(batch.mean(x[:, :1]), x[:, 0][inside].mean())
    rows = torch.tensor([2, 0])
    expected = [(x[k, 0] - y[b, 0])[inside[b]].square().mean().sqrt() for k, b in enumerate(rows)]
    torch.testing.assert_close(batch.rms(x[:2, :1], rows), torch.stack(expected))


def test_without_a_voxel_in_the_mask_the_mean_is_zero_and_there_is_no_distance():
    y = torch.ones(1, 1, 4, 4)
    batch = Batch(y, torch.zeros(1, 4, 4))
    assert batch.mean(y) == 0
    assert batch.rms(2 * y, torch.tensor([0])).isnan().all()
