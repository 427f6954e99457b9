"""The order of the modules, held by reading their imports.

A module imports only from modules that come before it in `ORDER`, and some from fewer still.
The source is read, never run, so imports inside functions count; those under TYPE_CHECKING do not.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "quell"

# A new module is given its place here: after all it imports, before all that import it.
ORDER = (
    "measured",
    "run",
    "voice",
    "mif",
    "series",
    "loopback",
    "processes",
    "kspace",
    "settings",
    "checks",
    "background",
    "demodulation",
    "contrasts",
    "scaling",
    "intensities",
    "consistency",
    "noise",
    "nonlocal_means",
    "marchenko_pastur",
    "prior",
    "slices",
    "unet",
    "predictor",
    "schedule",
    "matching",
    "sampling",
    "chains",
    "muon",
    "held_out",
    "checkpoint",
    "trainer",
    "glimpse",
    "calibration",
    "uncertainty",
    "images",
    "divergence",
    "score",
    "bias_free",
    "implicit",
    "methods",
    "simulate",
    "evaluate",
    "report",
    "view",
    "live",
    "probing",
    "options",
    "fingerprints",
    "pipeline",
    "record",
    "models",
    "fit",
    "prepared",
    "training_set",
    "files",
    "reported",
    "outputs",
    "sampled",
    "reconstructed",
    "studies",
    "train_many",
    "compare",
    "probed",
    "cohort",
    "__init__",
    "cli",
    "nipype",
    "__main__",
)

# Where coming before is not enough: all that these may import from the package.
ONLY_FROM: dict[str, set[str]] = {
    "measured": set(),
    "run": set(),
    "voice": {"run"},
    "mif": set(),
    "series": {"mif"},
    "loopback": {"series"},
    "processes": {"run", "series"},
    "kspace": {"series"},
    "methods": {
        "run",
        "series",
        "settings",
        "scaling",
        "intensities",
        "consistency",
        "noise",
        "nonlocal_means",
        "marchenko_pastur",
        "prior",
        "slices",
        "unet",
        "predictor",
        "schedule",
        "matching",
        "sampling",
        "chains",
        "muon",
        "held_out",
        "trainer",
        "images",
        "divergence",
        "score",
        "bias_free",
        "implicit",
    },
    "simulate": {"series", "kspace", "scaling", "noise"},
    "evaluate": {"series", "checks", "noise"},
    "report": {"run", "series", "checks", "noise", "evaluate"},
    "live": {"run", "voice", "series", "loopback", "glimpse"},
    "view": {"series", "voice", "loopback"},
}

MAY_IMPORT_METHODS = {
    "options",
    "fingerprints",
    "pipeline",
    "record",
    "models",
    "fit",
    "training_set",
    "outputs",
    "sampled",
    "train_many",
    "compare",
    "probed",
    "cohort",
    "__init__",
    "cli",
    "__main__",
}

DRAWERS = {"util", "utils", "common", "base", "core", "helper", "helpers", "misc"}


def modules(package: Path) -> dict[str, Path]:
    """Every module by its name in the package: "series", "methods", "methods.mppca", "__init__"."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        *folders, stem = path.relative_to(package).with_suffix("").parts
        names = folders if folders and stem == "__init__" else [*folders, stem]
        found[".".join(names)] = path
    return found


def import_statements(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import below `tree`, at any depth, but for the body of `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) in (
            "TYPE_CHECKING",
            "typing.TYPE_CHECKING",
        ):
            yield from import_statements(ast.Module(body=node.orelse, type_ignores=[]))
        else:
            yield from import_statements(node)


def full_paths(node: ast.Import | ast.ImportFrom, here: tuple[str, ...]) -> list[tuple[str, ...]]:
    """What one statement imports, as words from the top: ("quell", "series", "load").

    here    the package that a single dot means: ("quell", "methods")
    """
    if isinstance(node, ast.Import):
        return [tuple(alias.name.split(".")) for alias in node.names]
    above = here[: len(here) - node.level + 1] if node.level else ()
    start = (*above, *(node.module.split(".") if node.module else ()))
    return [(*start, alias.name) for alias in node.names]


def module_of(words: tuple[str, ...], known: dict[str, Path]) -> str:
    """The module that holds what `words` (without the package's own name) point at."""
    for n in range(len(words), 0, -1):
        if ".".join(words[:n]) in known:
            return ".".join(words[:n])
    return words[0] if len(words) > 1 else "__init__"  # `from . import x`, x being no module


def complaint(importer: str, imported: str) -> str | None:
    """Why `importer` may not import `imported`, in words, or None if it may."""
    a, b = importer.split(".")[0], imported.split(".")[0]
    if a == b:
        if a == "methods" and importer != a and imported not in (a, importer):
            return "a method imports no other method; what two share goes below them"
        return None
    if a not in ORDER or b not in ORDER:
        return f"{a if a not in ORDER else b} has no place in ORDER"
    if ORDER.index(b) > ORDER.index(a):
        return f"{b} comes after {a}; hand in what is needed, or move it to where both reach"
    if b == "methods" and a not in MAY_IMPORT_METHODS:
        return f"methods are chosen in {', '.join(sorted(MAY_IMPORT_METHODS))} only"
    if b not in ONLY_FROM.get(a, ORDER):
        return f"{a} imports only from {', '.join(sorted(ONLY_FROM[a])) or 'other libraries'}"
    return None


def wrong_imports(package: Path) -> list[str]:
    """One line for every import against the order: file, line, what, and why not."""
    known, wrong = modules(package), []
    for importer, path in known.items():
        here = (package.name, *path.relative_to(package).parts[:-1])
        for node in import_statements(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            for words in full_paths(node, here):
                if words[:1] != (package.name,):
                    continue  # another library
                imported = module_of(words[1:], known)
                if why := complaint(importer, imported):
                    where = f"{path.relative_to(package.parent)}:{node.lineno}"
                    wrong.append(f"{where}: {importer} imports {imported}: {why}")
    return wrong


def without_a_place(package: Path) -> list[str]:
    return sorted({name.split(".")[0] for name in modules(package)} - set(ORDER))


def drawers(package: Path) -> list[str]:
    return [
        name for name in modules(package) if DRAWERS & {word.strip("_") for word in name.split(".")}
    ]


def test_every_import_follows_the_order():
    wrong = wrong_imports(PACKAGE)
    assert not wrong, "Imports against the order of the modules:\n" + "\n".join(wrong)


def test_every_module_has_a_place_in_the_order():
    strangers = without_a_place(PACKAGE)
    assert not strangers, f"Give these a place in ORDER (tests/test_layers.py): {strangers}"


def test_no_module_is_a_drawer_for_leftovers():
    found = drawers(PACKAGE)
    assert not found, f"A function lives with its subject; name these by theirs: {found}"


# The checker itself, on a made-up package with one file changed.


@pytest.fixture
def write(tmp_path):
    """A function that writes one file into a package where every module of the order is empty."""
    package = tmp_path / "quell"
    folders = ("methods", "simulate", "evaluate", "report")
    empty = [f"{n}/__init__.py" if n in folders else f"{n}.py" for n in ORDER]
    for name in [*empty, "methods/mppca.py", "simulate/phantom.py"]:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).touch()

    def add(name: str, source: str) -> Path:
        (package / name).write_text(source, encoding="utf-8")
        return package

    return add


@pytest.mark.parametrize(
    ("name", "source", "why"),
    [
        ("run.py", "from .measured import x", "run imports only from other libraries"),
        ("series.py", "from .run import Run", "series imports only from mif"),
        ("run.py", "from quell import series", "series comes after run"),
        ("noise.py", "def f():\n    from .slices import draw", "slices comes after noise"),
        ("noise.py", "import numpy, quell.pipeline as p", "pipeline comes after noise"),
        ("scaling.py", "from . import __version__", "__init__ comes after scaling"),
        ("noise.py", "from .nowhere import x", "nowhere has no place"),
        ("methods/ddm2.py", "from ..report import page", "report comes after methods"),
        ("methods/ddm2.py", "from ..checks import look", "methods imports only from"),
        ("methods/ddm2.py", "from .mppca import Mppca", "imports no other method"),
        ("methods/ddm2.py", "from . import mppca", "imports no other method"),
        ("simulate/phantom.py", "from ..methods.mppca import Mppca", "methods are chosen in"),
        ("evaluate/__init__.py", "from ..simulate import phantom", "evaluate imports only from"),
        ("report/__init__.py", "from quell.scaling import Scale", "report imports only from"),
        ("pipeline.py", "from .cli import main", "cli comes after pipeline"),
        ("noise.py", "if not TYPE_CHECKING:\n    from .cli import main", "cli comes after noise"),
        (
            "noise.py",
            "if TYPE_CHECKING:\n    pass\nelse:\n    from .cli import main",
            "cli comes after noise",
        ),
    ],
)
def test_a_wrong_import_is_found(write, name, source, why):
    (line,) = wrong_imports(write(name, source))
    assert why in line


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("noise.py", "from .scaling import Scale\nimport scipy.series"),
        ("methods/ddm2.py", "from ..trainer import train\nfrom . import Method"),
        ("methods/__init__.py", "from .mppca import Mppca\nfrom . import mppca"),
        ("simulate/__init__.py", "from .phantom import phantom\nfrom ..noise import draw"),
        ("pipeline.py", "from .methods import METHODS\nfrom .methods.mppca import Mppca"),
        ("__init__.py", "from .series import load\nfrom .pipeline import denoise"),
        ("cli.py", "from . import __version__\nfrom quell.methods import METHODS"),
        ("noise.py", "if TYPE_CHECKING:\n    from .pipeline import Result"),
        ("noise.py", "if typing.TYPE_CHECKING:\n    from .pipeline import Result"),
    ],
)
def test_a_right_import_is_left_alone(write, name, source):
    assert wrong_imports(write(name, source)) == []


def test_the_line_of_a_wrong_import_is_named(write):
    package = write("noise.py", "import numpy\n\n\ndef f():\n    from . import pipeline\n")
    assert wrong_imports(package)[0].startswith("quell/noise.py:5: noise imports pipeline: ")


def test_a_module_without_a_place_is_found(write):
    assert without_a_place(write("wavelets.py", "")) == ["wavelets"]


@pytest.mark.parametrize("name", ["utils.py", "methods/_base.py", "report/helpers.py"])
def test_a_drawer_is_found(write, name):
    assert drawers(write(name, "")) == [name.removesuffix(".py").replace("/", ".")]
