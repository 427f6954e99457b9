"""The images: their steps name files that are there and versions that are pinned."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from test_repository import constraints

ROOT = Path(__file__).parents[1]
DOCKERFILE, DEFINITION = ROOT / "containers" / "Dockerfile", ROOT / "containers" / "quell.def"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def instructions():
    """The instructions of the Dockerfile: their word, and what follows it."""
    lines = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    words = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    return [(word, " ".join(rest.split())) for word, rest in words]


def section(name):
    """The lines of a section of the Apptainer definition."""
    text = DEFINITION.read_text(encoding="utf-8")
    body = re.search(rf"^%{name}\n(.*?)(?=^%|\Z)", text, re.MULTILINE | re.DOTALL)[1]
    return [line.strip() for line in body.splitlines() if line.strip() and line[0] != "#"]


def steps(which):
    """The commands that install."""
    if which == "docker":
        return [rest for word, rest in instructions() if word == "RUN" and "pip" in rest]
    return [line.replace("--no-cache-dir ", "") for line in section("post") if "pip" in line]


def copied(which):
    if which == "docker":
        return [w for word, rest in instructions() if word == "COPY" for w in rest.split()[:-1]]
    return [line.split()[0] for line in section("files")]


@pytest.mark.parametrize("which", ["docker", "apptainer"])
def test_what_is_copied_is_there_and_suffices(which):
    assert all((ROOT / name).exists() for name in copied(which))
    needed = {"pyproject.toml", "constraints.txt", PROJECT["readme"], "src"}
    assert needed | {"LICENSE"} == set(copied(which))
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{name}" for name in copied(which)} <= set(kept)


@pytest.mark.parametrize("which", ["docker", "apptainer"])
def test_what_is_installed_is_pinned(which):
    pins, extras = constraints(), PROJECT["optional-dependencies"]
    names = []
    for step in steps(which):
        folder, install = step.split(" && ")
        assert folder == "cd /quell"
        words = shlex.split(install)
        assert words[:4] == ["python", "-m", "pip", "install"]
        assert words[words.index("-c") + 1] == "constraints.txt"
        names += words[-1:]
    assert names == [f"torch=={pins['torch']}", "hatchling", ".[raw]"]
    assert "hatchling" in pins
    assert "raw" in extras


def test_both_install_the_same():
    assert steps("docker") == steps("apptainer")
    assert f"From: {dict(instructions())['FROM']}" in DEFINITION.read_text(encoding="utf-8")


def test_the_image_runs_quell_and_not_as_root():
    said = dict(instructions())
    assert said["FROM"] == "python:3.11-slim"
    assert said["ENTRYPOINT"] == '["quell"]'
    assert said["USER"] == "quell"
    assert [word for word, _ in instructions()].index("USER") > [
        i for i, (word, _) in enumerate(instructions()) if word == "RUN"
    ][-1]
    assert section("runscript") == ['exec quell "$@"']


def test_the_labels_are_those_of_the_package():
    labels = dict(pair.split("=", 1) for pair in shlex.split(dict(instructions())["LABEL"]))
    assert labels == dict(line.split(maxsplit=1) for line in section("labels"))
    prefix = "org.opencontainers.image"
    assert labels[f"{prefix}.version"] == PROJECT["version"]
    assert labels[f"{prefix}.licenses"] == PROJECT["license"]


@pytest.mark.slow
def test_the_steps_install_a_quell_that_runs(tmp_path):
    """The steps themselves, in a fresh environment instead of an image."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    place = tmp_path / "quell"
    place.mkdir()
    for name in copied("docker"):
        source = ROOT / name
        is_folder = source.is_dir()
        (shutil.copytree if is_folder else shutil.copy)(source, place / name)
    for step in steps("docker"):
        install = step.replace("cd /quell", f"cd {shlex.quote(str(place))}")
        install = install.replace("python -m", f"{shlex.quote(str(tmp_path))}/venv/bin/python -m")
        subprocess.run(["sh", "-ec", install], check=True, capture_output=True)
    command = tmp_path / "venv" / "bin" / "quell"
    answer = subprocess.run([command, "--version"], check=True, capture_output=True, text=True)
    assert answer.stdout == f"quell {PROJECT['version']}\n"
    subprocess.run([command, "methods"], check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("builder", ["docker", "podman", "apptainer"])
def test_the_image_builds(builder, tmp_path):
    if shutil.which(builder) is None:
        pytest.skip(f"{builder} is not installed")
    if builder != "apptainer" and subprocess.run([builder, "info"], capture_output=True).returncode:
        pytest.skip(f"{builder} has nothing to build with")
    if builder == "apptainer":
        image = tmp_path / "quell.sif"
        build, run = [builder, "build", image, DEFINITION], [builder, "run", image]
    else:
        build = [builder, "build", "-f", DOCKERFILE, "-t", "quell-test", ROOT]
        run = [builder, "run", "--rm", "quell-test"]
    subprocess.run(build, cwd=ROOT, check=True)
    answer = subprocess.run([*run, "--version"], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == f"quell {PROJECT['version']}"
