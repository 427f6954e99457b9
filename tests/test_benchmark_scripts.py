"""The scripts of benchmarks/: what they import of quell is there."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "benchmarks"

PROGRAM = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != "pywt":  # an extra of these scripts alone
            raise
"""


def test_every_script_finds_what_it_imports():
    names = sorted(path.stem for path in SCRIPTS.glob("*.py"))
    assert "speed" in names
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(SCRIPTS), *names],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
