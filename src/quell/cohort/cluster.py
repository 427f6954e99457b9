"""Workers: processes of this machine, of a scheduler that runs already, or of a batch system.

Safety  A dask scheduler runs whatever it is sent by whoever reaches it. The one that is started
        here listens on this machine only and, like those of batch jobs, takes nobody who lacks the
        certificates of this run, which its own processes alone are given. What is sent are quell's
        own jobs as text; what comes back is text.
"""

import logging
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..series import InputError
from ..series.scan import first_line
from .work import denoise_scan

LOOPBACK = "127.0.0.1"
ADDRESS = re.compile(r"(tcp|tls)://\S+:\d+")
PATIENCE = 20.0  # seconds that a scheduler has to answer
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
INSTALL = "cohorts need dask; install it with: pip install 'quell[cohort]'"
QUIET: dict[str, Any] = {
    "distributed.scheduler.http.routes": [],  # no pages, not even read-only ones
    "distributed.worker.http.routes": [],
    "distributed.comm.timeouts.tcp": "15 minutes",  # a busy worker may be silent for long
    "distributed.comm.timeouts.connect": "2 minutes",
    "distributed.scheduler.worker-ttl": None,
    "distributed.worker.memory.target": False,  # scans are admitted by what they need instead
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "logging.distributed": "critical",
    "logging.tornado": "critical",
}


@dataclass(frozen=True)
class Worker:
    """One that takes one scan at a time.

    address  of it
    pool     name of the memory that it shares with others
    memory   bytes of that pool
    threads  that a scan may use there
    """

    address: str
    pool: str
    memory: float
    threads: int


@dataclass(frozen=True)
class Farm:
    """Workers that can be reached.

    client   of dask
    memory   bytes that all workers share, on one machine; None: each has its own
    renew    called now and then: asks for workers in the place of those that are gone
    """

    client: Any
    memory: int | None = None
    renew: Callable[[], None] = lambda: None

    def workers(self) -> list[Worker]:
        """Those that are there now."""
        self.renew()
        found = []
        for address, about in self.client.scheduler_info(n_workers=-1)["workers"].items():
            own = about["memory_limit"] or float("inf")
            pool, memory = (address, own) if self.memory is None else ("here", self.memory)
            found.append(Worker(address, pool, memory, int(about["nthreads"])))
        return found

    def submit(self, text: str, worker: Worker) -> Any:
        """A job on its way to a worker; dask's future of the answer."""
        return self.client.submit(
            denoise_scan, text, workers=[worker.address], allow_other_workers=False, pure=False
        )


@contextmanager
def local(n: int, threads: int, memory: int, gpus: int, folder: Path) -> Iterator[Farm]:
    """Processes of this machine.

    n        how many
    threads  that each may use
    memory   bytes that they share
    gpus     how many there are: each worker has one for itself; 0: none is used
    folder   for what dask keeps on disk
    """
    dask = dask_or_refuse()
    from distributed import Client, Nanny, Scheduler, SpecCluster

    security, ours = certificates(), str(private(folder))
    place = {"host": LOOPBACK, "protocol": "tls://", "security": security, "dashboard": False}
    each = {**place, "nthreads": 1, "memory_limit": memory, "local_directory": ours}
    each |= {"silence_logs": logging.CRITICAL, "worker_port": 0}
    each |= {"preload": [str(Path(__file__).with_name("preload.py"))], "preload_argv": []}
    words = {name: str(threads) for name in THREADS}
    spec = {
        i: {"cls": Nanny, "options": {**each, "env": words | gpu_of(i, gpus)}} for i in range(n)
    }
    scheduler = {
        "cls": Scheduler, "options": {**place, "port": 0, "dashboard_address": f"{LOOPBACK}:0"},
    }  # fmt: skip
    with ExitStack() as stack:
        spawned = {**words, "MALLOC_TRIM_THRESHOLD_": "65536"}
        stack.enter_context(
            dask.config.set({**QUIET, "distributed.nanny.pre-spawn-environ": spawned})
        )
        silent_loggers()
        cluster = stack.enter_context(
            SpecCluster(
                workers=spec, scheduler=scheduler, security=security, silence_logs=logging.CRITICAL
            )
        )
        client = stack.enter_context(Client(cluster, security=security, set_as_default=False))
        stack.callback(shutil.rmtree, ours, ignore_errors=True)
        yield Farm(client, memory)


@contextmanager
def existing(address: str, tls: Mapping[str, str]) -> Iterator[Farm]:
    """The workers of a scheduler that runs already.

    address  tcp://host:port or tls://host:port
    tls      ca, cert and key: files; empty: as dask's own configuration has it

    Raises InputError where none answers.
    """
    dask = dask_or_refuse()
    from distributed import Client
    from distributed.security import Security

    for file in tls.values():
        if not Path(file).is_file():
            raise InputError(f"{file} does not exist; give the certificate of your scheduler", 2)
    chosen = {"tls_ca_file": "ca", "tls_client_cert": "cert", "tls_client_key": "key"}
    files = {name: tls[key] for name, key in chosen.items() if key in tls}
    encrypted = address.startswith("tls")
    with dask.config.set(QUIET):
        silent_loggers()
        try:
            security = Security(require_encryption=encrypted, **files) if encrypted else None
            client = Client(address, security=security, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            raise InputError(
                f"no dask scheduler answers at {address} ({first_line(error)}); start one with "
                "`dask scheduler`, or give another address"
            ) from error
        with client:
            yield Farm(client)


def own_folder(work: Path) -> Path:
    """The folder of this run for what dask keeps; those of runs that were killed here go."""
    host = re.sub(r"[^A-Za-z0-9]", "", socket.gethostname()) or "here"
    for old in work.glob(f"dask-{host}-*"):
        number = old.name.rpartition("-")[2]
        if number.isdecimal() and not Path("/proc", number).exists():
            shutil.rmtree(old, ignore_errors=True)
    return work / f"dask-{host}-{os.getpid()}"


def is_address(word: str) -> bool:
    """Whether a word is a scheduler's address."""
    return ADDRESS.fullmatch(word) is not None


def silent_loggers() -> None:
    """What dask says of its own business is not for the person who denoises."""
    for name in ("distributed", "tornado", "asyncio", "bokeh"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def certificates() -> Any:
    """Of this run alone: nobody else reaches the scheduler, no other user of the machine either."""
    from distributed.security import Security

    try:
        return Security.temporary()
    except ImportError:
        raise InputError(INSTALL) from None


def private(folder: Path) -> Path:
    """A folder that other users can't look into."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o700)
    return folder


def gpu_of(i: int, gpus: int) -> dict[str, str]:
    """What a worker is told of the GPUs: one for itself, of those that this process may use."""
    if not gpus:
        return {}
    there = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = there.split(",") if there else [str(k) for k in range(gpus)]
    return {"CUDA_VISIBLE_DEVICES": names[i]}


def dask_or_refuse() -> Any:
    """dask, imported when it is needed; one sentence where it is missing."""
    try:
        import dask
        import distributed  # noqa: F401
    except ImportError:
        raise InputError(INSTALL) from None
    return dask
