"""How the documentation is built: Sphinx, MyST and furo. Nothing comes from the network.

Here    `extension` makes what would otherwise be typed twice: tables of settings, commands and
        results, and formulas as MathML, which browsers draw without a script.
"""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent / "src")]

project = "quell"
author = "The quell developers"
copyright = "The quell developers, Apache-2.0"

extensions = ["myst_parser", "sphinx.ext.autodoc", "extension"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"
smartquotes = False  # they make one dash of the two of an option

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = "quell"
html_static_path = ["static"]
html_css_files = ["quell.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "footer_icons": [],
    "light_css_variables": {"color-brand-primary": "#1d5f8a", "color-brand-content": "#1d5f8a"},
    "dark_css_variables": {"color-brand-primary": "#7cc0ea", "color-brand-content": "#7cc0ea"},
}
