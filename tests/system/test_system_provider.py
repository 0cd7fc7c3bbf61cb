"""What Airflow finds out about the provider by itself."""

from __future__ import annotations

import json
from importlib import resources
from importlib.metadata import version
from typing import Any

import jsonschema
import pytest
from airflow.providers_manager import ProvidersManager
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

from airflow_provider_sendoso.get_provider_info import get_provider_info
from airflow_provider_sendoso.hooks.sendoso import SendosoHook

PACKAGE = "airflow-provider-sendoso"


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((resources.files("airflow") / name).read_text())
    return found


def test_providers_list_has_it(airflow: Any) -> None:
    listed = json.loads(airflow.cli("providers", "list", "--output", "json"))
    assert [row["version"] for row in listed if row["package_name"] == PACKAGE] == [version(PACKAGE)]


def test_connection_type_is_known() -> None:
    hook = ProvidersManagerTaskRuntime().hooks["sendoso"]
    assert hook is not None
    assert (hook.hook_name, hook.connection_type, hook.package_name) == ("Sendoso", "sendoso", PACKAGE)
    assert hook.connection_id_attribute_name == SendosoHook.conn_name_attr


def test_connection_form_has_the_fields() -> None:
    manager = ProvidersManager()
    fields = {
        name.rpartition("__")[2] for name in manager.connection_form_widgets if name.startswith("extra__sendoso__")
    }
    assert {"requests_per_second", "ledger_conn_id", "account", "timeout", "scope"} <= fields
    behaviour = manager.field_behaviours["sendoso"]
    assert behaviour["relabeling"] == {"host": "Base URL", "login": "Client ID", "password": "Client Secret"}


@pytest.mark.parametrize("kind", ["operators", "sensors", "hooks", "triggers"])
def test_declared_modules_exist(kind: str) -> None:
    for entry in get_provider_info()[kind]:
        for module in entry["python-modules"]:
            assert resources.files(module.rpartition(".")[0]).joinpath(f"{module.rpartition('.')[2]}.py").is_file()


def test_info_keeps_to_the_runtime_schema() -> None:
    jsonschema.validate(get_provider_info(), schema("provider_info.schema.json"))


def test_connection_types_keep_to_the_strict_schema() -> None:
    whole = schema("provider.yaml.schema.json")
    part = whole | {"properties": {"connection-types": whole["properties"]["connection-types"]}, "required": []}
    jsonschema.validate({"connection-types": get_provider_info()["connection-types"]}, part)


def test_strict_schema_notices_a_typo() -> None:
    whole = schema("provider.yaml.schema.json")
    connection_type = get_provider_info()["connection-types"][0] | {"ui-field-behaviour": {"relabelling": {}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate([connection_type], whole["properties"]["connection-types"])
