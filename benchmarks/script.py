"""What the benchmark scripts share: a JSON that grows row by row, and the table made from it."""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quell.record import as_json
from quell.run import set_threads
from quell.series import replacing

RESULTS = Path(__file__).parent / "results"


def save(results: dict[str, Any], path: Path) -> None:
    """Write what has been measured so far, with its date, whole or not at all."""
    results["date"] = time.strftime("%Y-%m-%d")
    with replacing(path) as file:
        file.write(as_json(results).encode())


def main_of(
    doc: str | None,
    name: str,
    run_all: Callable[[int, Path], None],
    table: Callable[[dict[str, Any]], str],
) -> None:
    """Measure what is missing in results/NAME.json, then write results/NAME.md.

    doc      of the script, its help
    run_all  (threads, JSON) adds every row that the JSON does not hold yet
    table    the Markdown of what the JSON holds
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="only make the Markdown again")
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    threads = set_threads(options.threads)
    path = RESULTS / f"{name}.json"
    if not options.table:
        run_all(threads, path)
    (RESULTS / f"{name}.md").write_text(table(json.loads(path.read_text())))
