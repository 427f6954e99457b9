"""Calibration: how far to go from the noisy scan to the denoised one.

Source  Stein, "Estimation of the mean of a multivariate normal distribution", Annals of Statistics
        9:1135, 1981 (SURE); its divergence by a random probe: Ramani, Blu, Unser 2008.
Idea    A denoiser that was told a noise level σ' instead of σ goes (σ'/σ)² times too far:
            x̂ = X + ρ (x̂* - X).
        The share c of the way X + c (h - X) that has the least mean squared error follows from
        Stein's lemma without the truth,
            c = σ² (n - tr JΣ) / ‖h - X‖²,   J the derivative of h, Σ the noise's correlation,
        and tr JΣ from one more pass with a little noise added: bᵀ (h(X + ε b) - h(X)) / ε.
Here    σ comes from volumes that were acquired twice, where there are any: their difference knows
        nothing of the noise model. Without them σ is the model's, and c only repairs what training
        left undone.
Differs UNSURE needs no σ either, but its c is that of a denoiser without any divergence, which
        always goes too far.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from .background import robust_sd
from .noise import NoiseModel
from .series import Series, shells, show_the_same

PROBE = 0.1  # ε, units of sigma


def calibrate(
    restore: Callable[[np.ndarray], np.ndarray],
    X: Series,
    h: np.ndarray,
    noise: NoiseModel,
    mask: np.ndarray,
    rng: np.random.Generator,
) -> tuple[float, float, int]:
    """The best share c of the way, the noise found over that of the model, and from how many pairs.

    restore  (X, Y, Z, V) -> (X, Y, Z, V), the denoiser; sigma = 1 units
    X        the scan, sigma = 1 units
    h        (X, Y, Z, V)  restore(X.data)
    noise    of X
    mask     (X, Y, Z) bool, where to measure
    """
    off, n_pairs = noise_of_repeats(X, mask)
    b = np.stack([noise.draw_volume(rng) for _ in range(X.n_volumes)], axis=3)
    moved = restore((X.data + PROBE * b).astype(np.float32)) - h
    trace = float(np.mean((b * moved)[mask], dtype=np.float64)) / PROBE
    far = float(np.mean((h - X.data)[mask] ** 2, dtype=np.float64))
    c = off**2 * (1 - trace) / max(far, 1e-12)
    return float(np.clip(c, 0.0, 2.0)), off, n_pairs


def noise_of_repeats(X: Series, mask: np.ndarray) -> tuple[float, int]:
    """Noise from the differences of volumes that show the same, and how many; (1, 0) if none do.

    X     sigma = 1 units
    mask  (X, Y, Z) bool
    """
    pairs = repeats(X)
    if not pairs:
        return 1.0, 0
    sizes = []
    for i, j in pairs:
        difference = (X.data[..., i] - X.data[..., j])[mask]
        sizes.append(float(robust_sd(difference)) / np.sqrt(2))
    return float(np.sqrt(np.mean(np.square(sizes)))), len(pairs)


def repeats(X: Series) -> list[tuple[int, int]]:
    """Pairs of volumes with the same b-value and direction; all, where volumes are repetitions.

    Contrasts and echoes show the same in no two volumes.
    """
    shell, same, found = shells(X), show_the_same(X), []
    for one in np.unique(shell):
        left = np.flatnonzero(shell == one).tolist()
        if X.fourth_axis == "repetitions":
            found += list(pairwise(left))
            continue
        while left:
            v = left.pop(0)
            partner = next((w for w in left if same[v, w]), None)
            if partner is not None:
                found.append((v, partner))
                left.remove(partner)
    return found
