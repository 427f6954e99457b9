"""Usage: how the command line explains itself, in plain text and without frames."""

import shutil
import textwrap
from typing import Any

import typer
from typer.core import TyperCommand

# typer keeps the name to itself; BadParameter is one of its kinds
UsageError: Any = typer.BadParameter.__bases__[0]


class Grouped(TyperCommand):
    """A command whose help lists its options under the headings of their `rich_help_panel`."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What follows the command's name in the first line of its help."""
        params: list[Any] = self.get_params(ctx)
        arguments = [p for p in params if p.param_type_name == "argument"]
        names = [p.metavar if p.required else f"[{p.metavar}]" for p in arguments]
        return [*names, "[OPTIONS]"]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write every argument and option, group by group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        params: list[Any] = self.get_params(ctx)
        for param in params:
            if param.param_type_name == "argument":
                groups.setdefault("Arguments", []).append((param.metavar, param.help))
            elif record := param.get_help_record(ctx):
                heading = getattr(param, "rich_help_panel", None) or "Options"
                groups.setdefault(heading, []).append(record)
        width = max(len(name) for records in groups.values() for name, _ in records)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), text) for name, text in records])


def sentence_of(error: Any) -> str:
    """A usage error as one sentence with the way to the help."""
    words = " ".join(error.format_message().split()).rstrip(".")
    command = error.ctx.command_path if getattr(error, "ctx", None) else "quell"
    return f"{words[:1].lower()}{words[1:]}; see {command} --help"


def hanging(label: str, text: str, indent: int) -> str:
    """A label and its text, wrapped to the terminal so that only the label stands at the left."""
    lead = label.ljust(indent - 1) + " "
    return textwrap.fill(
        text,
        min(shutil.get_terminal_size().columns, 100),
        initial_indent=lead,
        subsequent_indent=" " * indent,
        break_long_words=False,  # paths and addresses stay whole
        break_on_hyphens=False,
    )
