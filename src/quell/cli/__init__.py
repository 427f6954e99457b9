"""The command line: quell denoise | train | apply | compare | evaluate | figure | check | ...

Here    One module a command; `options` holds the options that several share, `usage` writes the
        help. What fails anywhere below ends here, as one sentence and an exit status: 2 for a
        command that can't be meant, 1 for a scan or a machine that can't do it.
"""

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from .. import __version__
from ..series import InputError
from ..voice import printable
from .apply import apply
from .check import check_command
from .compare import compare
from .demo import demo
from .denoise import denoise
from .evaluate import evaluate
from .figure import figure
from .methods import methods
from .reconstruct import reconstruct
from .sample import sample
from .simulate import simulate
from .train import train
from .usage import Grouped, UsageError, sentence_of
from .view import view

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
    help="Remove noise from MRI scans, learning from the noisy scan itself. Not a medical device.",
)
app.command(cls=Grouped)(denoise)
app.command(cls=Grouped, short_help="Learn one model from many scans.")(train)
app.command(cls=Grouped, short_help="Denoise a scan with a model of many.")(apply)
app.command(cls=Grouped, short_help="Run many denoisers on one scan, side by side.")(compare)
app.command(cls=Grouped, short_help="Judge denoised files, whoever made them.")(evaluate)
app.command(cls=Grouped, short_help="Look at a scan before and after, in the browser.")(view)
app.command(cls=Grouped, short_help="Draw a scan before and after, for a paper.")(figure)
app.command("check", cls=Grouped, short_help="Say what a scan is and what is wrong with it.")(
    check_command
)
app.command(cls=Grouped, short_help="List every method with its settings and paper.")(methods)
app.command(cls=Grouped, short_help="Make images from raw k-space, to be denoised.")(reconstruct)
app.command(cls=Grouped, short_help="Make a noisy scan whose truth is known.")(simulate)
app.command(cls=Grouped, short_help="Draw images from a diffusion model.")(sample)
app.command(cls=Grouped, short_help="Denoise the real scan that comes with quell.")(demo)


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
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped job keeps its checkpoint
    if hasattr(sys.stdout, "reconfigure"):  # a terminal that lacks a letter shows its number
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _run(sys.argv[1:])
        sys.stdout.flush()
    except UsageError as error:
        _fail(sentence_of(error), 2)
    except InputError as error:
        _fail(str(error), error.status)
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
        _fail(OUT_OF_MEMORY if _is_out_of_memory(error) else _unexpected(error), 1)


def _run(arguments: list[str]) -> None:
    """The command itself, without what typer does about failures."""
    command = typer.main.get_command(app)
    try:
        with command.make_context("quell", arguments) as context:
            command.invoke(context)
    except typer.Exit as exit_:
        sys.exit(exit_.exit_code)


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
    print(f"quell: {printable(sentence)}", file=sys.stderr)
    sys.exit(status)
