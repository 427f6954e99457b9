"""Workers: batch jobs by their text, a scheduler of one's own with certificates, and faults."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from quell.cohort import batch, cluster
from quell.series import InputError
from studies_on_disk import Study, put, small
from test_cohort_command import QUICK, cohort, images, table

BIG = 3  # times as large: long enough to be stopped in the middle


def yaml(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cores: [", "not readable YAML"),
        ("cores", "must have lines such as"),
        ("nodes: 3", "'nodes' is not known"),
        ("jobs: many", "jobs must be a whole number"),
        ("directives: --gres=gpu:1", "directives must be a list"),
        ("!!python/object/apply:os.system ['true']", "not readable YAML"),
    ],
)
def test_a_bad_file_about_jobs_is_refused(tmp_path, text, said):
    with pytest.raises(InputError, match=re.escape(said)) as error:
        batch.read_file(yaml(tmp_path / "jobs.yml", text))
    assert error.value.status == 2


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("slurm", ["#SBATCH -p short", "#SBATCH --cpus-per-task=4", "#SBATCH --mem=15G",
                   "#SBATCH -t 02:00:00", "#SBATCH --gres=gpu:1"]),
        ("pbs", ["#PBS -q short", "#PBS -l walltime=02:00:00", "#PBS --gres=gpu:1"]),
        ("sge", ["#$ -q short", "#$ -l h_rt=02:00:00"]),
        ("lsf", ["#BSUB -q short", "#BSUB -W 02:00"]),
    ],
)  # fmt: skip
def test_the_script_of_a_job_says_what_was_asked(tmp_path, kind, words):
    text = 'queue: short\ncores: 4\nmemory: 16 GB\njobs: 3\ndirectives: ["--gres=gpu:1"]\n'
    walltime = "02:00" if kind == "lsf" else "02:00:00"
    said = batch.read_file(yaml(tmp_path / "j.yml", text + f'walltime: "{walltime}"\n'))
    cluster.silent_loggers()
    with batch.cluster_of(kind, said, tmp_path / "shared") as jobs:
        script = jobs.job_script()
    for word in words:
        assert word in script
    assert "distributed.cli.dask_worker tls://" in script
    assert "--nthreads 4" in script
    assert "--tls-key" in script
    assert "export DASK_DISTRIBUTED__WORKER__MEMORY__SPILL=False" in script
    assert (tmp_path / "shared").stat().st_mode & 0o077 == 0


def test_addresses_are_told_from_words():
    assert cluster.is_address("tcp://10.0.0.1:8786")
    assert cluster.is_address("tls://node-1.site:8786")
    assert not any(map(cluster.is_address, ("tcp://x", "host:1", "http://x:1", "ssh://x:1")))


def test_a_scheduler_that_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 1.0)
    nobody = cluster.existing(f"tcp://127.0.0.1:{_free_port()}", {})
    with pytest.raises(InputError, match="no dask scheduler answers at tcp"), nobody:
        pass


def test_the_gpus_are_dealt_out_one_a_worker(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [cluster.gpu_of(i, 2)["CUDA_VISIBLE_DEVICES"] for i in (0, 1)] == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-a")
    assert [cluster.gpu_of(i, 2)["CUDA_VISIBLE_DEVICES"] for i in (0, 1)] == ["5", "GPU-a"]
    assert cluster.gpu_of(0, 0) == {}


SBATCH = """#!/bin/sh
copy=$(mktemp "{folder}/job.XXXXXX")
cp "$1" "$copy"
setsid sh "$copy" > "$copy.log" 2>&1 &
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
for job in "$@"; do kill -- "-$job"; done
"""


@pytest.mark.slow
def test_a_job_that_ended_is_started_anew(tmp_path, monkeypatch):
    """As when it meets its time limit; a made-up Slurm runs the jobs here."""
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text.format(folder=tmp_path) if name == "sbatch" else text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    said = {"cores": 1, "memory": "2 GB", "jobs": 1}
    with batch.batch("slurm", said, 1, tmp_path / "shared") as farm:
        first = someone(farm)
        (number,) = farm.client.run(os.getpid).values()
        psutil.Process(number).parent().kill()
        psutil.Process(number).kill()
        assert someone(farm, but=first) != first


def someone(farm: cluster.Farm, but: str = "", seconds: float = 120) -> str:
    """The address of a worker, another one than `but`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for worker in farm.workers():
            if worker.address != but:
                return worker.address
        time.sleep(0.5)
    raise AssertionError("no worker came")


# ---- faults ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """Three scans, one of which takes a while."""
    study = small(tmp_path_factory.mktemp("faults") / "raw", 3)
    put(study.root / "sub-01" / "dwi", "sub-01_dwi", seed=3, gradients=False, times=BIG)
    return study


@pytest.fixture(scope="module")
def clean(study, tmp_path_factory) -> dict[str, bytes]:
    """What a run without a fault writes."""
    out = tmp_path_factory.mktemp("clean") / "out"
    ended = cohort(study.root, out, "participant", *QUICK)
    assert ended.returncode == 0, ended.stderr
    return images(out)


def start(study: Study, out: Path, *words: object, **more) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "quell", "cohort", study.root, out, "participant", *QUICK]
    with open(out.with_suffix(".log"), "wb") as log:
        return subprocess.Popen(
            [*map(str, command), *map(str, words)], stderr=log, stdout=log, **more
        )


def in_the_middle(out: Path, seconds: float = 300) -> None:
    """Wait until the large scan is being denoised."""
    log, end = out / "logs" / "sub-01_dwi.log", time.monotonic() + seconds
    while time.monotonic() < end:
        if log.is_file() and "noise: " in log.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(out.with_suffix(".log").read_text())


def workers_of(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    return [c for c in children if "spawn_main" in " ".join(c.cmdline())]


def whole(out: Path, clean: dict[str, bytes]) -> None:
    """Whatever lies under its final name is what it should be."""
    for name, content in images(out).items():
        assert content == clean[name], name


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing(study, clean, tmp_path):
    out = tmp_path / "out"
    process = start(study, out)
    in_the_middle(out)
    workers = workers_of(process)
    assert len(workers) == 2
    for each in (psutil.Process(process.pid), *workers):  # nobody else can reach them
        listening = [c.laddr.ip for c in each.net_connections() if c.status == "LISTEN"]
        assert set(listening) == {"127.0.0.1"}
    for worker in workers:
        worker.kill()
    whole(out, clean)
    assert process.wait(600) == 0, out.with_suffix(".log").read_text()
    assert images(out) == clean


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_where_it_was(study, clean, tmp_path):
    out = tmp_path / "out"
    process = start(study, out)
    in_the_middle(out)
    workers = workers_of(process)
    process.kill()
    process.wait()
    psutil.wait_procs(workers, timeout=30)
    assert not any(w.is_running() and w.status() != "zombie" for w in workers)
    whole(out, clean)
    ended = cohort(study.root, out, "participant", *QUICK)
    assert ended.returncode == 0, ended.stderr
    assert images(out) == clean


@pytest.mark.slow
def test_a_run_that_is_interrupted_says_how_to_go_on(study, clean, tmp_path):
    out = tmp_path / "out"
    process = start(study, out, start_new_session=True)
    in_the_middle(out)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(120) == 130
    said = out.with_suffix(".log").read_text()
    assert "run the same command again to go on" in said
    assert "Traceback" not in said
    whole(out, clean)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_that_is_full_loses_nothing(study, clean, tmp_path):
    out = tmp_path / "disk" / "out"
    out.parent.mkdir()
    size = f"size={sum(map(len, clean.values())) // 2 + 60_000}"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(out.parent)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        ended = cohort(study.root, out, "participant", *QUICK)
        assert ended.returncode == 1
        assert "Traceback" not in ended.stderr
        whole(out, clean)
        subprocess.run(["mount", "-o", "remount,size=50m", str(out.parent)], check=True)
        ended = cohort(study.root, out, "participant", *QUICK)
        assert ended.returncode == 0, ended.stderr
        assert images(out) == clean
    finally:
        subprocess.run(["umount", str(out.parent)], check=False)


@pytest.mark.slow
def test_a_folder_that_can_not_be_written_stops_only_its_scan(study, clean, tmp_path):
    out, closed = tmp_path / "out", tmp_path / "out" / "sub-02"
    assert (
        cohort(study.root, out, "participant", "--participant-label", "03", *QUICK).returncode == 0
    )
    closed.mkdir()
    closed.chmod(0o555)
    command = [sys.executable, "-m", "quell", "cohort", study.root, out, "participant", *QUICK]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root writes everywhere, and setpriv is not here to stop it")
        command = ["setpriv", "--bounding-set", "-dac_override", *command]
    ended = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    rows = table(out)
    assert [rows[f"sub-0{i}_dwi"]["status"] for i in (1, 2, 3)] == ["done", "failed", "done"]
    whole(out, clean)
    closed.chmod(0o755)
    assert cohort(study.root, out, "participant", *QUICK).returncode == 0
    assert images(out) == clean


# ---- a scheduler of one's own --------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture
def certificates(tmp_path) -> dict[str, str]:
    """ca, cert and key of one authority, as files."""
    from distributed.security import Security

    known = Security.temporary()
    texts = {"ca": known.tls_ca_file, "cert": known.tls_client_cert, "key": known.tls_client_key}
    paths = {name: tmp_path / f"{name}.pem" for name in texts}
    for name, path in paths.items():
        path.write_text(texts[name])
    return {name: str(path) for name, path in paths.items()}


@pytest.mark.slow
def test_a_scheduler_that_runs_already_does_the_work(study, clean, certificates, tmp_path):
    address, out = f"tls://127.0.0.1:{_free_port()}", tmp_path / "out"
    options = {"--tls-ca-file": "ca", "--tls-cert": "cert", "--tls-key": "key"}
    tls = [word for option, k in options.items() for word in (option, certificates[k])]
    dask = [sys.executable, "-m", "dask"]
    place = ["--host", "127.0.0.1", *tls]
    port = ["--port", address.rpartition(":")[2], "--no-dashboard", "--protocol", "tls"]
    worker = ["--nthreads", "1", "--nworkers", "2", "--memory-limit", "3GB", "--no-dashboard"]
    places = ["--local-directory", str(tmp_path / "dask")]
    with open(tmp_path / "dask.log", "wb") as log:
        ran = [
            subprocess.Popen([*dask, "scheduler", *place, *port], stderr=log),
            subprocess.Popen([*dask, "worker", address, *place, *worker, *places], stderr=log),
        ]
        lines = "".join(f"tls_{name}: {path}\n" for name, path in certificates.items())
        file = yaml(tmp_path / "tls.yml", lines)
        try:
            words = ("--dask", address, "--dask-file", file)
            ended = cohort(study.root, out, "participant", *QUICK, *words)
            assert ended.returncode == 0, ended.stderr + (tmp_path / "dask.log").read_text()
            assert images(out) == clean
            stranger = cohort(study.root, tmp_path / "no", "participant", *QUICK, "--dask", address)
            assert stranger.returncode == 1
            assert "no dask scheduler answers" in stranger.stderr
        finally:
            for process in ran[::-1]:
                process.terminate()
                process.wait(60)


@pytest.mark.slow
def test_a_batch_system_does_the_work(study, clean, tmp_path):
    """Slurm, played by two small programs that start the script of a job as it is."""
    bin_, out = tmp_path / "bin", tmp_path / "out"
    bin_.mkdir()
    sbatch = '#!/bin/sh\nbash "$1" >/dev/null 2>&1 &\necho "Submitted batch job $!"\n'
    for name, text in {"sbatch": sbatch, "scancel": '#!/bin/sh\nkill "$@"\n'}.items():
        (bin_ / name).write_text(text)
        (bin_ / name).chmod(0o755)
    file = yaml(tmp_path / "jobs.yml", "cores: 1\nmemory: 3 GB\njobs: 2\n")
    env = os.environ | {"PATH": f"{bin_}:{os.environ['PATH']}"}
    words = ("--dask", "slurm", "--dask-file", file)
    ended = cohort(study.root, out, "participant", *QUICK, *words, env=env)
    assert ended.returncode == 0, ended.stderr
    assert images(out) == clean
