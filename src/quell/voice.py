"""Voices of a run: a bar in a terminal, plain lines in a log, or nothing but errors."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from .run import Silent, Voice

LINE_SECONDS = 15.0  # between two lines of progress in a log


class Quiet(Silent):
    """Says nothing; errors are raised, not said."""

    def stop(self) -> None:
        pass


class Lines(Voice):
    """Plain lines on standard error, for logs: one now and then, not one a step."""

    def __init__(self) -> None:
        self.last: tuple[str, float] = ("", 0.0)

    def say(self, line: str) -> None:
        print(printable(line), file=sys.stderr, flush=True)

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        name, when = self.last
        is_new, is_due = name != task, time.monotonic() - when >= LINE_SECONDS
        if is_new or is_due or done == total:
            self.say(f"{task} {done}/{total}" + (f", {note}" if note else ""))
            self.last = (task, time.monotonic())

    def stop(self) -> None:
        pass


class Bar(Voice):
    """A rich progress bar for each task, in a terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.bar: Progress | None = None
        self.task = ""

    def say(self, line: str) -> None:
        self.console.print(Text(printable(line)), soft_wrap=True)

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        if self.bar is None or self.task != task:
            self.stop()
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.completed}/{task.total}"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[note]}", markup=False),
            )
            self.bar, self.task = Progress(*columns, console=self.console), task
            self.bar.start()
            self.id = self.bar.add_task(task, total=total, note=note)
        self.bar.update(self.id, completed=done, note=note)
        if done == total:
            self.stop()

    def stop(self) -> None:
        """Leave the terminal as it was found: cursor shown, the last line ended."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


@contextmanager
def speaking(quiet: bool) -> Iterator[Quiet | Lines | Bar]:
    """The voice that fits where standard error goes; it leaves the terminal whole in any case."""
    is_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    voice = Quiet() if quiet else Bar() if is_terminal else Lines()
    try:
        yield voice
    finally:
        voice.stop()


def printable(line: str) -> str:
    """The line with whatever would move a cursor or break the line written as an escape."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
