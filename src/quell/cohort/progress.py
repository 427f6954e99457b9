"""Progress: how far a study is, how long it will take, and whether anybody works on it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..compare.running import DONE
from ..run import Voice
from ..series import InputError
from .manifest import Entry

PATIENCE = 60.0  # seconds between two lines about workers that do not come
ENOUGH = 600.0  # seconds after which those of this machine are given up


@dataclass
class Impatience:
    """Says now and then that no worker is there; does not wait for ever for this machine's own."""

    voice: Voice
    is_local: bool
    since: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)

    def look(self, n_workers: int) -> None:
        """Called with the number of workers that are there now."""
        now = time.monotonic()
        if n_workers:
            self.since = self.said = now
        elif self.is_local and now - self.since > ENOUGH:
            raise InputError("no worker starts on this machine; start fewer, or look at its memory")
        elif now - self.said > PATIENCE:
            self.voice.say("no worker is there yet; waiting for one")
            self.said = now


def time_left(took: float, sizes: Mapping[str, int], ended: Sequence[Entry]) -> float | None:
    """Seconds, by how fast the scans so far went; None before the first good one.

    took   seconds so far
    sizes  bytes of each scan, by name
    ended  records so far
    """
    done = sum(sizes[e.name] for e in ended if e.status == DONE)
    left = sum(sizes.values()) - sum(sizes[e.name] for e in ended)
    return took * left / done if done else None


def note(ended: Sequence[Entry], left: float | None) -> str:
    """What stands behind the bar: how many failed, how long it will take."""
    n = sum(entry.status != DONE for entry in ended)
    words = [f"{n} failed"] if n else []
    if left:
        words.append(f"about {left / 60:.0f} min left" if left > 90 else f"about {left:.0f} s left")
    return ", ".join(words)
