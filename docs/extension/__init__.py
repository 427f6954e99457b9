"""The documentation's own part of Sphinx.

Reading order: mathml, tables, docstrings, methods, sources, commands, results.
"""

from typing import Any

from . import commands, docstrings, mathml, methods, results, sources


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    for module in (mathml, docstrings, methods, sources, commands, results):
        module.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
