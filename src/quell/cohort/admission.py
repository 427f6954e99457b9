"""Admission: which scan goes to which worker, and when.

Idea    A worker takes one scan at a time, and scans together take no more memory than there is:
        what each will need is known before it is sent. Large ones go first.
Here    A worker that dies gives its scan back, which goes to another; a scan that ended two workers
        is given up. A scan that fits nowhere is refused in words, and never sent.
"""

import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from ..compare.running import FAILED
from ..series.scan import first_line
from .cluster import Worker
from .job import Job
from .manifest import Entry

GIB = 2**30
TRIES = 2  # workers that a scan may end
POLL = 0.5  # seconds between two looks at the workers


class Workers(Protocol):
    """Where scans are sent."""

    def workers(self) -> list[Worker]: ...

    def submit(self, text: str, worker: Worker) -> Any: ...


@dataclass(frozen=True)
class Waiting:
    """A job, the bytes that it will need, and how many workers it has ended."""

    job: Job
    need: int
    tries: int = 0


@dataclass
class Admission:
    """All jobs on their way through all workers.

    farm     where they are sent
    waiting  what is to be done
    threads  that a scan uses; None: as many as its worker has
    tell     called with each record, in the order of their ends
    idle     called now and then while nothing else happens
    """

    farm: Workers
    waiting: list[Waiting]
    threads: int | None
    tell: Callable[[Entry], None]
    idle: Callable[[int], None] = lambda n: None
    running: dict[Any, tuple[Waiting, Worker]] = field(default_factory=dict)
    ended: "SimpleQueue[Any]" = field(default_factory=SimpleQueue)
    fits: float = math.inf  # bytes; nothing that waits needs more

    def run(self) -> None:
        """Until nothing waits and nothing runs."""
        self.waiting.sort(key=lambda w: -w.need)
        while self.waiting or self.running:
            workers = self.farm.workers()
            self._take_back(workers)
            self._refuse(workers)
            self._send(workers)
            self.idle(len(workers))
            self._collect()

    def _send(self, workers: list[Worker]) -> None:
        busy = {worker.address for _, worker in self.running.values()}
        taken: dict[str, int] = {}
        for item, worker in self.running.values():
            taken[worker.pool] = taken.get(worker.pool, 0) + item.need
        full: set[str] = set()  # pools in which nothing that waits has room
        for worker in workers:
            if worker.address in busy or worker.pool in full:
                continue
            free = worker.memory - taken.get(worker.pool, 0)
            at = next((i for i, w in enumerate(self.waiting) if w.need <= free), None)
            if at is None:
                full.add(worker.pool)
                continue
            item = self.waiting.pop(at)
            threads = self.threads or worker.threads
            job = replace(item.job, options={**item.job.options, "threads": threads})
            future = self.farm.submit(job.text, worker)
            self.running[future] = item, worker
            taken[worker.pool] = taken.get(worker.pool, 0) + item.need
            future.add_done_callback(self.ended.put)

    def _take_back(self, workers: list[Worker]) -> None:
        """The scans of workers that are gone."""
        there = {worker.address for worker in workers}
        for future, (item, worker) in list(self.running.items()):
            if worker.address not in there and not future.done():
                del self.running[future]
                with suppress(Exception):
                    future.cancel()
                self._again(item)

    def _again(self, item: Waiting) -> None:
        if item.tries + 1 < TRIES:
            self.waiting.insert(0, replace(item, tries=item.tries + 1))
            return
        why = (
            f"its worker ended {TRIES} times, most likely for lack of memory (about "
            f"{item.need / GIB:.1f} GiB were expected); give the workers more, or start fewer"
        )
        self.tell(item.job.entry(FAILED, why))

    def _refuse(self, workers: list[Worker]) -> None:
        """Say of scans that fit nowhere, while any worker is there to compare with."""
        if not workers:
            return
        most = max(worker.memory for worker in workers)
        if most >= self.fits:
            return
        self.fits = most
        for item in [w for w in self.waiting if w.need > most]:
            self.waiting.remove(item)
            why = (
                f"it needs about {item.need / GIB:.1f} GiB of memory and a worker may have at most "
                f"{most / GIB:.1f}; take a larger machine, or say --memory if there is more"
            )
            self.tell(item.job.entry(FAILED, why))

    def _collect(self) -> None:
        """Every record that came in, after waiting a little for the first."""
        wait = POLL
        while True:
            try:
                future = self.ended.get(timeout=wait)
            except Empty:
                return
            wait = 0.0
            item, _ = self.running.pop(future, (None, None))
            if item is not None:
                self._one(future, item)

    def _one(self, future: Any, item: Waiting) -> None:
        try:
            entry = Entry.of_text(future.result())
        except (json.JSONDecodeError, TypeError, KeyError, AttributeError):
            entry = item.job.entry(FAILED, "its worker gave no record; is it quell's own?")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            if type(error).__name__ in ("KilledWorker", "CancelledError", "FutureCancelledError"):
                self._again(item)
                return
            why = f"its worker could not run it ({type(error).__name__}: {first_line(error)})"
            entry = item.job.entry(FAILED, f"{why}; is the same quell installed there?")
        self.tell(entry)
