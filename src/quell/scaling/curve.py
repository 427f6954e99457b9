"""A curve from a table, read at once wherever it is asked for."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch


@dataclass(frozen=True, eq=False)
class Curve:
    """y(x) = x + d(u) from a table over u = t / (t + SHARE), t = x - start: even in u, so that a
    place in it is found by one division. Straight below the start, y - x → 0 far above it.

    `np.interp` searches for each value; of a large series that takes as long as its denoising.

    start, slope  where the straight line ends, and how steep it is
    d, rise       (n,) d at the nodes, and the way to the next
    """

    SHARE: ClassVar[float] = 4.0  # half of the nodes lie within so much of the start
    NODES: ClassVar[int] = 1 << 14  # float32 knows x no better than this table y

    start: float
    slope: float
    d: torch.Tensor
    rise: torch.Tensor

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, slope: float) -> "Curve":
        """The curve through the points (x, y) of a table, x rising."""
        u = np.arange(cls.NODES) / cls.NODES
        nodes = x[0] + cls.SHARE * u / (1 - u)
        d = np.append(np.interp(nodes, x, y) - nodes, 0.0)
        rise = torch.from_numpy(np.diff(d).astype(np.float32))
        return cls(float(x[0]), slope, torch.from_numpy(d[:-1].astype(np.float32)), rise)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """y of float32 values, as float32."""
        x = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
        t = (x - self.start).clamp_(min=0)
        place = t.div_(t + self.SHARE).mul_(self.NODES).clamp_(max=self.NODES - 1)
        node = place.int()
        share = place.sub_(node)
        y = self.rise[node].mul_(share).add_(self.d[node]).add_(x)
        if self.slope != 1:
            y.add_((x - self.start).clamp_(max=0), alpha=self.slope - 1)
        return y.numpy()
