"""Gradient schemes: directions spread evenly over the sphere, b=0 volumes in between.

Source  Jones, Horsfield, Simmons, Magn Reson Med 42:515, 1999 (electrostatic repulsion).
Idea    A gradient g and its opposite -g measure the same thing. So each direction carries one
        charge at g and one at -g, and the charges push each other apart.
"""

import numpy as np

REPULSION_STEPS = 300  # the energy changes by less than 1e-3 of itself after about 200


def even_directions(n_directions: int, rng: np.random.Generator) -> np.ndarray:
    """Unit directions that repel each other and each other's opposites.

    n_directions   how many
    rng            where they start from; the same generator state gives the same directions

    Returns (n_directions, 3).
    """
    g = rng.standard_normal((n_directions, 3))
    g /= np.linalg.norm(g, axis=1, keepdims=True)
    for step in np.linspace(1.0, 0.02, REPULSION_STEPS):
        force = repulsion(g)
        force -= (force * g).sum(axis=1, keepdims=True) * g  # along the sphere only
        length = np.linalg.norm(force, axis=1, keepdims=True)
        # A step is a fraction of the spacing between neighbours, about sqrt(2 pi / n).
        g = g + step * 0.3 / np.sqrt(n_directions) * force / max(length.max(), 1e-12)
        g /= np.linalg.norm(g, axis=1, keepdims=True)
    return g


def repulsion(g: np.ndarray) -> np.ndarray:
    """Coulomb force on every charge at g (n, 3) from all the others and their opposites, (n, 3)."""
    force = np.zeros_like(g)
    for others in (g, -g):
        apart = g[:, None] - others[None]  # (n, n, 3)
        distance = np.linalg.norm(apart, axis=2)
        np.fill_diagonal(distance, np.inf)  # neither itself nor its own opposite
        force += (apart / distance[..., None] ** 3).sum(axis=1)
    return force


def scheme(
    n_b0: int, shells: tuple[tuple[float, int], ...], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """b-values and directions of one acquisition, b=0 first and then at even distances.

    n_b0     number of b=0 volumes, at least 1
    shells   (b-value in s/mm², number of directions) each
    rng      draws the start of the directions and the order of the weighted volumes

    Returns bvals (V,) in s/mm² and bvecs (V, 3), zeros for b=0.
    """
    weights = np.concatenate([np.full(n, b, float) for b, n in shells])
    vectors = np.concatenate([even_directions(n, rng) for _, n in shells])
    order = rng.permutation(len(weights))  # shells mixed: drift does not pass for diffusion
    n_volumes = n_b0 + len(weights)
    is_b0 = np.zeros(n_volumes, bool)
    is_b0[np.arange(n_b0) * n_volumes // n_b0] = True
    bvals, bvecs = np.zeros(n_volumes), np.zeros((n_volumes, 3))
    bvals[~is_b0], bvecs[~is_b0] = weights[order], vectors[order]
    return bvals, bvecs
