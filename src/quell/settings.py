"""Settings: what the fields of a method may hold, refused in one sentence where they can't."""

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from .series import InputError


def check_settings(
    method: Any, choices: Mapping[str, Collection[Any]], may_be_zero: Collection[str] = ()
) -> None:
    """Raise InputError (status 2) for a setting out of range.

    method       a dataclass
    choices      for settings that are one of a few: those
    may_be_zero  numbers that may; all others are above 0
    """
    for field in fields(method):
        value = getattr(method, field.name)
        if field.name in choices:
            if value not in choices[field.name]:
                known = ", ".join(map(str, choices[field.name]))
                raise InputError(f"{field.name}={value} is not known; choose from {known}", 2)
        elif isinstance(value, bool) or not isinstance(value, int | float):
            continue
        elif value < 0 or (value == 0 and field.name not in may_be_zero):
            least = "0 or more" if field.name in may_be_zero else "more than 0"
            raise InputError(f"{field.name}={value} is too small; give {least}", 2)
    channels = getattr(method, "channels", 8)
    if channels % 8:
        raise InputError(f"channels={channels} does not fit; give a multiple of 8", 2)
