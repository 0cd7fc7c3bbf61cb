"""Every code block of the README and of docs/ is run, or read by what would read it."""

from __future__ import annotations

import argparse
import ast
import configparser
import inspect
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS, AIRFLOW_V_3_3_PLUS
from sqlalchemy import text

try:
    from airflow.dag_processing.dagbag import DagBag

    AIRFLOW_2 = False
except ImportError:
    from airflow.models.dagbag import DagBag

    AIRFLOW_2 = True

sys.path.insert(0, str(Path(__file__).parent))
from blocks import ROOT, Block, blocks

from airflow_provider_sendoso.cli import commands
from airflow_provider_sendoso.hooks.ledger_bucket import BUCKET_TYPES, read_address
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.operators.ledger import ResolveHeldOperator
from airflow_provider_sendoso.operators.sendoso import (
    BatchSendOperator,
    EgiftLinksOperator,
    SendGiftOperator,
    SendosoToSqlOperator,
)
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sandbox import __main__ as sandbox_shell
from airflow_provider_sendoso.sensors.sendoso import SendosoEventSensor, SendStatusSensor
from airflow_provider_sendoso.triggers.events import SendosoEventTrigger

OPERATORS = (BatchSendOperator, EgiftLinksOperator, SendGiftOperator, SendosoToSqlOperator, ResolveHeldOperator)
OURS = {kind.__name__: kind for kind in (*OPERATORS, SendStatusSensor, SendosoEventSensor, SendosoEventTrigger)}
PROSE = ("", "text", "{toctree}", "{include}", "{eval-rst}")
"""What is not code, and what Sphinx reads."""

shell_blocks = pytest.mark.parametrize("block", blocks("shell"), ids=str)


def test_every_code_block_is_in_a_tested_language() -> None:
    known = {"python", "shell", "sql", "json", "toml", "ini", *PROSE}
    assert [str(block) for block in blocks() if block.language not in known] == []
    assert len(blocks("python")) > 5
    assert len(blocks("shell")) > 20


# -- Python ----------------------------------------------------------------------------------------------------------


NEWER = {
    "ApprovalOperator": AIRFLOW_V_3_1_PLUS,
    "AssetWatcher": not AIRFLOW_2,
    "DeadlineAlert": AIRFLOW_V_3_1_PLUS,
    "RetryPolicy": AIRFLOW_V_3_3_PLUS,
    "dag_processing.dagbag": AIRFLOW_V_3_1_PLUS,
}
"""What not every Airflow has."""
PYTHON = [block for block in blocks("python") if all(there for word, there in NEWER.items() if word in block.text)]


@pytest.mark.parametrize("block", [block for block in PYTHON if "with DAG(" in block.text], ids=str)
def test_airflow_imports_every_dag_of_the_docs(block: Block, tmp_path: Path) -> None:
    source = block.text
    if AIRFLOW_2 and block.page != "README.md":  # as docs/installation.md says; the README's run as they are
        source = source.replace("from airflow.sdk import", "from airflow.providers.common.compat.sdk import")
    path = tmp_path / "dag_of_the_docs.py"
    path.write_text(source, encoding="utf-8")
    bag = DagBag(str(path))
    assert bag.import_errors == {}
    assert [task for dag in bag.dags.values() for task in dag.tasks]


@pytest.mark.parametrize("block", [block for block in PYTHON if "with DAG(" not in block.text], ids=str)
def test_every_other_python_block_runs(block: Block) -> None:
    exec(compile(block.text, str(block), "exec"), {})


def arguments_of(kind: type) -> set[str]:
    """What an operator takes, Airflow's own arguments included."""
    return {name for base in kind.__mro__ for name in inspect.signature(base.__init__).parameters} - {"self", "kwargs"}


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_no_operator_of_the_docs_has_an_unknown_argument(block: Block) -> None:
    for call in ast.walk(ast.parse(block.text)):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in OURS:
            given = {keyword.arg for keyword in call.keywords if keyword.arg}
            assert given - arguments_of(OURS[call.func.id]) == set()


# -- the shell -------------------------------------------------------------------------------------------------------


def lines(block: Block) -> Iterator[list[str]]:
    """The commands of a block as words; continued lines are one, and one in the background is like any other."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removesuffix("&"), comments=True)
        if words:
            yield words


def ours(parser: argparse.ArgumentParser, words: list[str]) -> None:
    try:
        parser.parse_args(words)
    except SystemExit as error:
        pytest.fail(f"not a command of ours: {words} ({error})")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    commands._add(parser, commands.COMMANDS)
    return parser


@shell_blocks
def test_bash_parses_every_shell_block(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@shell_blocks
def test_every_command_of_the_docs_exists(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in lines(block):
        check_command(words, monkeypatch)


def check_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    match words:
        case ["airflow", "sendoso", *rest]:
            ours(parser(), rest)
        case ["airflow", "providers", "get", name, *_]:
            assert name == "airflow-provider-sendoso"
        case ["python", "-m", "airflow_provider_sendoso", *rest]:
            ours(parser(), rest)
        case ["python", "-m", "airflow_provider_sendoso.sandbox", *rest]:
            ours(sandbox_shell._parser(), rest)
        case ["python", "-m", "soak" | "explorer" | "cluster" as tool, *rest]:
            known = (ROOT / tool / "__main__.py").read_text(encoding="utf-8")
            assert [word for word in rest if word.startswith("--") and f'"{word}"' not in known] == []
        case ["export", *settings] if all(setting.startswith(("AIRFLOW_HOME=", "AIRFLOW__")) for setting in settings):
            pass  # tests/docs/test_howto_docs.py, and so the next
        case ["airflow", "db", "migrate"] | ["python", "-m", "pytest", "tests"]:
            pass
        case ["python3", "-m", "venv", ".venv"] | [".", ".venv/bin/activate"] | ["mkdir", "dags"]:
            pass  # tests/packaging/test_first_gift.py, and so the next
        case ["airflow", "dags", "test", "thank_ada"]:
            pass
        case ["python", script, *rest]:
            known = (ROOT / script).read_text(encoding="utf-8")
            assert [word for word in rest if word.startswith("--") and f'"{word}"' not in known] == []
        case ["make", target, *settings]:
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            assert re.search(rf"^{target}:", makefile, re.M)
            assert [one for one in settings if f"$({one.partition('=')[0]})" not in makefile] == []
        case ["pip", "install", *rest] | ["uv", "pip", "install", *rest]:
            asked = [word for word in rest if word.startswith("airflow-provider-sendoso")]
            extras = {extra for word in asked for extra in re.findall(r"\[(.*)\]", word)}
            assert asked
            assert extras <= set(metadata("airflow-provider-sendoso").get_all("Provides-Extra") or ())
        case ["export", setting] if setting.startswith("AIRFLOW_CONN_"):
            check_connection(*setting.split("=", 1), monkeypatch)
        case ["export", setting] if setting.startswith(("HTTPS_PROXY=", "NO_PROXY=", "REQUESTS_CA_BUNDLE=")):
            pass  # tests/client/test_client_network.py
        case ["curl", "-X", "POST", address, "-d", body]:
            check_fault(address, json.loads(body))
        case ["echo", *_] | ["gcloud", *_]:
            pass  # another's
        case _:
            pytest.fail(f"nobody has looked at this command: {words}")


def check_connection(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    conn_id = variable.removeprefix("AIRFLOW_CONN_").lower()
    if conn_id == "sendoso_ledger":
        connection = SendosoHook.get_connection(conn_id)
        if connection.conn_type in BUCKET_TYPES:
            read_address(conn_id, connection)
        else:
            assert connection.conn_type in ("postgres", "mysql", "sqlite")
    else:
        config = SendosoHook(conn_id).config
        whose = (config.base_url, config.client_id)
        assert whose in [("https://app.sendoso.com", "CLIENT_ID"), ("http://127.0.0.1:8765", "sandbox")]


def check_fault(address: str, fault: dict[str, Any]) -> None:
    assert address == "http://127.0.0.1:8765/sandbox/faults"
    with Sandbox() as sandbox:
        sandbox.fault(fault.pop("fault"), **fault)


# -- data ------------------------------------------------------------------------------------------------------------

READERS: dict[str, Callable[[str], Any]] = {
    "json": json.loads,
    "toml": tomllib.loads,
    "ini": lambda text: configparser.ConfigParser().read_string(text),
}


def test_every_data_block_can_be_parsed() -> None:
    for block in blocks(*READERS):
        READERS[block.language](block.text)


OF_THE_WAREHOUSE = ("docs/landing.md", "docs/results.md", "docs/howto/who_got_what.md")  # with tests of their own


@pytest.mark.parametrize("block", [block for block in blocks("sql") if block.page not in OF_THE_WAREHOUSE], ids=str)
def test_sql_runs_on_a_ledger(
    block: Block, sendoso: Any, ledger: dict[str, Any], make_open: Callable[..., Any]
) -> None:
    make_open("ada@example.com")
    engine = SendosoHook().ledger._database.engine
    with engine.connect() as connection:
        rows = connection.execute(text(block.text)).all()
    assert len(rows) == 1
