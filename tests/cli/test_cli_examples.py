"""``examples``: the example DAGs reach somebody who has only installed the package."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_sendoso.cli.commands import main

EXAMPLES = Path(__file__).parents[2] / "dags_examples"
NAMES = {path.name for path in EXAMPLES.glob("*.py")}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs ``examples …``; returns what it said, an error included."""

    def do(*arguments: str) -> str:
        try:
            main(["examples", *arguments])
        except SystemExit as stopped:
            return str(stopped.code)
        return capsys.readouterr().out

    return do


def test_it_lists_each_with_what_it_is_about(run: Callable[..., str]) -> None:
    said = run()
    for name in NAMES:
        (line,) = [line for line in said.splitlines() if line.split()[0] == name.removesuffix(".py")]
        text = ast.get_docstring(ast.parse((EXAMPLES / name).read_text())) or ""
        assert line.endswith(text.splitlines()[0])


def test_it_copies_all_into_a_folder_that_it_makes(run: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "airflow" / "dags"
    assert f"{len(NAMES)} examples are in {folder}" in run("--copy-to", str(folder))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: (EXAMPLES / name).read_bytes() for name in NAMES
    }


@pytest.mark.parametrize("name", ["thank_you", "thank_you.py"])
def test_it_copies_a_few(run: Callable[..., str], tmp_path: Path, name: str) -> None:
    run("--copy-to", str(tmp_path), "--only", name)
    assert [path.name for path in tmp_path.iterdir()] == ["thank_you.py"]


def test_what_somebody_has_changed_is_not_overwritten_unless_they_say_so(
    run: Callable[..., str], tmp_path: Path
) -> None:
    mine = tmp_path / "thank_you.py"
    mine.write_text("# mine")
    said = run("--copy-to", str(tmp_path))
    assert "thank_you.py: there already, with another content" in said
    assert [path.name for path in tmp_path.iterdir()] == ["thank_you.py"]
    assert mine.read_text() == "# mine"
    run("--copy-to", str(tmp_path), "--overwrite")
    assert mine.read_bytes() == (EXAMPLES / "thank_you.py").read_bytes()
    assert "examples are in" in run("--copy-to", str(tmp_path))  # a second time, nothing differs


def test_an_example_that_there_is_not_is_answered_with_those_that_there_are(
    run: Callable[..., str], tmp_path: Path
) -> None:
    said = run("--copy-to", str(tmp_path), "--only", "thank_you", "thankyou")
    assert "There is no example thankyou; there are approved_campaign, " in said
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_error_in_words(run: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "dags").write_text("a file")
    assert "The examples could not be written: " in run("--copy-to", str(tmp_path / "dags"))
