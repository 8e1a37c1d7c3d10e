"""How the pages become a web site: `make docs`. Everything that is made of the code is made here, at build time."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import made_pages  # noqa: E402

import quintain  # noqa: E402

project = "Quintain"
author = "The Quintain developers"
release = version = quintain.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "index"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
templates_path: list[str] = []

html_theme = "furo"
html_title = "Quintain"
html_show_sourcelink = False
html_show_sphinx = False
html_copy_source = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "separated"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True


def setup(app):  # type: ignore[no-untyped-def]
    """Write the pages that are made of the code, and link pages that lie outside this folder."""
    made_pages.write(HERE)
    app.connect("source-read", made_pages.linked)
    app.connect("autodoc-process-docstring", made_pages.prose)
