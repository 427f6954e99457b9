"""quell methods: what there is to choose from."""

from dataclasses import fields
from typing import Any

from ..methods import DEFAULT, METHODS, make
from .usage import hanging


def methods() -> None:
    """List every method, its paper, its presets and settings, and what it needs."""
    for name, kind in METHODS.items():
        method: Any = make(name)
        settings = ", ".join(
            f"{f.name}={_as_typed(getattr(method, f.name))}" for f in fields(method)
        )
        print(f"{name} (default)" if name == DEFAULT else name)
        rows = (
            ("does", kind.summary),
            ("needs", kind.needs),
            ("presets", ", ".join(kind.presets)),
            ("settings", settings),
            ("paper", kind.paper),
        )
        for label, text in rows:
            print(hanging(f"  {label}", text, indent=12))


def _as_typed(value: Any) -> str:
    """A setting's value as --set reads it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
