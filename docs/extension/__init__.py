"""The documentation's own part of Sphinx.

Reading order: mathml, tables, docstrings, methods, commands, results.
"""

from typing import Any

from . import commands, docstrings, mathml, methods, results


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    for module in (mathml, docstrings, methods, commands, results):
        module.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
