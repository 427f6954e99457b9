"""--live: a page of the run in the browser, while it runs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..live import Follower, Server
from ..loopback import open_browser
from ..run import Voice
from ..series import InputError


def refuse_page(live: bool, port: int | None, no_browser: bool) -> None:
    """Raise InputError (status 2) for choices about a page that is not asked for."""
    for name, is_given in (("--port", port is not None), ("--no-browser", no_browser)):
        if is_given and not live:
            raise InputError(f"{name} belongs to --live; give both, or leave it out", 2)


@contextmanager
def shown(
    voice: Voice,
    live: bool,
    port: int | None,
    no_browser: bool,
    title: str,
    results: Mapping[str, Path],
) -> Iterator[Voice]:
    """The voice, or, where a page is asked for, one that also tells the page.

    Its address is the only line on standard output, --quiet or not.
    """
    if not live:
        yield voice
        return
    with Server(Follower(voice, title, results), port or 0) as server:
        print(server.address, flush=True)
        if not no_browser:
            open_browser(server.address)
        with server.following() as follower:
            yield follower
