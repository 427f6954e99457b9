"""Fibres: the bundles in the white matter of a phantom, each a formula with its own tangent.

Here    Five bundles, and a weaker radial population where there is none of them.
"""

import numpy as np

from .anatomy import PhantomSettings, anatomical, callosal_arch, soft

BUNDLES = ("callosum", "corticospinal", "arcuate", "cingulum", "inferior", "radial")


def bundles(settings: PhantomSettings) -> tuple[np.ndarray, np.ndarray]:
    """Share of each population in white matter and its direction.

    Returns weights (P, X, Y, Z), which sum to 1, and unit tangents (P, 3, X, Y, Z), float32.
    """
    q = anatomical(settings, 1)
    side = np.concatenate([np.abs(q[:1]), q[1:]])
    found = [
        bundle(side, settings)
        for bundle in (callosum, corticospinal, arcuate, cingulum, inferior, radial)
    ]
    weights = np.stack([soft(inside_mm, 3.0) for inside_mm, _ in found])
    weights[-1] = 0.12 + 0.88 * np.clip(1 - weights[:-1].sum(axis=0), 0, 1)
    weights /= weights.sum(axis=0)
    tangents = np.stack([np.stack(np.broadcast_arrays(*tangent)) for _, tangent in found])
    tangents[:, 0] *= np.where(q[0] < 0, -1, 1)  # mirror to the other half
    # Tangents are of warped space. Back on the grid: solve (dq/dp) t = t_warped.
    jacobian = np.stack(np.gradient(q, settings.voxel_mm, axis=(1, 2, 3)))  # (p, q, X, Y, Z)
    matrix = np.moveaxis(jacobian, (0, 1), (-1, -2))  # (X, Y, Z, q, p)
    tangents = np.einsum("xyzpq,kqxyz->kpxyz", np.linalg.inv(matrix), tangents, optimize=True)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    return weights.astype(np.float32), tangents.astype(np.float32)


Bundle = tuple[np.ndarray, tuple[np.ndarray | float, ...]]  # depth inside in mm, tangent


def callosum(side: np.ndarray, settings: PhantomSettings) -> Bundle:
    """A sheet from half to half over the ventricles, fanning out in front and behind."""
    x, y, z = side
    y0, z0, arch = callosal_arch(x, y, z, settings)
    half_mm = 3.2 + 5.5 * np.minimum(x / 35, 1) ** 2
    inside = half_mm - np.abs(arch - 0.88) * settings.callosum_mm[1]
    inside = np.minimum.reduce([inside, z0 + 6, 50 - x])
    return inside, (np.ones_like(x), 2 * x * y0 / 45**2, 20 * x / 40**2)


def corticospinal(side: np.ndarray, settings: PhantomSettings) -> Bundle:
    """Narrow between thalamus and putamen, a fan above, crossing callosum and arcuate."""
    x, y, z = side
    up = np.maximum(z - 2, 0) / 32
    width, length = 4.5 + 13 * up**2, 7 + 20 * up**2
    a, b = (x - 22 - 0.15 * z) / width, (y + 8) / length
    inside = (1 - np.hypot(a, b)) * width
    return inside, (0.15 + a * 26 * up / 32, b * 40 * up / 32, np.ones_like(x))


def arcuate(side: np.ndarray, settings: PhantomSettings) -> Bundle:
    """Forward to backward above the lateral fissure, then round a bend and down."""
    x, y, z = side
    dy, dz = np.minimum(y + 14, 0), np.maximum(z + 8, 1e-3)  # at their limits: straight parts
    radius = np.hypot(dy, dz)
    inside = 5.5 - np.hypot(x - 34, radius - 30)
    inside = np.minimum(inside, 32 - y)
    return inside, (np.zeros_like(x), dz / radius, -dy / radius)


def cingulum(side: np.ndarray, settings: PhantomSettings) -> Bundle:
    """A thin cord on top of the callosum, bent along it."""
    x, y, z = side
    length, height = settings.callosum_mm
    y0, z0, arch = callosal_arch(0.0, y, z, settings)
    inside = np.minimum(3.8 - np.hypot(x - 8, (arch - 1.1) * height), z0 + 4)
    across = np.maximum(np.hypot(z0 / height**2, y0 / length**2), 1e-6)
    return inside, (np.zeros_like(x), z0 / height**2 / across, -y0 / length**2 / across)


def inferior(side: np.ndarray, settings: PhantomSettings) -> Bundle:
    """Front to back below the arcuate, bowed round putamen and ventricle."""
    x, y, z = side
    inside = 4.5 - np.hypot(x - 37 + 0.004 * y**2, z + 4 - 0.1 * y)
    return np.minimum(inside, 66 - np.abs(y)), (-0.008 * y, np.ones_like(x), np.full_like(x, 0.1))


def radial(side: np.ndarray, settings: PhantomSettings) -> Bundle:
    """Everything else: along the normal of the hull, into the gyri."""
    scaled = [side[i] / settings.brain_mm[i] ** 2 for i in range(3)]
    length = np.sqrt(sum(s**2 for s in scaled)) + 1e-6
    return np.zeros_like(side[0]), tuple(s / length for s in scaled)
