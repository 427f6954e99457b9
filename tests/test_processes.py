"""Processes: several learn what one learns, and one that dies costs no more than a while."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import write_scan
from quell import processes
from quell.models import read_model
from quell.processes import Together, connected, device_of_this, main_first, threads_of_each
from quell.run import Alone, Run
from quell.series import InputError
from quell.simulate import corrupt, phantom
from quell.trainer import Training, train
from test_trainer import Mixer, draw, loss

STEPS = 12


@dataclass
class Meeting:
    """Where threads that play processes meet to add up their values."""

    count: int
    values: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.barrier = threading.Barrier(self.count, timeout=20)


@dataclass(frozen=True)
class Thread:
    """One of several processes, played by a thread."""

    rank: int
    meeting: Meeting

    @property
    def count(self) -> int:
        return self.meeting.count

    def sum(self, values: Tensor) -> Tensor:
        self.meeting.values[self.rank] = values
        self.meeting.barrier.wait()
        total = torch.stack([self.meeting.values[r] for r in range(self.count)]).sum(dim=0)
        self.meeting.barrier.wait()
        return total


def together(count: int, work) -> list:
    """What `work(processes)` gives in each of several threads; what it raises, too."""
    meeting, results = Meeting(count), [None] * count

    def one(rank: int) -> None:
        try:
            results[rank] = work(Thread(rank, meeting))
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def learn(processes, parts: int, folder=None, steps: int = STEPS, seen=None):
    """Losses and weights of a small training."""
    run = Run(seed=3, folder=folder, processes=processes)
    watch = draw if seen is None else lambda rng: seen.append(rng.initial_seed()) or draw(rng)
    weights = train(Mixer(), watch, loss, Training(steps, parts=parts), run)
    return run.kept["losses"], weights


def close(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-6)  # order of the sums


# ---- parts of a step -----------------------------------------------------------------------------


def test_a_step_is_the_mean_over_its_parts():
    net, run = Mixer(), Run(seed=3)
    training = Training(3, learning_rate=0.01, parts=2, is_plain=True)
    kept = train(Mixer(), draw, loss, training, run)
    adam = torch.optim.Adam(net.parameters(), lr=0.01)
    for step in range(3):
        values = []
        for part in range(2):
            rng = run.rng("train", step, part)
            values.append(loss(net, draw(rng), rng))
        adam.zero_grad()
        (sum(values) / 2).backward()
        adam.step()
        assert run.kept["losses"][step] == pytest.approx(sum(values).item() / 2, rel=1e-6)
    close(kept, net.state_dict())


def test_the_first_part_draws_what_a_step_of_one_part_draws():
    one, two = [], []
    learn(Alone(), 1, seen=one)
    learn(Alone(), 2, seen=two)
    assert two[::2] == one
    assert len(set(two)) == 2 * STEPS


@pytest.mark.parametrize(("count", "parts"), [(2, 2), (2, 4), (3, 3)])
def test_several_processes_learn_what_one_learns(count, parts):
    losses, weights = learn(Alone(), parts)
    for curve, others in together(count, lambda p: learn(p, parts)):
        np.testing.assert_allclose(curve, losses, rtol=1e-5)  # order of the sums
        close(others, weights)


def test_all_processes_end_with_the_same_bytes():
    (a, b) = (weights for _, weights in together(2, lambda p: learn(p, 4)))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_each_part_is_drawn_once():
    seen = [[], []]
    together(2, lambda p: learn(p, 4, seen=seen[p.rank]))
    assert len(seen[0]) == len(seen[1]) == 2 * STEPS
    alone = []
    learn(Alone(), 4, seen=alone)
    assert sorted(seen[0] + seen[1]) == sorted(alone)


def test_only_the_main_process_writes_and_all_go_on_from_there(tmp_path):
    folders = [tmp_path / "0", tmp_path / "1"]
    together(2, lambda p: learn(p, 2, folders[p.rank], steps=STEPS))
    assert (folders[0] / "training.pt").exists()
    assert not folders[1].exists()
    again = [[], []]
    results = together(2, lambda p: learn(p, 2, folders[0], seen=again[p.rank]))
    assert again == [[], []]
    close(results[1][1], learn(Alone(), 2)[1])


@pytest.mark.parametrize(("parts", "count"), [(0, 1), (3, 2), (1, 2)])
def test_parts_that_cannot_be_shared_evenly_are_refused(parts, count):
    for refused in together(count, lambda p: learn(p, parts)):
        assert isinstance(refused, InputError)
        assert refused.status == 2
        assert "--parts" in str(refused)


def test_parts_of_the_command_line_reach_the_training(quell, tmp_path):
    folder = scans(tmp_path)
    losses = []
    for parts in (1, 2):
        model = tmp_path / f"{parts}.safetensors"
        words = *TINY, "--threads", "1", "--parts", parts
        assert quell("train", folder, "--model-out", model, *words).status == 0
        losses.append(read_model(model).losses)
    assert losses[0][0] != losses[1][0]


# ---- who waits for whom --------------------------------------------------------------------------


def test_the_others_wait_for_the_main_process():
    done = []

    def work(p):
        main_first(p, lambda: done.append(p.rank))
        return list(done)

    assert together(3, work) == [[0], [0], [0]]


def test_all_end_where_the_main_process_fails():
    def work(p):
        main_first(p, lambda: {}["nothing"])

    first, *others = together(3, work)
    assert isinstance(first, KeyError)
    assert all(isinstance(error, processes.ProcessLostError) for error in others)


def test_a_lost_process_is_said_in_words(monkeypatch):
    def reset(_):
        raise RuntimeError("Connection reset by peer")

    monkeypatch.setattr(torch.distributed, "all_reduce", reset)
    with pytest.raises(InputError, match="run the same command again"):
        Together(0, 2, torch.device("cpu")).sum(torch.ones(1))


# ---- what the launcher says ----------------------------------------------------------------------


@pytest.fixture
def one_of_two(monkeypatch):
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2"), ("RANK", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_RANK", "1")
    return monkeypatch


def test_one_process_is_alone_whatever_it_lacks(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setenv("WORLD_SIZE", "1")
    with connected(torch.device("cpu")) as alone:
        assert (alone.rank, alone.count) == (0, 1)


def test_several_processes_without_accelerate_are_refused_in_words(one_of_two):
    one_of_two.setitem(sys.modules, "accelerate", None)
    with pytest.raises(InputError, match=r"quell\[multi-gpu\]"), connected(torch.device("cpu")):
        pass


@pytest.mark.parametrize(
    ("n_gpus", "asked", "given"),
    [(0, "auto", "cpu"), (2, "auto", "cuda:1"), (2, "cuda", "cuda:1"), (2, "cpu", "cpu")],
)
def test_every_process_gets_a_device_of_its_own(one_of_two, n_gpus, asked, given):
    one_of_two.setattr(torch.cuda, "device_count", lambda: n_gpus)
    assert device_of_this(asked) == given


@pytest.mark.parametrize(
    ("n_gpus", "asked", "says"),
    [(1, "auto", "start fewer"), (0, "cuda", "start fewer"), (2, "cuda:0", "can't share cuda:0")],
)
def test_a_device_for_all_processes_is_refused(one_of_two, n_gpus, asked, says):
    one_of_two.setattr(torch.cuda, "device_count", lambda: n_gpus)
    with pytest.raises(InputError, match=says) as refused:
        device_of_this(asked)
    assert refused.value.status == 2


def test_processes_share_the_cores(one_of_two):
    assert [threads_of_each(n) for n in (1, 2, 16)] == [1, 1, 8]
    one_of_two.setenv("WORLD_SIZE", "1")
    assert threads_of_each(16) == 16


def test_of_several_processes_only_the_main_one_speaks(one_of_two, quell, tmp_path):
    words = "train", tmp_path, "--model-out", tmp_path / "m.safetensors", "--method", "difusion"
    ended = quell(*words)
    assert (ended.status, ended.err) == (2, "")
    one_of_two.setenv("RANK", "0")
    assert "difusion learns from one scan" in quell(*words).err


# ---- real ones -----------------------------------------------------------------------------------

TINY = ("--set", "steps=8", "--set", "channels=8", "--set", "patch=16", "--device", "cpu")

# quell, with a checkpoint at every step, where process 1 dies at its n-th step if n is given
DRIVER = """
import os, signal, sys
from quell import trainer
from quell.cli import main

trainer.CHECKPOINT_SECONDS = 0.0
own, last = trainer._pace, int(sys.argv.pop(1))

def pace(step, steps):
    if step == last and os.environ.get("RANK") == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return own(step, steps)

trainer._pace = pace
main()
"""


def scans(tmp_path: Path) -> Path:
    """A folder of two small scans."""
    folder, clean = tmp_path / "scans", phantom("small").clean
    folder.mkdir()
    for seed in range(2):
        piece = clean.data[8:24, 9:27, 4:7]
        noisy = corrupt(piece, 40.0, np.random.default_rng(seed), "rician")
        write_scan(folder / f"{seed}.nii", replace(clean, data=noisy, mask=None))
    return folder


def launched(tmp_path: Path, *words: object) -> subprocess.CompletedProcess:
    """Two processes of the driver, under torchrun."""
    pytest.importorskip("accelerate")
    (tmp_path / "driver.py").write_text(DRIVER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    process = subprocess.Popen(
        [*command, tmp_path / "driver.py", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=120)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what a hanging launcher would leave behind
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@pytest.mark.slow
def test_two_processes_of_torchrun_learn_what_one_learns(quell, tmp_path):
    folder = scans(tmp_path)
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    ended = launched(tmp_path, -1, "train", folder, "--model-out", two, *TINY, "--threads", 1)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("learning from 2 scans") == 1  # one of them speaks
    words = *TINY, "--threads", "1", "--parts", "2"
    assert quell("train", folder, "--model-out", one, *words).status == 0
    np.testing.assert_allclose(read_model(two).losses, read_model(one).losses, rtol=1e-4)


@pytest.mark.slow
def test_a_killed_process_costs_the_step_in_hand(quell, tmp_path):
    folder = scans(tmp_path)
    model, whole = tmp_path / "m.safetensors", tmp_path / "whole.safetensors"
    words = "train", folder, "--model-out", model, *TINY, "--threads", 1
    killed = launched(tmp_path, 5, *words)
    assert killed.returncode != 0
    assert not model.exists()
    assert list(tmp_path.glob(".m.safetensors.quell/*/training.pt"))
    ended = launched(tmp_path, -1, *words)
    assert ended.returncode == 0, ended.stderr
    assert "training 1/8" not in ended.stderr  # it did not begin anew
    words = *TINY, "--threads", "1", "--parts", "2"
    assert quell("train", folder, "--model-out", whole, *words).status == 0
    a, b = read_model(model), read_model(whole)
    np.testing.assert_allclose(a.losses, b.losses, rtol=1e-4)
    close(a.state, b.state)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_what_the_main_process_refuses_ends_all_and_is_said_once(tmp_path):
    (tmp_path / "empty").mkdir()
    words = "train", tmp_path / "empty", "--model-out", tmp_path / "m.safetensors", *TINY
    ended = launched(tmp_path, -1, *words)
    assert ended.returncode != 0
    assert ended.stderr.count("there is no noisy scan") == 1
    assert "another process" not in ended.stderr
    assert not list(tmp_path.glob("*.log"))
