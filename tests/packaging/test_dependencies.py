"""The package declares every distribution that it imports, because a transitive dependency may disappear."""

from __future__ import annotations

import ast
import functools
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "airflow_provider_sendoso"

OF_AIRFLOW = {"botocore", "fastapi", "flask_appbuilder", "google", "opentelemetry", "starlette", "wtforms"}
"""What Airflow brings for its own form, API server, traces and connections to clouds; without it there are none."""

distributions = functools.cache(packages_distributions)


def imports() -> Iterator[tuple[str, str]]:
    """Each module that is imported anywhere in the package, and where."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((alias.name, path.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield node.module, path.name


def distribution(module: str) -> str | None:
    """The distribution that a module is of, where it is none of Python's, ours or Airflow's core."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names | OF_AIRFLOW | {PACKAGE.name}:
        return None
    if provider := re.match(r"airflow\.providers\.((?:common|microsoft)\.\w+|\w+)", module):
        return f"apache-airflow-providers-{provider[1].replace('.', '-')}"
    if top == "airflow":
        return "apache-airflow"
    return normalised(distributions()[top][0])


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_imported_package_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [need for needs in project["optional-dependencies"].values() for need in needs]
    declared = {
        normalised(name[0]) for need in project["dependencies"] + extras if (name := re.match(r"[\w.-]+", need))
    }
    found = {name: where for module, where in imports() if (name := distribution(module))}
    assert len(found) > 10
    assert {name: where for name, where in found.items() if name not in declared} == {}
