"""Prior: what a network learned from other scans, as it comes with quell.

Here    One safetensors file for a method in `priors`, float16, and its model card beside it: the
        settings it fits, what it was trained on, by which script, and whose data that was. The
        file is read without the package of that name, so torch is all that a prior needs.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

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
    raw = (PRIORS / f"{name}.safetensors").read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")  # the length of the table, the table, the values
    weights = {}
    for key, entry in json.loads(raw[8:start]).items():
        if key != "__metadata__":
            first, last = entry["data_offsets"]
            values = np.frombuffer(raw[start + first : start + last], "<f2").astype(np.float32)
            weights[key] = torch.from_numpy(values.reshape(entry["shape"]))
    return weights
