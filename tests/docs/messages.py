"""The texts of the package's errors, with ``…`` wherever a value is filled in."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import airflow_provider_sendoso

PACKAGE = Path(airflow_provider_sendoso.__file__).parent


def texts() -> set[str]:
    """Every string in the package, whether it is the message of an error or not."""
    return {text for node in _nodes() if (text := _text(node))}


def raised() -> set[str]:
    """The messages that are written literally where an error is raised."""
    return {
        text
        for node in _nodes()
        if isinstance(node, ast.Call) and _is_error(node.func)
        for argument in node.args
        if (text := _text(argument)) and " " in text
    }


@functools.cache
def _nodes() -> list[ast.AST]:
    """What a message can be or stands in, of the whole package: each worker reads it when it collects the tests."""
    kinds = (ast.Call, ast.Constant, ast.JoinedStr)
    return [node for tree in _trees() for node in ast.walk(tree) if isinstance(node, kinds)]


def _trees() -> Iterator[ast.Module]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if "sandbox" not in path.parts:  # its errors are for its own shell
            yield ast.parse(path.read_text(encoding="utf-8"))


def _is_error(function: ast.expr) -> bool:
    name = function.id if isinstance(function, ast.Name) else ""
    return (name.startswith(("Sendoso", "Send")) and name.endswith("Error")) or name == "AirflowSensorTimeout"


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""
