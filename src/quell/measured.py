"""Run one command and write down what it took.

    python measured.py OUT.json COMMAND [ARGUMENT ...]

Trap    Linux counts the memory of the process that starts a command into the command's own peak.
        So a large program must not start it directly: this file is run by its path and imports
        nothing large, and the peak it reports is wrong only for commands below its own 10 MB or so.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> None:
    """Write wall seconds, processor seconds and peak memory; exit as the command did."""
    out, *command = sys.argv[1:]
    start = time.perf_counter()
    try:
        child = os.posix_spawnp(command[0], command, os.environ)
    except OSError as error:
        sys.exit(f"the program {command[0]} can't be started: {error.strerror}")
    for stop in (signal.SIGINT, signal.SIGTERM):  # sent to both: the command says how it ends
        signal.signal(stop, signal.SIG_IGN)
    _, status, usage = os.wait4(child, 0)
    took = {
        "wall_seconds": time.perf_counter() - start,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    Path(out).write_text(json.dumps(took))
    sys.exit(os.waitstatus_to_exitcode(status) % 256)


if __name__ == "__main__":
    main()
