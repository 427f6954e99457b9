"""Prior: what a network learned from other scans, as it comes with quell.

Here    One safetensors file for a method in `priors`, float16, and its model card beside it: the
        settings it fits, what it was trained on, by which script, and whose data that was.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from .run import State

PRIORS = Path(__file__).parent / "priors"


@cache
def card_of(name: str) -> dict[str, Any]:
    """The model card of a method's prior."""
    card: dict[str, Any] = json.loads((PRIORS / f"{name}.json").read_text("utf-8"))
    return card


def fits(name: str, shape: dict[str, Any]) -> bool:
    """Whether a network is that of a method's prior; shape: settings that its weights depend on."""
    as_written: dict[str, Any] = json.loads(json.dumps(shape))
    return as_written == card_of(name)["shape"]


def prior_of(name: str) -> State:
    """The weights of a method's prior, float32."""
    weights = load_file(PRIORS / f"{name}.safetensors")
    return {key: value.float() for key, value in weights.items()}
