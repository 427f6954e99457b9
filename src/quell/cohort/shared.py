"""One model for a protocol: learned from some scans, used on all.

Here    Scans of one suffix, voxel size and number of volumes are one protocol. A few of them,
        spread evenly over the study, are laid into a folder as links, each with the gradients and
        the metadata that it inherits; `quell train` learns from that folder. The model's name has
        the fingerprint of those scans and of the settings, so that it is learned once.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..models import read_model
from ..options import Options
from ..processes import connected
from ..record import as_json
from ..run import Voice, choose_device
from ..series import InputError, open_scan, replacing, stem
from ..train_many import TrainingFiles, train_files
from .job import Job
from .manifest import inputs_of
from .names import inside
from .work import Logged, locked

MODELS = "models"


@dataclass(frozen=True)
class Training:
    """One model to be learned; paths as text.

    name     of the protocol
    scans    jobs of the scans to learn from, as text
    model    where it goes
    learned  fingerprint of scans and settings
    """

    name: str
    scans: list[str]
    out: str
    work: str
    model: str
    options: dict[str, Any]
    learned: str


def protocols(jobs: Sequence[Job]) -> dict[str, list[Job]]:
    """Jobs by protocol; those whose header can't be read are in none."""
    found: dict[str, list[Job]] = {}
    for job in jobs:
        try:
            image = open_scan(job.scan)
        except InputError:
            continue
        voxel = "x".join(f"{mm:.2f}" for mm in image.header.get_zooms()[:3])
        n = image.shape[3] if len(image.shape) == 4 else 1
        kind = f"{job.name.rpartition('_')[2]}-{'complex' if job.phase else 'plain'}"
        found.setdefault(f"{kind}-{voxel}-{n}", []).append(job)
    return found


def training_of(name: str, jobs: Sequence[Job], k: int, out: Path, work: Path) -> Training:
    """The training of a protocol's model from k of its scans, spread evenly."""
    if k < 1:
        raise InputError(
            f"a model can't be learned from {k} scans; give --train-scans 1 or more", 2
        )
    k = min(k, len(jobs))
    chosen = [jobs[(2 * i + 1) * len(jobs) // (2 * k)] for i in range(k)]
    options = {key: v for key, v in chosen[0].options.items() if key != "threads"}
    words = [version("quell"), options, [(j.name, inputs_of(j.files), j.sidecar) for j in chosen]]
    learned = hashlib.sha256(json.dumps(words, default=str).encode()).hexdigest()[:16]
    return Training(
        name=name,
        scans=[job.text for job in chosen],
        out=str(out),
        work=str(work),
        model=str(out / MODELS / f"{name}-{learned}.safetensors"),
        options=chosen[0].options,
        learned=learned,
    )


def is_learned(training: Training) -> bool:
    """Whether the model is there, and can be read."""
    try:
        read_model(Path(training.model))
    except InputError:
        return False
    return True


def learn_missing(
    client: Any,
    todo: Sequence[Job],
    trainings: Mapping[str, Training],
    threads: int | None,
    voice: Voice,
) -> dict[str, str]:
    """Learn the models that are missing, one after the other; scans without one, and why.

    client     of dask
    trainings  job's name -> the training of its protocol's model
    threads    of a training; None: all that its worker has
    """
    lost: dict[str, str] = {}
    wanted = {t.name: t for job in todo if (t := trainings.get(job.name))}
    for training in wanted.values():
        if is_learned(training):
            continue
        voice.say(f"learning one model for {training.name} from {len(training.scans)} scans")
        chosen = replace(training, options={**training.options, "threads": threads})
        try:
            future = client.submit(learn, json.dumps(asdict(chosen)), pure=False)
            why = future.result()
        except Exception as error:  # the worker's, or dask's own
            why = f"{type(error).__name__}: {error}"
        if why:
            sentence = f"the model of its protocol could not be learned: {why}"
            lost |= {j.name: sentence for j in todo if trainings.get(j.name) is training}
    return lost


def learn(text: str) -> str:
    """Train a model: the task that a worker is given; it answers with a sentence, "" for done."""
    training = Training(**json.loads(text))
    out = Path(training.out)
    try:
        log = inside(out, Path("logs", f"model_{training.name}.log"))
        with locked(log) as file:
            if not is_learned(training):
                _learn(training, Logged(file))
        return ""
    except InputError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename or 'a file'}: {error.strerror or error}"


def _learn(training: Training, voice: Logged) -> None:
    folder = Path(training.work) / f"training-{training.learned}"
    scans = [_laid(Job.of_text(text), folder / "scans") for text in training.scans]
    model = inside(Path(training.out), Path(MODELS, Path(training.model).name))
    files = TrainingFiles(tuple(scans), model, work=folder, skip_bad=True, force=True)
    options = Options(**training.options)
    with connected(choose_device(options.device)) as processes:
        train_files(files, options, None, processes, voice)
    shutil.rmtree(folder, ignore_errors=True)


def _laid(job: Job, folder: Path) -> Path:
    """A link to a scan, with all that it inherits beside it as copies."""
    folder.mkdir(parents=True, exist_ok=True)
    source = Path(job.scan)
    link = folder / f"{job.name}{source.name.removeprefix(stem(source).name)}"
    link.unlink(missing_ok=True)
    link.symlink_to(source.absolute())
    texts = {".json": as_json(job.sidecar).encode("utf-8", "backslashreplace")}
    texts |= {f".{k}": Path(p).read_bytes() for k in ("bval", "bvec") if (p := getattr(job, k))}
    for ending, text in texts.items():
        with replacing(folder / f"{job.name}{ending}") as file:
            file.write(text)
    return link
