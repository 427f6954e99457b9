"""Pictures for a page: data addresses, colour bars, and how numbers are written beside them."""

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
from PIL import Image

from . import figures

RESIDUAL_WINDOW = 3.0  # ± σ; noise leaves it in 0.3 % of the voxels, so anatomy shows
BAR = 96  # px of a colour bar; the page stretches it


@dataclass(frozen=True, eq=False)
class Map:
    """A volume to be drawn in its planes, with its scale."""

    title: str
    text: str
    volume: np.ndarray  # (X, Y, Z)
    window: tuple[float, float]  # shown as the first and the last colour
    colours: str  # a matplotlib colour map
    unit: str

    def tile(self, view: figures.View) -> dict[str, Any]:
        """As the page's template takes it."""
        low, high = self.window
        drawn = figures.planes(self.volume, view, self.window, self.colours, width=360)
        return {
            "title": self.title,
            "text": self.text,
            "image": image_of(drawn),
            "bar": bar_of(self.colours),
            "low": number(low),
            "high": f"{number(high)} {self.unit}".strip(),
        }


def image_of(png: bytes) -> str:
    """A picture as an address that holds it."""
    return "data:image/png;base64," + b64encode(png).decode("ascii")


def bar_of(colours: str) -> str:
    """The scale of a colour map, lowest left."""
    shades = mpl.colormaps[colours](np.linspace(0, 1, BAR))[None, :, :3]
    return png_of(np.round(255 * shades).astype(np.uint8))


def png_of(pixels: np.ndarray) -> str:
    """Grey (H, W) or coloured (H, W, 3) pixels, 8 bit, as the address of a picture."""
    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, format="PNG", optimize=True)
    return image_of(file.getvalue())


def number(value: float) -> str:
    """Three digits, or all digits before the point."""
    return f"{value:,.0f}".replace("-", "−") if abs(value) >= 1000 else _short(value)


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")
