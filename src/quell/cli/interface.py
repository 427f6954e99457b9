"""Interface: what a command takes, in plain words, for other programs to call it by.

Idea    The command line is the only description of itself: Boutiques' descriptor and nipype's
        interface are made from it, so neither lacks an option or has one too many.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from typer.models import OptionInfo

from .options import OUTPUTS

KINDS = {Path: "file", int: "integer", float: "number", bool: "flag", str: "text"}


@dataclass(frozen=True)
class Parameter:
    """One argument or option of a command."""

    name: str  # as in Python
    flag: str  # --noise-out; "" for an argument
    kind: str  # file, integer, number, flag or text
    says: str  # what the help says
    metavar: str
    group: str  # heading in the help
    default: Any  # None where there is none, or where it is the absence
    is_required: bool
    is_list: bool
    minimum: float | None

    @property
    def is_written(self) -> bool:
        """Whether it names a file that the command writes."""
        return self.kind == "file" and (self.group == OUTPUTS or self.name == "out")


def parameters(command: Callable[..., None]) -> list[Parameter]:
    """All that a command takes, arguments first, in the order of its help."""
    hints = get_type_hints(command, include_extras=True)
    found = [
        _parameter(one.name, hints[one.name], one.default)
        for one in inspect.signature(command).parameters.values()
    ]
    return sorted(found, key=lambda one: bool(one.flag))


def _parameter(name: str, hint: Any, default: Any) -> Parameter:
    annotated, info = get_args(hint)[:2]  # Annotated[int | None, option(...)]
    kinds = [one for one in get_args(annotated) if one is not NoneType] or [annotated]
    is_list = get_origin(kinds[0]) is list
    kind = KINDS[get_args(kinds[0])[0] if is_list else kinds[0]]
    is_option = isinstance(info, OptionInfo)
    # typer takes the first name of an option for its default until it reads the signature
    named = [n for n in (info.default, *(info.param_decls or ())) if str(n).startswith("--")]
    flag = (*named, f"--{name.replace('_', '-')}")[0] if is_option else ""
    is_required = default is inspect.Parameter.empty
    return Parameter(
        name=name,
        flag=flag,
        kind=kind,
        says=info.help or "",
        metavar=info.metavar or "",
        group=info.rich_help_panel or "Arguments",
        default=None if is_required or kind == "flag" else default,
        is_required=is_required,
        is_list=is_list,
        minimum=info.min,
    )
