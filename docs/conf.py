"""The documentation site: Sphinx with MyST Markdown and Furo. `scripts/docs.sh` builds it."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "docs" / "extensions"), str(ROOT / "tests" / "helpers"), str(ROOT)]  # tests/made_wheels.py

from mbn_deploy import __version__  # noqa: E402

project = "mbn-deploy"
author = "the authors of mbn-deploy"
project_copyright = f"{author}, Apache-2.0"
version = release = __version__
html_title = f"mbn-deploy {__version__}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml", "run_blocks"]
html_math_renderer = "mathml"
myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["extensions"]
default_role = "code"  # what docstrings have between single backticks

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_google_docstring = True

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
smartquotes = False
# Nothing is fetched when a page is viewed: Furo uses the system's fonts, formulas are MathML (`mathml.py`).
