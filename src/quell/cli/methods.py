"""quell methods: what there is to choose from."""

from dataclasses import fields
from typing import Any, cast

from ..methods import DEFAULT, find, make, names
from ..series import InputError
from .usage import hanging


def methods() -> None:
    """List every method, its paper, its presets and settings, and what it needs."""
    for name in names():
        try:
            kind, method = find(name), cast(Any, make(name))
        except InputError as error:  # of another package: the others are there all the same
            print(hanging(f"{name}", str(error), indent=12))
            continue
        settings = ", ".join(
            f"{f.name}={_as_typed(getattr(method, f.name))}" for f in fields(method)
        )
        print(f"{name} (default)" if name == DEFAULT else name)
        rows = (
            ("does", kind.summary),
            ("needs", kind.needs),
            ("presets", ", ".join(kind.presets)),
            ("settings", settings),
            ("maps", ", ".join(getattr(kind, "maps", ()))),
            ("paper", kind.paper),
        )
        for label, text in rows:
            if not text:
                continue
            print(hanging(f"  {label}", text, indent=12))


def _as_typed(value: Any) -> str:
    """A setting's value as --set reads it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
