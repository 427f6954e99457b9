"""The command line's reference, from the command line itself."""

from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from .tables import code, plain, table_of


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.add_directive("command", Command)


def command_named(name: str) -> tuple[Any, Any]:
    """A command of quell and the context it is explained in."""
    import typer

    from quell.cli import app as quell_app

    group: Any = typer.main.get_command(quell_app)
    command = group.get_command(group.make_context("quell", [], resilient_parsing=True), name)
    return command, command.make_context(f"quell {name}", [], resilient_parsing=True)


class Command(SphinxDirective):
    """What a command does, its arguments, and its options in their groups."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        command, context = command_named(self.arguments[0])
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        out: list[nodes.Node] = [nodes.literal_block(usage, usage, language="none")]
        for paragraph in (command.help or "").split("\n\n"):
            out.append(nodes.paragraph("", " ".join(paragraph.split())))
        for heading, records in groups_of(command, context).items():
            rows = [(code(name), plain(text)) for name, text in records]
            out.append(table_of(self, (plain(heading), ""), rows, "options"))
        return out


def groups_of(command: Any, context: Any) -> dict[str, list[tuple[str, str]]]:
    """Arguments and options by the heading they stand under."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for param in command.get_params(context):
        if param.param_type_name == "argument":
            groups.setdefault("Arguments", []).append((param.metavar, param.help))
        elif record := param.get_help_record(context):
            heading = getattr(param, "rich_help_panel", None) or "Options"
            groups.setdefault(heading, []).append(record)
    return groups
