"""Slices: patches that show what they should, and slices back where they were."""

import numpy as np
import pytest
import torch

from quell.run import Run
from quell.slices import draw, map_slices

SHAPE = (20, 30, 4)


def coordinates() -> np.ndarray:
    """A series whose three volumes say where a voxel lies, (X, Y, Z, 3)."""
    return np.stack(np.indices(SHAPE), axis=-1).astype(np.float32)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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


def test_a_batch_is_a_copy():
    data, mask = coordinates(), scattered()
    batch = draw(data, mask, 8, 8, generator())
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
