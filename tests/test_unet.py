"""U-Net: the same size out as in, zero before training, told by its condition."""

import pytest
import torch

from quell.unet import (
    PUBLISHED,
    Attention,
    MaxBlurPool,
    Pool,
    Sr3Block,
    UNet,
    UNetSettings,
)

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


# ---- blurred before it is halved -----------------------------------------------------------------


@pytest.mark.parametrize("dimensions", [2, 3])
def test_max_blur_pooling_is_the_largest_of_neighbours_blurred_and_every_other(dimensions):
    x = image(1, 3, *[8] * dimensions)
    largest = x
    for axis in range(2, 2 + dimensions):
        last = largest.narrow(axis, 7, 1)
        largest = torch.maximum(largest, torch.cat([largest.narrow(axis, 1, 7), last], axis))
    for axis in range(2, 2 + dimensions):
        before = torch.cat([largest.narrow(axis, 0, 1), largest.narrow(axis, 0, 7)], axis)
        after = torch.cat([largest.narrow(axis, 1, 7), largest.narrow(axis, 7, 1)], axis)
        largest = (before / 4 + largest / 2 + after / 4).index_select(axis, torch.arange(0, 8, 2))
    torch.testing.assert_close(MaxBlurPool(dimensions)(x, None), largest)


@pytest.mark.parametrize("size", SIZES_2D[1:] + SIZES_3D)
def test_without_a_skip_at_full_resolution_any_size_does(size):
    settings = UNetSettings(8, (1, 2, 2), 8, len(size), pooling="max-blur", skips_from=1)
    net, x = UNet(2, 1, 0, settings), image(2, 2, *size)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 0.1, generator=generator)
        out = net(x)
    assert out.shape == (2, 1, *size)
    assert out.isfinite().all()
    assert out.std() > 0


@torch.no_grad()
def test_without_a_skip_at_full_resolution_the_answer_is_made_of_half_of_it():
    """Two inputs that pool to the same differ in the answer only where a skip hands them on."""
    differs = []
    for skips_from in (0, 1):
        net = UNet(1, 1, 0, UNetSettings(8, (1, 2), 8, skips_from=skips_from))
        generator = torch.Generator().manual_seed(0)
        for parameter in net.parameters():
            parameter.normal_(0, 0.1, generator=generator)
        (pool,) = (layer for layer in net.encoder if isinstance(layer, Pool))
        pool.register_forward_hook(lambda _, given, out: torch.zeros_like(out))
        differs.append((net(image(1, 1, 8, 8)) - net(image(1, 1, 8, 8, seed=2))).abs().max())
    assert differs[0] > 0.01
    assert differs[1] == 0


# ---- as published --------------------------------------------------------------------------------


def sr3(dimensions: int = 2, n_in: int = 2, n_condition: int = 1, is_random: bool = True) -> UNet:
    """A small network of the published form, with random weights or torch's own."""
    settings = UNetSettings(8, (1, 2, 2), 8, dimensions, groups=8, is_sr3=True, attention=(1,))
    generator = torch.Generator().manual_seed(0)
    net = UNet(n_in, 1, n_condition, settings)
    for parameter in net.parameters() if is_random else ():
        with torch.no_grad():
            parameter.normal_(0, 0.2, generator=generator)
    return net.eval()


def told(x: torch.Tensor, value: float) -> torch.Tensor:
    return torch.full((len(x), 1), value)


@pytest.mark.parametrize(
    ("n_in", "n_condition", "n_weights"), [(2, 0, 24_325_761), (1, 1, 24_472_161)]
)
def test_the_published_network_has_as_many_weights_as_the_original(n_in, n_condition, n_weights):
    with torch.device("meta"):  # sizes alone, no memory
        net = UNet(n_in, 1, n_condition, PUBLISHED)
    assert sum(p.numel() for p in net.parameters()) == n_weights
    assert all(p.requires_grad for p in net.parameters())
    if n_condition:
        assert len(list(net.parameters())) == 362


def test_without_attention_on_the_fourth_level_25_weights_are_missing():
    settings = UNetSettings(**{**PUBLISHED.__dict__, "attention": ()})
    with torch.device("meta"):
        net = UNet(1, 1, 1, settings)
    assert len(list(net.parameters())) == 337  # as users' logs say


@pytest.mark.parametrize("size", [*SIZES_2D[1:], *SIZES_3D, (1, 9), (2, 1, 5)])
def test_any_size_in_gives_the_same_size_out_of_the_published_form(size):
    x = image(2, 2, *size)
    with torch.no_grad():
        out = sr3(len(size))(x, told(x, 0.5))
    assert out.shape == (2, 1, *size)
    assert out.isfinite().all()
    assert out.std() > 0


@torch.no_grad()
def test_the_published_form_sees_its_level_and_works_without():
    net, x = sr3(), image(1, 2, 9, 8)
    assert (net(x, told(x, 0.2)) - net(x, told(x, 0.9))).abs().max() > 1e-3
    assert torch.equal(sr3(n_condition=0)(x), sr3(n_condition=0)(x, None))


@torch.no_grad()
def test_images_of_a_batch_do_not_see_each_other_in_the_published_form():
    net, x = sr3(), image(3, 2, 9, 12)
    levels = torch.tensor([[0.1], [0.5], [0.9]])
    alone = torch.cat([net(x[[i]], levels[[i]]) for i in range(3)])
    torch.testing.assert_close(net(x, levels), alone, rtol=1e-4, atol=1e-4)  # order of summing


def test_every_row_of_every_published_weight_learns_from_the_start():
    net = sr3(is_random=False)
    x = image(1, 2, 8, 8)
    net(x, told(x, 0.5)).square().sum().backward()
    still = [name for name, p in net.named_parameters() if not p.grad.any()]
    assert still == []


@torch.no_grad()
def test_the_noise_level_only_shifts():
    settings = UNetSettings(8, (1,), embedding=4, groups=8, is_sr3=True)
    block, x = Sr3Block(8, 8, True, False, settings), image(1, 8, 6, 6)
    block.shift.bias.zero_()
    torch.testing.assert_close(block(x, torch.zeros(1, 4)), block(x, None))
    shift = block.shift(torch.ones(1, 4)).reshape(1, 8, 1, 1)
    block.convs[0].bias.add_(shift.flatten())
    expected = block(x, None)
    block.convs[0].bias.sub_(shift.flatten())
    torch.testing.assert_close(block(x, torch.ones(1, 4)), expected, rtol=1e-4, atol=1e-5)


# ---- attention -----------------------------------------------------------------------------------


def attention(dimensions: int = 2) -> Attention:
    torch.manual_seed(3)
    return Attention(8, UNetSettings(8, groups=8, dimensions=dimensions))


@torch.no_grad()
def test_attention_is_the_softmax_of_products_over_the_root_of_the_channels():
    layer, x = attention(), image(1, 8, 3, 4)
    q, k, v = layer.qkv(layer.norm(x)).reshape(3, 8, 12)
    share = torch.softmax(q.T @ k / 8**0.5, dim=1)  # (to, from)
    expected = x + layer.leave((v @ share.T).reshape(1, 8, 3, 4))
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dimensions", [2, 3])
@torch.no_grad()
def test_attention_does_not_know_where_a_pixel_lies(dimensions):
    layer, x = attention(dimensions), image(2, 8, *[4] * dimensions)
    order = torch.randperm(4**dimensions, generator=torch.Generator().manual_seed(4))

    def mixed(image: torch.Tensor) -> torch.Tensor:
        return image.flatten(2)[..., order].reshape(image.shape)

    torch.testing.assert_close(layer(mixed(x)), mixed(layer(x)), rtol=1e-5, atol=1e-5)
