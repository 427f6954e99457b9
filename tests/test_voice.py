"""Voices: a bar that leaves the terminal as it was, few lines in a log, or nothing."""

import io

import pytest
from rich.console import Console

from quell import voice
from quell.voice import Bar, Lines, Quiet, printable, speaking


def terminal_bar() -> tuple[Bar, io.StringIO]:
    """A bar in a terminal of 80 columns, and what it writes there."""
    bar, screen = Bar(), io.StringIO()
    bar.console = Console(file=screen, force_terminal=True, width=80, highlight=False)
    return bar, screen


def test_quiet_says_nothing(capsys):
    quiet = Quiet()
    quiet.say("words"), quiet.progress("training", 1, 2), quiet.stop()
    assert capsys.readouterr() == ("", "")


def test_lines_go_to_standard_error_now_and_then(capsys):
    lines = Lines()
    for step in range(1, 101):
        lines.progress("training", step, 100, f"loss {step}")
    lines.progress("denoising", 1, 1)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "training 1/100, loss 1", "training 100/100, loss 100", "denoising 1/1"
    ]  # fmt: skip


def test_a_long_task_says_a_line_every_few_seconds(capsys, monkeypatch):
    monkeypatch.setattr(voice, "LINE_SECONDS", 0.0)
    lines = Lines()
    for step in range(1, 6):
        lines.progress("training", step, 100)
    assert len(capsys.readouterr().err.splitlines()) == 5


def test_a_bar_shows_how_far_it_is_and_gives_the_cursor_back():
    bar, screen = terminal_bar()
    bar.progress("training", 1, 2, "loss [1.0]")
    bar.progress("training", 2, 2, "loss [0.5]")
    text = screen.getvalue()
    assert "2/2" in text
    assert "loss [0.5]" in text  # brackets are no markup
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") >= 0  # shown after hidden


def test_a_stopped_bar_gives_the_cursor_back():
    bar, screen = terminal_bar()
    bar.progress("training", 1, 10)
    bar.stop(), bar.stop()
    text = screen.getvalue()
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") >= 0


def test_a_new_task_ends_the_bar_of_the_one_before():
    bar, screen = terminal_bar()
    bar.progress("training", 1, 10)
    bar.progress("denoising", 5, 5)
    assert bar.bar is None
    assert "denoising" in screen.getvalue()
    assert screen.getvalue().count("\x1b[?25l") == screen.getvalue().count("\x1b[?25h") == 2


def test_speaking_stops_the_voice_whatever_happens():
    stopped = []

    def interrupted() -> None:
        with speaking(quiet=False) as spoken:
            spoken.stop = lambda: stopped.append(1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert stopped == [1]


def test_a_log_gets_lines_and_quiet_nothing():
    with speaking(quiet=True) as nothing, speaking(quiet=False) as plain:
        assert isinstance(nothing, Quiet)
        assert isinstance(plain, Lines)  # standard error is no terminal here


def test_a_name_cannot_move_the_cursor_or_start_a_line(capsys):
    Lines().say("scan\x1b[2J\nerror: none")
    assert capsys.readouterr().err == "scan\\x1b[2J\\nerror: none\n"
    assert printable("σ = 1, näher") == "σ = 1, näher"
