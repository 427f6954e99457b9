"""The command line: quell denoise | train | apply | compare | evaluate | figure | check | ...

Here    One module a command, imported when it is asked for; `options` holds the options that
        several share, `live` shows a run on a page, `usage` writes the help. What fails anywhere
        below ends here, as one sentence and an exit status: 2 for a command that can't be meant, 1
        for a scan or a machine that can't do it.
"""

import os
import signal
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from .usage import Grouped, UsageError, sentence_of

HELP = "Remove noise from MRI scans, learning from the noisy scan itself. Not a medical device."

# name: its module here, its function, what the list of commands says of it
COMMANDS = {
    "denoise": ("denoise", "denoise", "Denoise a scan."),
    "train": ("train", "train", "Learn one model from many scans."),
    "apply": ("apply", "apply", "Denoise a scan with a model of many."),
    "cohort": ("cohort", "cohort", "Denoise every scan of a BIDS dataset."),
    "compare": ("compare", "compare", "Run many denoisers on one scan, side by side."),
    "probe": ("probe", "probe", "Say what a method would erase on a scan."),
    "evaluate": ("evaluate", "evaluate", "Judge denoised files, whoever made them."),
    "view": ("view", "view", "Look at a scan before and after, in the browser."),
    "figure": ("figure", "figure", "Draw a scan before and after, for a paper."),
    "check": ("check", "check_command", "Say what a scan is and what is wrong with it."),
    "methods": ("methods", "methods", "List every method with its settings and paper."),
    "reconstruct": ("reconstruct", "reconstruct", "Make images from raw k-space, to be denoised."),
    "simulate": ("simulate", "simulate", "Make a noisy scan whose truth is known."),
    "sample": ("sample", "sample", "Draw images from a diffusion model."),
    "descriptor": ("descriptor", "descriptor", "Describe a command to pipelines."),
    "demo": ("demo", "demo", "Denoise the real scan that comes with quell."),
}

PLAIN: dict[str, Any] = {
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"max_content_width": 100, "help_option_names": ["-h", "--help"]},
}


class Commands(TyperGroup):
    """The commands, each imported when it is asked for: the list of them needs no torch."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, function, _ = COMMANDS[cmd_name]
        alone = typer.Typer(**PLAIN)
        home = import_module(f"{__name__}.{module}")
        kind = getattr(home, "BidsApp", Grouped)
        alone.command(cmd_name, cls=kind)(getattr(home, function))
        return typer.main.get_command(alone)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, said) for name, (_, _, said) in COMMANDS.items()])


app = typer.Typer(cls=Commands, help=HELP, **PLAIN)


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
) -> None:
    if version:
        print(f"quell {__version__}")
        raise typer.Exit(0)
    if context.invoked_subcommand is None:
        print(context.get_help())


INTERRUPTED = 130  # 128 + SIGINT, as shells report it
OUT_OF_MEMORY = "not enough memory for this scan; close other programs or use a larger machine"


def main() -> None:
    """Run the command; every failure is one sentence on standard error and an exit status."""
    # Read where torch is loaded. Threads that wait spin for milliseconds else, and keep each other
    # from working on a machine that is shared; never to spin would cost a third of the speed.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped job keeps its checkpoint
    if hasattr(sys.stdout, "reconfigure"):  # a terminal that lacks a letter shows its number
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _run(sys.argv[1:])
        sys.stdout.flush()
    except UsageError as error:
        _fail(sentence_of(error), 2)
    except KeyboardInterrupt as error:
        _fail(str(error) or "stopped; nothing was written", INTERRUPTED)
    except BrokenPipeError:  # the reader has seen enough, as in `quell check scan | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except MemoryError:
        _fail(OUT_OF_MEMORY, 1)
    except OSError as error:
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}", 1)
    except Exception as error:
        _fail(*_said(error))


def _run(arguments: list[str]) -> None:
    """The command itself, without what typer does about failures."""
    command = typer.main.get_command(app)
    try:
        with command.make_context("quell", arguments) as context:
            command.invoke(context)
    except typer.Exit as exit_:
        sys.exit(exit_.exit_code)


def _said(error: Exception) -> tuple[str, int]:
    """The sentence and the exit status of what failed."""
    from ..series import InputError  # not before: it brings numpy and nibabel

    if isinstance(error, InputError):
        return str(error), error.status
    return OUT_OF_MEMORY if _is_out_of_memory(error) else _unexpected(error), 1


def _is_out_of_memory(error: Exception) -> bool:
    """Whether torch could not get memory, for which it has no exception on the CPU."""
    return isinstance(error, RuntimeError) and (
        "out of memory" in str(error) or "allocate memory" in str(error)
    )


def _unexpected(error: Exception) -> str:
    """What to say of a fault in quell itself; its details go to a file."""
    trace = Path("quell-error.log").absolute()
    try:
        trace.write_text(traceback.format_exc(), errors="backslashreplace")
        where = f"; the details are in {trace}"
    except OSError:
        where = ""
    return f"quell failed unexpectedly ({type(error).__name__}: {error}){where}"


def _fail(sentence: str, status: int) -> None:
    from ..voice import printable

    print(f"quell: {printable(sentence)}", file=sys.stderr)
    sys.exit(status)
