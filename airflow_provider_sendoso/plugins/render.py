"""Makes HTML of the templates; whatever is put into them is escaped."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from airflow_provider_sendoso.plugins import views

_HERE = Path(__file__).parent


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": views.number, "utc": views.utc, "duration": views.duration}
    environment.globals |= {"views": views, "version": _version()}
    return environment


def _version() -> str:
    """Return what changes with style and script, so that a browser loads them anew after an upgrade."""
    return hashlib.sha256(b"".join((static(name) or (b"", ""))[0] for name in ("ui.css", "ui.js"))).hexdigest()[:12]


def render(template: str, **values: Any) -> str:
    """
    Make HTML.

    :param template: the name of a template.
    :param values: what it shows.
    """
    return _environment().get_template(template).render(**values)


@cache
def static(name: str) -> tuple[bytes, str] | None:
    """
    Read a file of style, script or icons.

    :param name: its name.
    :return: its bytes and its media type; ``None`` if there is none of that name.
    """
    kinds = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    known = {path.name: path for path in (_HERE / "static").iterdir()}
    path = known.get(name)
    return None if path is None else (path.read_bytes(), kinds[path.suffix])
