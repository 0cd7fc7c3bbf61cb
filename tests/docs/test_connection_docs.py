"""docs/connection.md: its fields are those of the form, its connections can be read, and its pictures exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.connection_form import FIELDS
from airflow_provider_sendoso.hooks.sendoso import SendosoHook

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "connection.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([^|]+) \| `(\w+)` \| ([^|]+) \| ([^|]+) \|$", PAGE, re.M)
EXPORTS = re.findall(r"^export (AIRFLOW_CONN_\w+=.*)$", PAGE, re.M)


def test_the_fields_of_the_page_are_those_of_the_form_in_order():
    assert [(name, label) for label, name, _, _ in ROWS] == [(name, field["label"]) for name, field in FIELDS.items()]


@pytest.mark.parametrize(("name", "said"), [(name, said) for _, name, said, _ in ROWS])
def test_the_page_names_the_default_of_each_field(name: str, said: str):
    default = ClientConfig.model_fields[name].default
    if said in ("none", "no limit", "what the client has"):
        assert default is None or default == ()
    elif name == "account":
        assert said == "the host"
    else:
        assert type(default)(said.strip("`")) == default


def test_the_page_has_two_connection_lines():
    assert len(EXPORTS) == 2


@pytest.mark.parametrize("line", EXPORTS)
def test_each_connection_line_of_the_page_is_parsed(line: str, monkeypatch: pytest.MonkeyPatch):
    name, value = shlex.split(line)[0].split("=", 1)
    monkeypatch.setenv(name, value)
    config = SendosoHook().config
    assert (config.base_url, config.client_id, config.requests_per_second) == (
        "https://app.sendoso.com",
        "CLIENT_ID",
        5,
    )


def test_every_picture_exists_and_is_shown():
    """``make screenshots`` makes them."""
    pages = "".join(page.read_text() for page in DOCS.rglob("*.md"))
    shown = set(re.findall(r"\((?:\.\./)?images/([\w-]+\.png)\)", pages))
    assert shown == {picture.name for picture in (DOCS / "images").iterdir()}


def test_every_link_leads_to_a_file():
    for page in (DOCS / "connection.md", DOCS / "links.md"):
        for target in re.findall(r"\]\(([^)#:]+)", page.read_text()):
            assert (DOCS / target).exists(), f"{page.name}: {target}"
