"""The pages build without a warning, and nothing public is missing from the reference."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from pathlib import Path

import pytest
from sphinx.search.en import SearchEnglish

from airflow_provider_sendoso.get_provider_info import get_provider_info

sys.path.insert(0, str(Path(__file__).parent))
from blocks import DOCS, ROOT


def public() -> set[str]:
    """The classes that are registered with Airflow, and the exceptions."""
    info = get_provider_info()
    kinds = ("operators", "sensors", "hooks", "triggers")
    modules = {module for kind in kinds for entry in info[kind] for module in entry["python-modules"]}
    found = set()
    for name in (*modules, "airflow_provider_sendoso.exceptions"):
        module = importlib.import_module(name)
        names = getattr(module, "__all__", None) or [
            key for key, value in vars(module).items() if inspect.isclass(value) and value.__module__ == name
        ]
        found |= {f"{name}.{key}" for key in names}
    return found


def test_the_pages_build_without_a_warning_and_name_every_public_class(site: Path) -> None:
    reference = (site / "reference.html").read_text(encoding="utf-8")
    assert len(public()) > 15
    assert [name for name in sorted(public()) if f'id="{name}"' not in reference] == []


def test_every_page_is_in_the_site(site: Path) -> None:
    pages = {page.relative_to(ROOT / "docs").with_suffix(".html") for page in DOCS}
    assert pages <= {page.relative_to(site) for page in site.rglob("*.html")}


@pytest.mark.parametrize("word", ["slack", "staging", "weekly", "CI", "pytest", "signup"])
def test_the_search_finds_the_page_that_shows_how(site: Path, word: str) -> None:
    index = json.loads(re.sub(r"^Search\.setIndex\(|\)$", "", (site / "searchindex.js").read_text(encoding="utf-8")))
    found = index["terms"].get(SearchEnglish({}).stem(word.lower()), [])
    pages = [index["docnames"][number] for number in ([found] if isinstance(found, int) else found)]
    assert [page for page in pages if page.startswith("howto/")] != []


def test_every_example_is_on_its_page() -> None:
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\(\.\./dags_examples/(\w+\.py)\)", page))
    assert named == {path.name for path in (ROOT / "dags_examples").glob("*.py")}


def test_every_link_of_the_readme_leads_to_a_file() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)", readme)
    assert len(links) > 8
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_make_target_that_contributing_names_exists() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    wanted = set(re.findall(r"`make ([\w-]+)", page))
    assert len(wanted) > 6
    assert wanted <= targets
