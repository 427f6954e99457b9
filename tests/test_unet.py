"""U-Net: the same size out as in, zero before training, told by its condition."""

import pytest
import torch

from quell.unet import UNet, UNetSettings

SIZES_2D = [(1, 1), (3, 5), (7, 16), (33, 20), (64, 64)]
SIZES_3D = [(1, 3, 2), (5, 6, 7), (8, 8, 8), (4, 12, 9)]


def network(dimensions: int = 2, is_random: bool = True, multipliers=(1, 2, 2)) -> UNet:
    """Two channels in, one out; random weights everywhere, or as before training."""
    generator = torch.Generator().manual_seed(0)
    net = UNet(2, 1, 2, UNetSettings(16, multipliers, 16, dimensions))
    for parameter in net.parameters() if is_random else ():
        with torch.no_grad():
            parameter.normal_(0, 0.1, generator=generator)
    return net.eval()


@torch.no_grad()
def output(net: UNet, x: torch.Tensor, condition: float = 0.5) -> torch.Tensor:
    return net(x, torch.full((len(x), 2), condition))


def image(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", SIZES_2D + SIZES_3D)
def test_any_size_in_gives_the_same_size_out(size):
    out = output(network(len(size)), image(2, 2, *size))
    assert out.shape == (2, 1, *size)
    assert out.isfinite().all()
    assert out.abs().max() > 0


@pytest.mark.parametrize("dimensions", [2, 3])
def test_an_untrained_network_returns_exactly_zero(dimensions):
    out = output(network(dimensions, is_random=False), image(2, 2, *[9] * dimensions))
    assert (out == 0).all()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_condition_changes_the_output(dimensions):
    net, x = network(dimensions), image(1, 2, *[8] * dimensions)
    assert (output(net, x, 0.1) - output(net, x, 0.9)).abs().max() > 1e-4  # of about 0.1


def test_images_of_a_batch_do_not_see_each_other():
    net, x = network(), image(3, 2, 12, 12)
    alone = torch.cat([output(net, one[None]) for one in x])
    torch.testing.assert_close(output(net, x), alone, rtol=1e-4, atol=1e-5)  # order of summing


@pytest.mark.parametrize(
    ("dimensions", "multipliers", "size"), [(2, (1, 2, 2), 64), (3, (1, 2), 36)]
)
def test_a_shift_by_the_coarsest_pixel_shifts_the_output(dimensions, multipliers, size):
    net = network(dimensions, multipliers=multipliers)
    x = torch.zeros(1, 2, *[size] * dimensions)
    middle = (slice(None), slice(None), *[slice(size // 2 - 4, size // 2 + 4)] * dimensions)
    x[middle] = image(1, 2, *[8] * dimensions)
    axes = list(range(2, 2 + dimensions))
    moved = output(net, x.roll([net.multiple] * dimensions, axes))
    expected = output(net, x).roll([net.multiple] * dimensions, axes)
    inner = (slice(None), slice(None), *[slice(size // 2 - 6, size // 2 + 8)] * dimensions)
    # the group normalisation sums in another order
    torch.testing.assert_close(moved[inner], expected[inner], rtol=1e-3, atol=1e-4)
    assert (moved - output(net, x))[inner].abs().max() > 0.01


def test_what_is_padded_is_the_last_row_and_column():
    net, x = network(), image(1, 2, 7, 8)
    padded = torch.cat([x, x[:, :, -1:]], dim=2)
    torch.testing.assert_close(output(net, x), output(net, padded)[:, :, :7])


def test_the_order_of_the_channels_in_memory_does_not_matter():
    net, x = network(), image(2, 2, 8, 12)
    torch.testing.assert_close(
        output(net, x), output(net, x.contiguous(memory_format=torch.channels_last))
    )


def test_every_row_of_every_weight_learns_once_the_last_convolution_has():
    net = network()
    net(image(1, 2, 8, 8), torch.ones(1, 2)).square().sum().backward()
    moved = {name: p.grad.flatten(1).any(1) for name, p in net.named_parameters() if p.ndim > 1}
    assert [name for name, rows in moved.items() if not rows.all()] == []
