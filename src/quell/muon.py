"""Muon: momentum whose step is the nearest orthogonal matrix.

Paper   Jordan et al. 2024, "Muon: an optimizer for hidden layers".
Idea    Every direction of a kernel moves equally far, also those with a small gradient.
Here    In a trial on one scan Muon on the convolution kernels got further in 150 steps than AdamW
        alone in 300.
Differs A convolution kernel is taken as the matrix (out, in · kernel); the first and the last
        convolution are included.
"""

from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95


class Muon:
    """The optimiser of convolution kernels; all others are AdamW's."""

    def __init__(self, kernels: list[nn.Parameter], weight_decay: float) -> None:
        self.kernels, self.weight_decay = kernels, weight_decay
        self.momenta = [torch.zeros_like(p) for p in kernels]

    @torch.no_grad()
    def step_at(self, rate: float) -> None:
        """One step of spectral norm `rate`, with Nesterov momentum."""
        for p, momentum in zip(self.kernels, self.momenta, strict=True):
            if p.grad is None:
                continue
            momentum.mul_(MOMENTUM).add_(p.grad)
            step = orthogonalise((p.grad + MOMENTUM * momentum).flatten(1))
            tall = max(1.0, step.shape[0] / step.shape[1]) ** 0.5
            p.mul_(1 - rate * self.weight_decay).add_(step.reshape(p.shape), alpha=-rate * tall)

    def state_dict(self) -> dict[str, Any]:
        return {"momenta": self.momenta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for mine, saved in zip(self.momenta, state["momenta"], strict=True):
            mine.copy_(saved)


def orthogonalise(G: Tensor) -> Tensor:
    """About U Vᵀ of G = U S Vᵀ, by five steps of Newton-Schulz (singular values 0.7 to 1.2)."""
    X = G.float() / (G.norm() + 1e-7)
    is_tall = X.shape[0] > X.shape[1]
    X = X.T if is_tall else X
    for _ in range(5):
        A = X @ X.T
        X = 3.4445 * X + (-4.7750 * A + 2.0315 * A @ A) @ X
    return X.T if is_tall else X
