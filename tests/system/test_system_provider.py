"""The provider's entry points, as Airflow discovers them."""

from __future__ import annotations

import json
from importlib import resources
from importlib.metadata import version
from typing import Any

import jsonschema
import pytest

try:
    from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime as ProvidersManager
except ImportError:  # before Airflow 3.2
    from airflow.providers_manager import ProvidersManager

from airflow_provider_sendoso.get_provider_info import get_provider_info
from airflow_provider_sendoso.hooks.sendoso import SendosoHook

PACKAGE = "airflow-provider-sendoso"


def test_airflow_lists_the_provider(airflow: Any) -> None:
    listed = json.loads(airflow.cli("providers", "list", "--output", "json"))
    assert [row["version"] for row in listed if row["package_name"] == PACKAGE] == [version(PACKAGE)]


def test_connection_type_is_known() -> None:
    hook = ProvidersManager().hooks["sendoso"]
    assert hook is not None
    assert (hook.hook_name, hook.connection_type, hook.package_name) == ("Sendoso", "sendoso", PACKAGE)
    assert hook.connection_id_attribute_name == SendosoHook.conn_name_attr


@pytest.mark.parametrize("kind", ["operators", "sensors", "hooks", "triggers"])
def test_declared_modules_exist(kind: str) -> None:
    for entry in get_provider_info()[kind]:
        for module in entry["python-modules"]:
            assert resources.files(module.rpartition(".")[0]).joinpath(f"{module.rpartition('.')[2]}.py").is_file()


def test_the_provider_info_follows_airflows_runtime_schema() -> None:
    schema = json.loads((resources.files("airflow") / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)
