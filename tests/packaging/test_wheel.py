"""The published files: the wheel and the sdist of ``python -m build``, and what Airflow reads from the wheel."""

from __future__ import annotations

import email
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from airflow_provider_sendoso import __version__
from airflow_provider_sendoso.get_provider_info import get_provider_info

ROOT = Path(__file__).parents[2]
NAME = f"airflow_provider_sendoso-{__version__}"


def python(*arguments: str, cwd: Path, **environment: str) -> str:
    """Run Python elsewhere than in the clone, whose folders would be imported there."""
    command = [sys.executable, "-W", "ignore", *arguments]
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both, made of the sdist as an index gets them; without a fresh environment, which needs one."""
    folder = tmp_path_factory.mktemp("dist")
    python("-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT), cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(built / f"{NAME}-py3-none-any.whl")


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return email.message_from_bytes(wheel.read(f"{NAME}.dist-info/METADATA"))


def tracked(*folders: str) -> set[str]:
    """The files of some folders, as they are in a clean clone."""
    return {
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not {"__pycache__", "_build"} & set(path.parts)
    }


def test_twine_accepts_wheel_and_sdist(built: Path) -> None:
    assert sorted(path.name for path in built.iterdir()) == [f"{NAME}-py3-none-any.whl", f"{NAME}.tar.gz"]
    python("-m", "twine", "check", "--strict", *map(str, built.iterdir()), cwd=built)


def test_the_wheel_is_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    info = {f"{NAME}.dist-info/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")}
    licence = {f"{NAME}.dist-info/licenses/LICENSE"}
    examples = {
        name.replace("dags_examples", "airflow_provider_sendoso/example_dags") for name in tracked("dags_examples")
    }
    assert set(wheel.namelist()) == tracked("airflow_provider_sendoso") | examples | info | licence
    assert {name for name in wheel.namelist() if not name.endswith(".py")} - info - licence == {
        "airflow_provider_sendoso/py.typed",
        "airflow_provider_sendoso/sandbox/page.html",
        *(name for folder in ("static", "templates") for name in tracked(f"airflow_provider_sendoso/plugins/{folder}")),
    }


def test_the_examples_are_copied_from_the_wheel(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "installed")
    command = ("-m", "airflow_provider_sendoso", "examples", "--copy-to", "dags")
    python(*command, cwd=tmp_path, PYTHONPATH=str(tmp_path / "installed"), AIRFLOW_HOME=str(tmp_path))
    copied = {path.name: path.read_bytes() for path in (tmp_path / "dags").iterdir()}
    assert copied == {path.name: path.read_bytes() for path in (ROOT / "dags_examples").glob("*.py")}


def test_the_sdist_has_what_its_tests_need(built: Path) -> None:
    with tarfile.open(built / f"{NAME}.tar.gz") as archive:
        names = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    folders = (
        *("benchmarks", "cluster", "constraints", "dags_examples", "demo", "docs"),
        *("explorer", "mutants", "soak", "tests"),
    )
    assert names - {"PKG-INFO", ".gitignore"} == tracked("airflow_provider_sendoso", *folders) | {
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "Makefile",
        "README.md",
        "SECURITY.md",
        "noxfile.py",
        "pyproject.toml",
    }


def test_the_metadata_is_that_of_a_provider(metadata: Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("airflow-provider-sendoso", __version__)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    classifiers = set(metadata.get_all("Classifier") or ())
    assert {"Framework :: Apache Airflow", "Framework :: Apache Airflow :: Provider", "Typing :: Typed"} <= classifiers
    assert set(metadata.get_all("Provides-Extra") or ()) >= {"postgres", "mysql", "email"}


def test_the_dependencies_have_no_upper_bounds(metadata: Message) -> None:
    asked = metadata.get_all("Requires-Dist") or []
    assert "apache-airflow>=2.11.0" in asked
    assert [line for line in asked if re.search(r"<|==|~=", line.partition(";")[0])] == []


def test_all_places_name_one_version(metadata: Message) -> None:
    assert get_provider_info()["versions"] == [metadata["Version"]]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", changelog, re.M)[0] == metadata["Version"]


def test_airflow_lists_everything_that_the_installed_wheel_declares(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    wheel.extractall(installed)
    surroundings = {"PYTHONPATH": str(installed), "AIRFLOW_HOME": str(tmp_path)}
    where = python(
        "-c", "import airflow_provider_sendoso as it; print(it.__file__)", cwd=tmp_path, **surroundings
    ).strip()
    assert Path(where) == installed / "airflow_provider_sendoso" / "__init__.py"

    command = ("-m", "airflow", "providers", "get", "airflow-provider-sendoso", "--full", "--output", "json")
    (shown,) = json.loads(python(*command, cwd=tmp_path, **surroundings))
    told = get_provider_info()
    # Airflow takes the marks of a reST link out of the description.
    assert shown.pop("description") == re.sub("`(.*) <(.*)>`__", r"\1 \2", told.pop("description").rstrip("."))
    # Nor does it tell a number from its digits.
    told = json.loads(json.dumps(told), parse_int=str)
    assert {key: shown.get(key) for key in told} == told
