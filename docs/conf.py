"""How Sphinx builds these pages: Markdown, and the reference from the docstrings. ``make docs`` builds them."""

from __future__ import annotations

from airflow_provider_sendoso import __version__

project = "airflow-provider-sendoso"
author = "The airflow-provider-sendoso maintainers"
copyright = f"2026, {author}"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"Sendoso for Apache Airflow {release}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
exclude_patterns = ["_build"]

# Every heading can be linked to, and a link that leads nowhere is an error, in prose and in docstrings.
myst_heading_anchors = 3
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!airflow_provider_sendoso).*")]

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False
autodoc_typehints = "none"
autodoc_preserve_defaults = True
