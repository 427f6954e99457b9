"""Non-local means of one image: every block is the mean of the blocks around it that look like it.

Paper   Coupe et al., "An optimized blockwise nonlocal means denoising filter for 3-D magnetic
        resonance images", IEEE Trans Med Imaging 27:425, 2008.
Idea    Two blocks that show the same differ by noise alone, so their mean square difference is
        2 σ², less where neighbours share noise. The more they differ, the less they are averaged.
Here    sigma = 1. All values are averaged as they are, so signed images need nothing. The work is
        done one displacement at a time for the whole image, and a displacement and its opposite
        share their differences.
Differs A block stands at every voxel, the published ones at every other. Blocks are not sorted out
        beforehand by the ratio of their means: such a ratio says nothing of signed images, and
        here it would save no time. The difference that correlated noise leaves is allowed for.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np
import torch
from torch import Tensor

LARGEST = 0.9  # correlation that is believed; nearer to 1, no difference would be noise
LEAST = 1e-6  # weight of a block that is like no other

Box = tuple[slice, ...]


def nonlocal_means(
    y: Tensor, patch: int, search: int, beta: float, correlation: np.ndarray
) -> Tensor:
    """The image without its noise, (X, Y, Z).

    y            (X, Y, Z)  noise of sd 1
    patch        radius of a block, voxels; blocks end where the image ends
    search       how far off along each axis blocks are looked for, voxels
    beta         how much difference is taken for noise
    correlation  of the noise at small lags, odd sizes, 1 in the centre
    """

    def weights() -> Iterator[tuple[Box, Box, Tensor]]:
        """w of every pair of blocks: where one is, where the other is, and their weight."""
        for shift in half_window(y.shape, search):
            here, there = overlap(y.shape, shift)
            d = mean_in_block((y[here] - y[there]) ** 2, patch)
            rho = min(correlation_at(correlation, shift), LARGEST)
            yield here, there, torch.exp(-d / (2 * beta * (1 - rho)))

    total, most = torch.zeros_like(y), torch.full_like(y, LEAST)
    for here, there, w in weights():
        for one in (here, there):
            total[one] += w
            most[one] = torch.maximum(most[one], w)
    total += most  # a block is like itself: it weighs as much as the best of the others
    known = mean_in_block(most / total, patch)
    estimate = known * y
    for here, there, w in weights():
        for one, other in ((here, there), (there, here)):
            share = mean_in_block(w / total[one], patch)  # of all blocks that hold a voxel
            estimate[one] += share * y[other]
            known[one] += share
    return estimate / known


def half_window(shape: torch.Size, search: int) -> list[tuple[int, ...]]:
    """Displacements within the image, one of every pair of opposite ones."""
    reach = [min(search, n - 1) for n in shape]
    window = product(*(range(-r, r + 1) for r in reach))
    return [shift for shift in window if shift > (0,) * len(shape)]


def overlap(shape: torch.Size, shift: tuple[int, ...]) -> tuple[Box, Box]:
    """Where a voxel and the one so far off are both in the image: the first, the second."""
    pairs = list(zip(shift, shape, strict=True))
    here = tuple(slice(max(0, -k), n - max(0, k)) for k, n in pairs)
    there = tuple(slice(max(0, k), n - max(0, -k)) for k, n in pairs)
    return here, there


def mean_in_block(x: Tensor, radius: int) -> Tensor:
    """Mean over the part of a cube around every voxel that is in the image."""
    for axis, n in enumerate(x.shape):
        total = x.clone()
        count = torch.ones(n)
        for k in range(1, min(radius, n - 1) + 1):
            for to, come in ((k, 0), (0, k)):
                total.narrow(axis, to, n - k).add_(x.narrow(axis, come, n - k))
                count[to : to + n - k] += 1
        x = total / count.to(x).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    return x


def correlation_at(correlation: np.ndarray, shift: tuple[int, ...]) -> float:
    """Correlation of the noise of two voxels so far apart; 0 beyond what was measured."""
    place = tuple(n // 2 + k for n, k in zip(correlation.shape, shift, strict=True))
    inside = all(0 <= i < n for i, n in zip(place, correlation.shape, strict=True))
    return float(correlation[place]) if inside else 0.0
