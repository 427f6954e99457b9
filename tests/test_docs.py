"""The documentation: its examples run, its links lead somewhere, every method has its page."""

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer

from conftest import write_scan
from quell.cli import app
from quell.methods import METHODS, find, installed, make
from quell.series import write_nifti
from quell.simulate import corrupt

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
GROUP = typer.main.get_command(app)
CONTEXT = GROUP.make_context("quell", [], resilient_parsing=True)
FEW = {"steps": 2, "stage1_steps": 2, "patches": 1, "patch": 16, "channels": 8}  # of a training

MADE_UP = ["noisy.nii.gz", "denoised.nii.gz"]  # for the … of an example

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLE = re.compile(
    r"^<!-- example(?:: writes (\S+))? -->\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
INCLUDE = re.compile(r"\{include\} (\S+)")


@dataclass(frozen=True)
class Example:
    """A block of a page that is marked to be run."""

    file: str  # that it is to be written into; empty: it is run
    language: str
    code: str


def examples(page: Path) -> list[Example]:
    return [Example(*found) for found in EXAMPLE.findall(page.read_text(encoding="utf-8"))]


def named(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


def commands(shell: str) -> Iterator[list[str]]:
    """The words of every quell command of a shell block."""
    for line in shell.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["quell"]:
            yield words[1:]


def anchors(page: Path) -> set[str]:
    """What a link into a page may name: its headings."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


# ---- the pages ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_its_page(name):
    page = (DOCS / "methods" / f"{name}.md").read_text(encoding="utf-8")
    for part in ("facts", "abstract", "settings", "scores"):
        assert f"{{method-{part}}} {name}\n" in page
    assert f"\n{name}\n" in (DOCS / "methods" / "index.md").read_text(encoding="utf-8")


def test_no_page_is_of_a_method_that_does_not_exist():
    assert {p.stem for p in (DOCS / "methods").glob("*.md")} == {*METHODS, "index"}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda p: p.name)
def test_every_link_leads_somewhere(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if not link.startswith(("http:", "https:")):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.is_file(), link
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_include_exists(page):
    for path in INCLUDE.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / path).is_file(), path


def test_every_table_of_results_is_shown():
    shown = {
        (page.parent / path).resolve()
        for page in PAGES
        for path in INCLUDE.findall(page.read_text(encoding="utf-8"))
    }
    assert set((ROOT / "benchmarks" / "results").glob("*.md")) <= shown


def test_every_command_is_listed():
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert re.findall(r"\{command\} (\S+)", page) == GROUP.list_commands(CONTEXT)


# ---- what is shown of the command line -----------------------------------------------------------


def shown() -> Iterator[tuple[str, list[str]]]:
    """Every command of the pages and of the README, and where it stands."""
    for page in PAGES:
        for language, code in FENCE.findall(page.read_text(encoding="utf-8")):
            if language == "bash":
                yield from ((named(page), words) for words in commands(code))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    indented = "\n".join(line for line in readme.splitlines() if line.startswith("    "))
    yield from (("README.md", words) for words in commands(indented))


@pytest.mark.parametrize(("page", "words"), list(shown()))
def test_every_command_shown_can_be_given(page, words):
    name, *rest = [w for word in words for w in (MADE_UP if word == "…" else [word])]
    given = GROUP.get_command(CONTEXT, name).make_context(f"{page}: {name}", rest).params
    if "model" not in given or given["model"] is None:  # else the model says which method
        fitting(given.get("method"), given.get("preset"), given.get("setting") or [])
    for asked in (given.get("methods") or "").split(","):
        fitting(*asked.partition(":")[::2], [])


def fitting(method: str | None, preset: str | None, settings: list[str]) -> None:
    """Raise where a method, a preset or a setting does not exist."""
    if method not in (None, "", "all", "none", "median"):
        make(method, preset or "default")
        known = {field.name for field in fields(find(method))}
        assert {setting.partition("=")[0] for setting in settings} <= known


# ---- examples ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch, series) -> Iterator[Path]:
    """A folder with the scans that examples name; trainings of two steps, by one thread."""
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)  # as `one_thread` left it
    for kind in METHODS.values():
        few = {f.name: FEW[f.name] for f in fields(kind) if f.name in FEW}
        for preset, settings in kind.presets.items():
            monkeypatch.setitem(kind.presets, preset, settings | few)
    write_scan(tmp_path / "dwi.nii.gz", series)
    bare = replace(series, bvals=None, bvecs=None)
    one = replace(bare, data=series.data[..., :1], is_one_image=True)
    write_nifti(tmp_path / "t1.nii.gz", one.data, one)
    write_nifti(tmp_path / "echoes.nii.gz", series.data[..., 2:6], bare)
    rng = np.random.default_rng(1)
    parts = [corrupt(p, 40.0, rng) for p in (series.data[..., :8], 0 * series.data[..., :8])]
    write_nifti(tmp_path / "mag.nii.gz", np.hypot(*parts), bare)
    write_nifti(tmp_path / "phase.nii.gz", np.arctan2(*parts[::-1]), bare)
    before = dict(METHODS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("median_for_quell", None)
    METHODS.clear()
    METHODS.update(before)


@pytest.mark.parametrize("page", [p for p in PAGES if examples(p)], ids=named)
def test_the_examples_of_a_page_run(page, folder, quell):
    variables: dict[str, object] = {}
    for example in examples(page):
        if example.file:
            (folder / example.file).write_text(example.code, encoding="utf-8")
        elif example.language == "python":
            exec(compile(example.code, named(page), "exec"), variables)
        else:
            for words in commands(example.code):
                quick = ["--no-report"] * (words[0] == "denoise")  # other tests write reports
                ended = quell(*words, *quick)
                assert ended.status == 0, f"quell {' '.join(words)}\n{ended.err}"


def test_the_start_page_writes_what_it_says(folder, quell):
    ended = quell("denoise", "dwi.nii.gz", "denoised.nii.gz", "--noise-out", "noise.nii.gz")
    assert ended.status == 0, ended.err
    page = (DOCS / "start.md").read_text(encoding="utf-8")
    table = page.split("writes")[1].split("Nothing")[0]
    written = re.findall(r"`((?:denoised|noise)[\w.]+)`", table)
    assert len(written) == 6
    assert all((folder / name).is_file() for name in written)


def test_the_method_of_twenty_lines_is_found_by_its_entry_point(folder, quell):
    page = DOCS / "own_method.md"
    method = examples(page)[0]
    assert sum(map(bool, method.code.splitlines())) <= 20
    (folder / method.file).write_text(method.code, encoding="utf-8")
    toml = next(c for language, c in FENCE.findall(page.read_text("utf-8")) if language == "toml")
    points = tomllib.loads(toml)["project"]["entry-points"]["quell.methods"]
    about = folder / "median_for_quell-1.0.dist-info"
    about.mkdir()
    lines = ["[quell.methods]", *(f"{name} = {where}" for name, where in points.items())]
    (about / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: median-for-quell\nVersion: 1.0\n")
    installed.cache_clear()
    try:
        assert "median of the neighbours" in quell("methods").out
    finally:
        installed.cache_clear()


# ---- the site ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_needs_no_network(tmp_path):
    pytest.importorskip("sphinx")
    pytest.importorskip("furo")
    build = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", "-b", "html"]
    ended = subprocess.run([*build, DOCS, tmp_path], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    fetched = re.compile(r"<(?:script|img)[^>]+src=\"(?:https?:)?//|<link[^>]+href=\"https?:")
    pages = {p: p.read_text(encoding="utf-8") for p in tmp_path.rglob("*.html")}
    assert not [str(p) for p, text in pages.items() if fetched.search(text)]
    assert "<math" in pages[tmp_path / "methods" / "joint.html"]
    assert "MathJax" not in "".join(pages.values())


def test_columns_of_a_docstring_stay_columns(monkeypatch):
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(DOCS))
    from extension.docstrings import as_rst

    lines = ["Score of *x*.", "", "sigma  (X, Y)  noise map", "mask   (X, Y)  where `to` look"]
    assert as_rst(lines)[:5] == [r"Score of \*x\*.", "", "::", "", "   " + lines[2]]
