"""Loaded by each worker of this machine as it starts, by its path: it imports nothing of quell.

Ctrl-C in a terminal reaches every process that was started there. The one that was asked for stops
the others and says so; from them nothing should be heard.
"""

import signal


def dask_setup(worker: object) -> None:
    """Leave Ctrl-C to the process that started the worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
