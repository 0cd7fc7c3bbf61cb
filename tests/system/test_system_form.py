"""The connection's form as Airflow 3.2 and newer make it, and the strict schema that they have for it."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import jsonschema
import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_2_PLUS

from airflow_provider_sendoso.connection_form import FIELD_BEHAVIOUR, FIELDS
from airflow_provider_sendoso.get_provider_info import get_provider_info

if AIRFLOW_V_3_2_PLUS:
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

pytestmark = pytest.mark.skipif(
    not AIRFLOW_V_3_2_PLUS, reason="Airflow before 3.2 makes its form from the hook: test_connection_form.py"
)


def test_the_connection_form_has_the_titles_of_the_metadata() -> None:
    """The hook's methods have no part in it."""
    (form,) = [form for form in HookMetaService.hook_meta_data() if form.connection_type == "sendoso"]
    assert form.standard_fields is not None
    titles = {name: field.title for name, field in form.standard_fields if field is not None and field.title}
    assert titles == FIELD_BEHAVIOUR["relabeling"]
    assert form.extra_fields is not None
    shown = {name: (field["schema"]["title"], field["description"]) for name, field in form.extra_fields.items()}
    assert shown == {name: (field["label"], field["description"]) for name, field in FIELDS.items()}


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((resources.files("airflow") / name).read_text())
    return found


def strict_schema() -> dict[str, Any]:
    """Airflow's own of a ``provider.yaml``, as far as what it describes is there when Airflow runs."""
    whole = schema("provider.yaml.schema.json")
    runtime = schema("provider_info.schema.json")["properties"]
    properties = {name: rule for name, rule in whole["properties"].items() if name in runtime or name == "versions"}
    return whole | {"properties": properties, "required": [], "additionalProperties": False}


def test_the_provider_info_follows_airflows_strict_schema() -> None:
    jsonschema.validate(get_provider_info(), strict_schema())


@pytest.mark.parametrize(
    "typo",
    [{"ui-field-behaviour": {"relabelling": {}}}, {"conn-fields": {"timeout": {"label": "Timeout"}}}],
)
def test_the_strict_schema_notices_a_typo(typo: dict[str, Any]) -> None:
    info = get_provider_info()
    info["connection-types"] = [info["connection-types"][0] | typo]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(info, strict_schema())


def test_the_strict_schema_notices_an_unknown_key() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(get_provider_info() | {"extra-link": []}, strict_schema())
