"""Server: the page of a run, for whoever has its address (`loopback`), until the run is over."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files

from .. import loopback
from ..loopback import CSS, HTML, JS, JSON, NOT_HERE, TEXT, Answer
from ..series import InputError
from .follower import Follower

PNG = "image/png"
PAGE = {  # what follows the token in the address -> kind and file
    "": (HTML, "page/live.html"),
    "live.css": (CSS, "page/live.css"),
    "live.js": (JS, "page/live.js"),
    "curve.js": (JS, "page/curve.js"),
}
PICTURE = re.compile(r"(noisy|denoised|residual)/[0-9]{1,9}")  # the number is for the browser
PACE = 1.0  # s that "next" keeps a page waiting; a page in the background has no clock of its own
FAREWELL = 2.0  # s at most that an open page has to fetch how the run ended
TICK = 0.1  # s until a server that is told to stop does


class Server(loopback.Server):
    """Serves what a follower has seen. Raises InputError if the port cannot be had."""

    def __init__(self, follower: Follower, port: int = 0) -> None:
        super().__init__(self._answer_to, port)
        self.follower = follower
        self.over = threading.Event()
        self.change = threading.Condition()
        self.waiting, self.told, self.asked = 0, 0, -FAREWELL

    @contextmanager
    def following(self) -> Iterator[Follower]:
        """Serve while a run goes on inside; the pages that are open learn how it ended."""
        threading.Thread(target=self.serve_forever, args=(TICK,), daemon=True).start()
        try:
            yield self.follower
        except BaseException as error:
            self.follower.finish(*_end_of(error))
            raise
        else:
            self.follower.finish("done")
        finally:
            self._take_leave()
            self.shutdown()

    def _take_leave(self) -> None:
        """Let every open page fetch the end; nobody is waited for who does not come soon."""
        with self.change:
            was_here = time.monotonic() - self.asked < 2 * PACE
            n_open = max(self.waiting, int(was_here))
            self.over.set()
            with suppress(KeyboardInterrupt):  # the run itself is over
                self.change.wait_for(lambda: self.told >= n_open, FAREWELL)

    def _answer_to(self, what: str) -> Answer:
        """The answer to what follows the token in the address, taken as it is."""
        if what in PAGE:
            kind, name = PAGE[what]
            return Answer(kind, files(__package__).joinpath(name).read_bytes())
        if what in ("state", "next"):
            return self._state(is_patient=what == "next")
        if what == "seen":
            with self.change:
                self.told += 1
                self.change.notify_all()
            return Answer(TEXT, b"")
        if match := PICTURE.fullmatch(what):
            painter = self.follower.painter
            picture = getattr(painter.pictures, match[1]) if painter else b""
            return Answer(PNG, picture) if picture else NOT_HERE
        return NOT_HERE

    def _state(self, is_patient: bool) -> Answer:
        """What there is to show; to a patient page after a moment, or when the run is over."""
        with self.change:
            self.waiting += is_patient
        if is_patient:
            self.over.wait(PACE)
        with self.change:
            self.waiting -= is_patient
            self.asked = time.monotonic()
        text = json.dumps(self.follower.state(), ensure_ascii=False, allow_nan=False)
        return Answer(JSON, text.encode("utf-8", "backslashreplace"))


def _end_of(error: BaseException) -> tuple[str, str]:
    """How a run ended that raised, and why, in words."""
    if isinstance(error, KeyboardInterrupt):
        return "stopped", str(error) or "stopped; nothing was written"
    if isinstance(error, InputError):
        return "failed", str(error)
    return "failed", f"{type(error).__name__}: {error}; the terminal may say more"
