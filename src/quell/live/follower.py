"""Follower: the voice of a run that is shown while it works."""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..glimpse import Glimpse
from ..run import State, Voice
from ..voice import printable
from .pictures import Painter

EVERY_SECONDS = 2.0  # a new picture at most so often
REST = 50  # times what a picture took is worked before the next one: 2 % of the time
POINTS = 300  # of a curve, at most; each the mean of a stretch of steps
LINES = 30  # of what was said, the last ones


@dataclass(frozen=True)
class Doing:
    """How far a task is; `first` of it were done `since` then."""

    task: str
    done: int
    total: int
    first: int
    since: float

    def seconds_left(self) -> float | None:
        """None where nothing tells."""
        passed, done = time.monotonic() - self.since, self.done - self.first
        return passed / done * (self.total - self.done) if done and passed >= 1 else None

    def as_dict(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "done": self.done,
            "total": self.total,
            "left": self.seconds_left(),
        }


class Follower(Voice):
    """A voice that passes on what it hears, and keeps it for the page.

    voice    what else is told
    title    what the run works at
    results  where its results will be, by what they are
    every    seconds between two pictures, at least

    The thread that works calls it, and `state` is asked for by others: each attribute is replaced
    whole, never changed, but for lists that only grow.
    """

    def __init__(
        self,
        voice: Voice,
        title: str,
        results: Mapping[str, Path],
        every: float = EVERY_SECONDS,
    ) -> None:
        self.voice, self.title, self.results, self.every = voice, title, results, every
        self.begun, self.due, self.ended = time.monotonic(), 0.0, 0.0
        self.stages: list[tuple[str, float]] = []  # with when each began
        self.doing: Doing | None = None
        self.losses: dict[str, Sequence[float]] = {}
        self.totals: dict[str, int] = {}  # of each task, in steps
        self.lines: deque[str] = deque(maxlen=LINES)
        self.painter: Painter | None = None
        self.verdict = ("", "")
        self.end = ("", "")  # "done", "stopped" or "failed", and why

    def say(self, line: str) -> None:
        self.lines.append(printable(line))
        self.voice.say(line)

    def stage(self, name: str) -> None:
        self.doing = None
        if not self.stages or self.stages[-1][0] != name:
            self.stages.append((name, time.monotonic()))

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        self.totals[task] = total
        now = self.doing
        if now is not None and (now.task, now.total) == (task, total) and now.done < done:
            self.doing = Doing(task, done, total, now.first, now.since)
        else:
            self.doing = Doing(task, done, total, done, time.monotonic())
        self.voice.progress(task, done, total, note)

    def look_at(self, choose: Callable[[], Glimpse]) -> None:
        def begin() -> None:
            self.painter = Painter(choose())
            self.due = time.monotonic() + self.every

        self._try(begin)

    def learned(
        self, task: str, losses: Sequence[float], state: Callable[[], State] | None
    ) -> None:
        self.losses[task] = losses
        painter, start = self.painter, time.monotonic()
        if state is None or painter is None or start < self.due:
            return
        is_drawn = self._try(
            lambda: painter.draw(painter.glimpse.estimate(state()), f"after {len(losses)} steps")
        )
        took = time.monotonic() - start
        self.due = start + took + max(self.every, REST * took) if is_drawn else math.inf

    def show(self, denoised: np.ndarray) -> None:
        if (painter := self.painter) is not None:
            self._try(lambda: painter.draw(painter.glimpse.cut(denoised), "the result"))

    def judged(self, level: str, sentence: str) -> None:
        self.verdict = (level, sentence)

    def finish(self, how: str, sentence: str = "") -> None:
        """The run is over: "done", "stopped" or "failed", and why."""
        self.ended = time.monotonic()
        self.end = (how, printable(sentence))

    def state(self) -> dict[str, Any]:
        """What the page shows, as JSON has it."""
        (level, verdict), (how, why) = self.verdict, self.end
        return {
            "title": printable(self.title),
            "seconds": (self.ended or time.monotonic()) - self.begun,
            "stages": self._stages(),
            "doing": self.doing and self.doing.as_dict(),
            "curves": self._curves(),
            "slice": self._slice(),
            "lines": list(self.lines),
            "verdict": {"level": level, "sentence": verdict},
            "end": {"how": how, "sentence": why},
            "results": [
                {"name": name, "path": printable(str(path.absolute()))}
                for name, path in self.results.items()
            ],
        }

    def _stages(self) -> list[dict[str, Any]]:
        stages = list(self.stages)
        ends = [begun for _, begun in stages[1:]] + [self.ended or time.monotonic()]
        return [
            {"name": name, "seconds": end - begun}
            for (name, begun), end in zip(stages, ends, strict=False)
        ]

    def _curves(self) -> list[dict[str, Any]]:
        return [
            {"task": task, "total": self.totals.get(task, len(losses)), **_curve(losses)}
            for task, losses in list(self.losses.items())
        ]

    def _slice(self) -> dict[str, Any] | None:
        if (painter := self.painter) is None:
            return None
        return {
            "number": painter.pictures.number,
            "when": painter.pictures.when,
            "volume": painter.glimpse.v,
            "z": painter.glimpse.z,
            "aspect": painter.aspect,
        }

    def _try(self, look: Callable[[], None]) -> bool:
        """Whether a look succeeded. What fails in it is said on the page: the run goes on."""
        try:
            look()
        except Exception as error:
            self.lines.append(printable(f"no picture ({type(error).__name__}: {error})"))
            return False
        return True


def _curve(losses: Sequence[float]) -> dict[str, Any]:
    """A curve of few points: steps, and the mean loss of the stretch that ends there."""
    values = np.array(losses, dtype=np.float64)
    stretch = max(1, math.ceil(len(values) / POINTS))
    cuts = np.arange(0, len(values), stretch)
    if not len(cuts):
        return {"steps": [], "losses": []}
    sizes = np.diff(np.append(cuts, len(values)))
    means = np.add.reduceat(values, cuts) / sizes
    return {
        "steps": [int(n) for n in cuts + sizes],
        "losses": [float(f"{m:.6g}") if math.isfinite(m) else None for m in means],
    }
