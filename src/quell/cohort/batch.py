"""Batch systems: workers as jobs of Slurm, PBS, SGE or LSF, started by dask-jobqueue.

Here    A short YAML says what a job is; one job is one worker, and takes one scan at a time:

            queue: short        # partition
            cores: 8
            memory: 32 GB
            walltime: "04:00:00"
            jobs: 10            # at once
"""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ..series import InputError
from ..series.scan import first_line
from .cluster import INSTALL, QUIET, Farm, certificates, dask_or_refuse, private, silent_loggers

CLUSTERS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster"}
# what the file says -> what dask-jobqueue calls it
KEYS = {
    "queue": "queue",
    "cores": "cores",
    "memory": "memory",
    "walltime": "walltime",
    "account": "account",
    "project": "project",
    "interface": "interface",
    "python": "python",
    "directives": "job_extra_directives",
    "prologue": "job_script_prologue",
}
NEEDED = ("cores", "memory")
LISTS = ("directives", "prologue")
TLS = ("tls_ca", "tls_cert", "tls_key")


def read_file(path: Path | None) -> dict[str, Any]:
    """What a --dask-file says; {} for none.

    Raises InputError (status 2) for a file that can't be read, and for keys that are not known.
    """
    if path is None:
        return {}
    dask_or_refuse()
    import yaml

    try:
        said = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(
            f"{path} is not readable YAML ({first_line(error)}); correct it", 2
        ) from error
    known = (*KEYS, "jobs", *TLS)
    if not isinstance(said, dict) or not all(isinstance(key, str) for key in said):
        raise InputError(f"{path} must have lines such as `cores: 8`; correct it", 2)
    for key in said:
        if key not in known:
            raise InputError(f"{path}: {key!r} is not known; choose from {', '.join(known)}", 2)
    for key in LISTS:
        if key in said and not isinstance(said[key], list):
            raise InputError(f"{path}: {key} must be a list", 2)
    if not isinstance(said.get("jobs", 1), int) or said.get("jobs", 1) < 1:
        raise InputError(f"{path}: jobs must be a whole number, 1 or more", 2)
    return said


@contextmanager
def batch(kind: str, said: Mapping[str, Any], n_scans: int, folder: Path) -> Iterator[Farm]:
    """Workers that a batch system starts; they come when it lets them.

    kind     slurm, pbs, sge or lsf
    said     what the person's file says
    n_scans  no more jobs than these
    folder   shared by all machines: for certificates and what dask keeps on disk
    """
    dask = dask_or_refuse()
    from distributed import Client

    with dask.config.set(QUIET):
        silent_loggers()
        with cluster_of(kind, said, folder) as cluster:
            # asked for again and again: a job that met its time limit is then started anew
            renew = partial(cluster.scale, jobs=min(int(said.get("jobs", 1)), n_scans))
            renew()
            with Client(cluster, security=cluster.security, set_as_default=False) as client:
                yield Farm(client, renew=renew)


def cluster_of(kind: str, said: Mapping[str, Any], folder: Path) -> Any:
    """dask-jobqueue's cluster, its scheduler running and no job submitted yet.

    Raises InputError (status 2) where the file lacks something.
    """
    missing = [key for key in NEEDED if key not in said]
    if missing:
        raise InputError(
            f"--dask {kind} needs --dask-file with {' and '.join(NEEDED)}; "
            f"{' and '.join(missing)} is missing",
            2,
        )
    try:
        import dask_jobqueue
    except ImportError:
        raise InputError(INSTALL) from None
    ours = str(private(folder))
    settings = {KEYS[key]: value for key, value in said.items() if key in KEYS}
    settings[KEYS["prologue"]] = [*told_to_workers(), *said.get("prologue", [])]
    try:
        return getattr(dask_jobqueue, CLUSTERS[kind])(
            processes=1,
            protocol="tls://",
            security=certificates(),
            shared_temp_directory=ours,
            local_directory=ours,
            log_directory=ours,
            job_name="quell",
            scheduler_options={"dashboard": False},
            worker_extra_args=["--no-dashboard"],
            **settings,
        )
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"--dask {kind} can't start ({first_line(error)}); look at --dask-file"
        ) from error


def told_to_workers() -> list[str]:
    """Lines of a job's script: the settings that a worker of this machine gets from its parent."""
    lines = []
    for name, value in QUIET.items():
        if name.startswith(("distributed.comm", "distributed.worker")):
            words = name.upper().replace(".", "__").replace("-", "_")
            lines.append(f"export DASK_{words}={shlex.quote(repr(value))}")
    return lines
