"""quell descriptor: what a command takes, as Boutiques describes tools (schema 0.5)."""

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer

from .. import __version__
from ..series import IMAGE_ENDINGS, InputError
from .apply import apply
from .denoise import denoise
from .interface import Parameter, parameters

SCHEMA = "0.5"
TYPES = {"file": "File", "integer": "Number", "number": "Number", "flag": "Flag", "text": "String"}
BESIDE = (
    ("record", "Record of the run", ".json"),
    ("bval", "b-values", ".bval"),
    ("bvec", "Directions", ".bvec"),
    ("report_beside", "Report", "_report.html"),
)  # what a run writes unasked, by the name of OUT


STATUSES = (
    (1, "The scan or the machine can't do it; one sentence on standard error says why."),
    (2, "The command can't be meant."),
    (130, "Stopped; the same command goes on."),
)
COMMANDS: dict[str, Callable[..., None]] = {"denoise": denoise, "apply": apply}


def descriptor(
    command: Annotated[str, typer.Argument(help="denoise or apply", metavar="COMMAND")] = "denoise",
) -> None:
    """Print what a command takes and writes as a Boutiques descriptor, for pipelines that read it.

    That of denoise lies in the repository as descriptors/quell-denoise.json.
    """
    if command not in COMMANDS:
        raise InputError(f"there is no descriptor of {command!r}; give denoise or apply", 2)
    print(json.dumps(descriptor_of(command), indent=2, ensure_ascii=False))


def descriptor_of(name: str) -> dict[str, Any]:
    """The descriptor of one command."""
    found = parameters(COMMANDS[name])
    groups: dict[str, list[str]] = {}
    for one in found:
        groups.setdefault(one.group, []).append(one.name)
    says = " ".join((COMMANDS[name].__doc__ or "").split())
    return {
        "name": f"quell {name}",
        "description": f"{says} For research; not a medical device.",
        "author": "The quell developers",
        "tool-version": __version__,
        "schema-version": SCHEMA,
        "command-line": " ".join([f"quell {name}", *(_key(one) for one in found)]),
        "inputs": [_input(one) for one in found],
        "groups": [
            {"id": f"group_{heading.lower()}", "name": heading, "members": members}
            for heading, members in groups.items()
        ],
        "output-files": [_output(one) for one in found if one.is_written] + _beside(),
        "error-codes": [{"code": code, "description": says} for code, says in STATUSES],
        "tags": {"domain": ["neuroinformatics", "mri"], "task": ["denoising"]},
    }


def _key(one: Parameter) -> str:
    return f"[{one.name.upper()}]"


def _input(one: Parameter) -> dict[str, Any]:
    is_number = one.kind in ("integer", "number")
    described: dict[str, Any] = {
        "id": one.name,
        "name": one.flag.lstrip("-") or one.metavar,
        "description": one.says,
        "type": "String" if one.is_written else TYPES[one.kind],  # a file that is not there yet
        "value-key": _key(one),
        "optional": not one.is_required,
    }
    if one.flag:
        described["command-line-flag"] = one.flag
    if is_number:
        described["integer"] = one.kind == "integer"
    if is_number and one.minimum is not None:
        described["minimum"] = one.minimum
    if one.is_list:
        described |= {"list": True, "list-separator": f" {one.flag} " if one.flag else " "}
    if not one.is_required and one.default is not None:
        described["default-value"] = one.default
    return described


def _output(one: Parameter) -> dict[str, Any]:
    return {
        "id": f"{one.name}_file",
        "name": one.flag.lstrip("-") or one.metavar,
        "description": one.says,
        "path-template": _key(one),
        "optional": not one.is_required,
    }


def _beside() -> list[dict[str, Any]]:
    return [
        {
            "id": f"{key}_file",
            "name": name,
            "description": f"beside OUT, its ending replaced by {ending}",
            "path-template": f"[OUT]{ending}",
            "path-template-stripped-extensions": list(IMAGE_ENDINGS),
            "optional": True,
        }
        for key, name, ending in BESIDE
    ]
