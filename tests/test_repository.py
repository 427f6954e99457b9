"""What must never stand in the repository, and what must always lie in it."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Kept as published; their words are not ours.
VENDORED = ("src/quell/view/niivue/niivue.umd.js",)

# Each pattern is written so that it does not match itself.
FORBIDDEN = {
    "a path of one machine": re.compile(
        r"(?<![\w.~$}/])/(?:work|root|home|Users)/\w|/tmp/(?:venv|spec)\b|/opt/(?:wheels|pypi)\b"
    ),
    "a package index": re.compile(
        r"--(?:extra-)?index-url|--find[-]links|index-url\s*=|PIP_(?:EXTRA_)?INDEX_URL"
        r"|files\.pythonhosted\.org|pypi\.org/simple"
    ),
}


def text_files() -> dict[str, str]:
    """The text of every file that git tracks or would track, by its path in the repository."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    answer = subprocess.run(listing, cwd=ROOT, capture_output=True, check=False)
    if answer.returncode != 0:
        pytest.skip("this copy is no git checkout, so there is no list of its files")
    files = {}
    for name in answer.stdout.decode().split("\0"):
        if name in VENDORED:
            continue
        if name and (ROOT / name).is_file() and b"\0" not in (raw := (ROOT / name).read_bytes()):
            files[name] = raw.decode("utf-8")
    return files


def forbidden(text: str) -> list[str]:
    """One line for every forbidden thing in `text`: its line number, what it is, the words."""
    return [
        f"{number}: {what}: {match.group()}"
        for number, line in enumerate(text.splitlines(), start=1)
        for what, pattern in FORBIDDEN.items()
        if (match := pattern.search(line))
    ]


def unsafe_loading(source: str) -> Iterator[str]:
    """One line for every place in `source` where loading a file could run code from it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None)]
            if {"pickle", "cPickle", "dill", "joblib"} & set(names):
                yield f"{node.lineno}: imports a pickle; save tensors with safetensors instead"
        elif isinstance(node, ast.Call):
            safe = {word.arg: ast.unparse(word.value) for word in node.keywords}
            called = ast.unparse(node.func)
            if called == "torch.load" and safe.get("weights_only") != "True":
                yield f"{node.lineno}: torch.load without weights_only=True"
            if safe.get("allow_pickle", "False") != "False":
                yield f"{node.lineno}: {called} with allow_pickle"


def normal(name: str) -> str:
    """A package's name as indexes compare it: lower case, runs of - _ . made one dash."""
    return re.sub(r"[-_.]+", "-", name).lower()


def constraints() -> dict[str, str]:
    """Name -> exact version. A line that pins nothing exactly fails here, by name."""
    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([\w.-]+)==(\d[\w.]*)", line)
            assert match, f"constraints.txt: {line!r} is not name==version"
            pins[normal(match[1])] = match[2]
    return pins


def direct_dependencies() -> set[str]:
    """The names in pyproject.toml: to build, to run, and of every extra."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = settings["project"]
    asked = settings["build-system"]["requires"] + project["dependencies"]
    for extra in project.get("optional-dependencies", {}).values():
        asked += extra
    names = {normal(re.match(r"[\w.-]+", requirement)[0]) for requirement in asked}
    return names - {normal(project["name"])}  # an extra may name another extra


def test_no_file_names_a_machine_or_an_index():
    found = [f"{name}:{line}" for name, text in text_files().items() for line in forbidden(text)]
    assert not found, "\n" + "\n".join(found)


def test_nothing_that_is_loaded_can_run_code():
    sources = {p.relative_to(ROOT): p.read_text(encoding="utf-8") for p in ROOT.glob("src/**/*.py")}
    found = [f"{p}:{line}" for p, source in sources.items() for line in unsafe_loading(source)]
    assert not found, "\n" + "\n".join(found)


def test_the_demo_scan_keeps_its_licence_and_attribution():
    demo = ROOT / "src" / "quell" / "demo_scan"
    assert "Attribution 4.0 International" in (demo / "LICENSE").read_text(encoding="utf-8")
    assert "St-Jean, Coupe, Descoteaux" in (demo / "README.md").read_text(encoding="utf-8")


def test_the_viewer_keeps_its_licence_and_source():
    niivue = ROOT / "src" / "quell" / "view" / "niivue"
    assert "Copyright (c) 2021, Niivue" in (niivue / "LICENSE").read_text(encoding="utf-8")
    assert "npmjs.com/package/@niivue/niivue" in (niivue / "README.md").read_text(encoding="utf-8")


def test_every_direct_dependency_is_pinned():
    missing = sorted(direct_dependencies() - set(constraints()))
    assert not missing, f"constraints.txt has no exact version of {missing}"


# The checks themselves.


@pytest.mark.parametrize("start", ["", "see ", '"', "(", "--out="])
@pytest.mark.parametrize("folder", ["work", "root", "home", "Users"])
def test_a_path_of_one_machine_is_found(start, folder):
    assert forbidden(f"first\n{start}/{folder}" + "/scan.nii.gz")[0].startswith("2: a path of one")


@pytest.mark.parametrize("option", ["index-url", "extra-index-url", "find-links"])
def test_a_package_index_is_found(option):
    assert forbidden("pip install --" + option + " somewhere numpy")


@pytest.mark.parametrize(
    "text", ["out/work/volume", "https://a.org/home/b", "$HOME/scan", "~/work/x"]
)
def test_a_path_of_any_machine_is_left_alone(text):
    assert forbidden(text) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_unsafe_loading_is_found(source):
    assert len(list(unsafe_loading(source))) == 1


@pytest.mark.parametrize(
    "source", ["torch.load(p, weights_only=True)", "np.load(p)", "nib.load(p)", "json.load(f)"]
)
def test_safe_loading_is_left_alone(source):
    assert list(unsafe_loading(source)) == []
