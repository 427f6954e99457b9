"""Interface: what a command takes, in plain words, for other programs to call it by.

Idea    The command line is the only description of itself: Boutiques' descriptor and nipype's
        interface are made from it, so neither lacks an option or has one too many.
"""

from dataclasses import dataclass
from typing import Any

from .options import OUTPUTS

KINDS = {"path": "file", "integer": "integer", "float": "number", "boolean": "flag"}
LEFT_OUT = ("help",)


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


def parameters(command: Any) -> list[Parameter]:
    """All that a command takes, arguments first, in the order of its help."""
    found = [_parameter(param) for param in command.params if param.name not in LEFT_OUT]
    return sorted(found, key=lambda one: bool(one.flag))


def _parameter(param: Any) -> Parameter:
    is_option = param.param_type_name == "option"
    flag = next((word for word in param.opts if word.startswith("--")), "") if is_option else ""
    kind = "flag" if getattr(param, "is_flag", False) else KINDS.get(_kind(param), "text")
    default = None if kind == "flag" or callable(param.default) else param.default
    return Parameter(
        name=param.name,
        flag=flag,
        kind=kind,
        says=param.help or "",
        metavar=str(param.metavar or "").rstrip("."),
        group=getattr(param, "rich_help_panel", None) or ("Options" if flag else "Arguments"),
        default=default if isinstance(default, str | int | float) and default != "" else None,
        is_required=bool(param.required),
        is_list=bool(getattr(param, "multiple", False)) or param.nargs == -1,
        minimum=getattr(param.type, "min", None),
    )


def _kind(param: Any) -> str:
    """The name of its type, without the words about its range: "integer range" is an integer."""
    return str(param.type.name).split()[0]
