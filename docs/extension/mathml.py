"""Formulas as MathML, which every browser of today draws by itself: no script, no font, no network.

Trap    latex2mathml lets what it does not know through as text; that is an error here.
"""

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging

LEFT_OVER = re.compile(r"&(?!#?\w+;)|\\[A-Za-z]+")
BARS = re.compile(
    r"<mo>(&#x02016;|&#x0007C;|\||‖)</mo>"
)  # of one pair, one may grow without the other


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))


def visit_inline(writer: Any, node: nodes.math) -> None:
    """A formula in a line."""
    writer.body.append(as_mathml(node, "inline"))
    raise nodes.SkipNode


def visit_block(writer: Any, node: nodes.math_block) -> None:
    """A formula on its own."""
    writer.body.append(f'<div class="math">{as_mathml(node, "block")}</div>\n')
    raise nodes.SkipNode


def as_mathml(node: nodes.Node, display: str) -> str:
    """The formula of a node; a warning where a part of it was not understood."""
    formula = BARS.sub(r'<mo stretchy="false">\1</mo>', convert(node.astext(), display=display))
    if found := LEFT_OVER.search(formula):
        logging.getLogger(__name__).warning(
            "%r of a formula is not understood", found.group(), location=node
        )
    return formula
