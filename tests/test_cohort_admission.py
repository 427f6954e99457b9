"""Admission: no more memory than there is, nothing lost when workers go, nothing sent in vain."""

from dataclasses import dataclass, field, replace

import pytest

from quell.cohort import memory
from quell.cohort.admission import GIB, Admission, Waiting
from quell.cohort.cluster import Worker
from quell.cohort.job import Job
from quell.compare.running import DONE, FAILED

JOB = Job("sub-1_dwi", "dwi", "", "", "", "", "", {}, [], {}, "", "",
          {"method": "mppca", "preset": "default", "threads": None}, "", "how")  # fmt: skip


@dataclass(eq=False)
class Promise:
    """Of an answer, as dask gives it."""

    text: str
    calls: list = field(default_factory=list)
    is_done: bool = False
    error: BaseException | None = None

    def done(self):
        return self.is_done

    def cancel(self):
        pass

    def add_done_callback(self, call):
        self.calls.append(call)

    def result(self):
        if self.error:
            raise self.error
        return self.text

    def end(self, error=None):
        self.is_done, self.error = True, error
        for call in self.calls:
            call(self)


class Pretend:
    """Workers that finish one scan whenever they are looked at."""

    def __init__(self, workers, dies=(), error=None):
        self.there, self.dies, self.error = list(workers), list(dies), error
        self.sent, self.most, self.running = [], {}, []

    def workers(self):
        if self.running:
            worker, promise, _ = self.running.pop(0)
            if self.dies and promise.name in self.dies:
                self.dies.remove(promise.name)
                self.there = [w for w in self.there if w != worker]
                self.there.append(replace(worker, address=worker.address + "'"))
            else:
                promise.end(self.error)
        return self.there

    def submit(self, text, worker):
        job = Job.of_text(text)
        promise = Promise(job.entry(DONE).text)
        promise.name = job.name
        self.sent.append((job, worker))
        self.running.append((worker, promise, job))
        pool = [needs[j.name] for w, _, j in self.running if w.pool == worker.pool]
        self.most[worker.pool] = max(self.most.get(worker.pool, 0), sum(pool))
        return promise


needs: dict[str, int] = {}


def run(farm, sizes, threads=None):
    """The records of scans of these sizes, in GiB."""
    needs.clear()
    needs.update({f"sub-{i}_dwi": int(gib * GIB) for i, gib in enumerate(sizes)})
    waiting = [Waiting(replace(JOB, name=name), need) for name, need in needs.items()]
    told = []
    Admission(farm, waiting, threads, told.append).run()
    return {entry.name: entry for entry in told}


def worker(i=0, pool="here", gib=10.0, threads=1):
    return Worker(f"w{i}", pool, gib * GIB, threads)


def test_every_scan_is_done():
    told = run(Pretend([worker(0), worker(1)]), [1, 2, 3, 4, 5])
    assert [e.status for e in told.values()] == [DONE] * 5


def test_scans_together_never_take_more_than_there_is():
    farm = Pretend([worker(i) for i in range(6)])
    run(farm, [6, 5, 4, 3, 3, 2, 2, 9])
    assert farm.most["here"] <= 10 * GIB


def test_each_worker_with_memory_of_its_own_is_filled_by_itself():
    farm = Pretend([worker(0, "a", 4), worker(1, "b", 16)])
    run(farm, [12, 3, 3, 12])
    assert all(w.pool == "b" for job, w in farm.sent if needs[job.name] > 4 * GIB)


def test_the_largest_goes_first():
    farm = Pretend([worker()])
    run(farm, [1, 7, 3])
    assert [job.name for job, _ in farm.sent] == ["sub-1_dwi", "sub-2_dwi", "sub-0_dwi"]


def test_a_scan_that_fits_nowhere_is_refused_in_words():
    farm = Pretend([worker()])
    told = run(farm, [1, 11])
    assert told["sub-1_dwi"].status == FAILED
    assert "needs about 11.0 GiB of memory and a worker may have at most 10.0" in (
        told["sub-1_dwi"].why
    )
    assert [job.name for job, _ in farm.sent] == ["sub-0_dwi"]


def test_the_scan_of_a_worker_that_died_goes_to_another():
    farm = Pretend([worker(0), worker(1)], dies=["sub-1_dwi"])
    told = run(farm, [1, 1, 1])
    assert [e.status for e in told.values()] == [DONE] * 3
    assert len(farm.sent) == 4


def test_a_scan_that_ends_its_workers_is_given_up():
    farm = Pretend([worker()], dies=["sub-0_dwi", "sub-0_dwi"])
    told = run(farm, [2, 1])
    assert told["sub-1_dwi"].status == DONE
    assert "ended 2 times, most likely for lack of memory" in told["sub-0_dwi"].why


class Counted(int):
    """A need that counts how often it is held against what is free."""

    looks = 0

    def __le__(self, free):
        Counted.looks += 1
        return int(self) <= free


def test_busy_workers_and_scans_that_wait_cost_no_looks():
    farm = Pretend([worker(i, f"own{i}") for i in range(100)])
    waiting = [Waiting(replace(JOB, name=f"sub-{i}_dwi"), Counted(GIB)) for i in range(500)]
    needs.update({w.job.name: w.need for w in waiting})
    told = []
    Admission(farm, waiting, None, told.append).run()
    assert len(told) == 500
    assert Counted.looks <= 1000  # and not workers x scans x scans


def test_a_worker_that_can_not_run_quell_is_said():
    told = run(Pretend([worker()], error=ModuleNotFoundError("No module named 'quell'")), [1])
    assert "is the same quell installed there?" in told["sub-0_dwi"].why


def test_a_scan_uses_the_threads_of_its_worker_or_those_asked_for():
    farm = Pretend([worker(threads=4)])
    run(farm, [1])
    run(farm, [1], threads=2)
    assert [job.options["threads"] for job, _ in farm.sent] == [4, 2]


def test_workers_are_as_many_as_fit():
    assert memory.workers_that_fit([2 * GIB] * 9, cores=16, memory=7 * GIB) == 3
    assert memory.workers_that_fit([2 * GIB] * 9, cores=2, memory=99 * GIB) == 2
    assert memory.workers_that_fit([GIB], cores=16, memory=99 * GIB) == 1
    assert memory.workers_that_fit([9 * GIB] * 3, cores=16, memory=GIB) == 1


def test_the_need_grows_with_the_scan_and_with_what_is_asked():
    one, two = (memory.need_of(JOB, n * GIB) for n in (1, 2))
    assert one > 4 * GIB
    assert two > one
    assert memory.need_of(replace(JOB, recorrupt=True), GIB) > one


@pytest.mark.parametrize("gib", [0.0, -1.0, float("nan")])
def test_no_memory_is_refused(gib):
    with pytest.raises(Exception, match="are none"):
        memory.budget(gib)
