"""The connection's form offers exactly what the connection accepts, in both of Airflow's ways to make a form."""

from __future__ import annotations

import re
import sys
import types
from typing import Any

import jsonschema
import pytest
import wtforms

from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.connection_form import FIELD_BEHAVIOUR, FIELDS
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook

STANDARD = {"description", "host", "port", "login", "password", "schema", "extra"}
EXTRAS = ClientConfig.model_fields.keys() - {"base_url", "client_id", "client_secret", "names_account"}


def resolve(extra: dict[str, Any]) -> ClientConfig:
    return ClientConfig.from_connection(
        "c", host=None, schema=None, port=None, login="id", password="s3cret", extra=extra
    )


def test_every_extra_has_a_field() -> None:
    assert FIELDS.keys() == EXTRAS


def test_a_form_saved_untouched_sets_no_extra() -> None:
    """Airflow writes each field into the extra, those without a default as null."""
    assert resolve({name: field["schema"].get("default") for name, field in FIELDS.items()}) == resolve({})


def test_the_form_changes_only_standard_fields_that_airflow_has() -> None:
    assert {*FIELD_BEHAVIOUR["hidden-fields"], *FIELD_BEHAVIOUR["relabeling"]} <= STANDARD
    assert FIELD_BEHAVIOUR["placeholders"]["host"] == resolve({}).base_url


@pytest.mark.parametrize("name", FIELDS)
class TestField:
    def test_the_schema_of_a_field_is_valid_and_accepts_its_default_and_null(self, name: str) -> None:
        schema = FIELDS[name]["schema"]
        jsonschema.Draft202012Validator.check_schema(schema)
        for value in (None, *([schema["default"]] if "default" in schema else [])):
            # A choice of Airflow's form need not name null to be left empty.
            jsonschema.validate(value, {key: schema[key] for key in schema if key != "enum" or value is not None})

    def test_the_schema_of_a_field_has_known_keywords_only(self, name: str) -> None:
        """A typo would pass, for nothing refuses a keyword that it does not know."""
        known = {"type", "default", "enum", "format", "minimum", "exclusiveMinimum", "maximum"}
        assert FIELDS[name]["schema"].keys() <= known

    def test_secret_fields_are_masked_and_others_are_not(self, name: str) -> None:
        secret = "SecretStr" in str(ClientConfig.model_fields[name].annotation)
        assert (FIELDS[name]["schema"].get("format") == "password") is secret

    def test_the_description_of_a_field_is_plain_text_with_its_default(self, name: str) -> None:
        description = FIELDS[name]["description"]
        assert description.endswith(".")
        assert "`" not in description
        said = re.search(r"Empty: ([\w.]+?)[.,]", description)
        default = ClientConfig.model_fields[name].default
        if isinstance(default, float):
            assert said
            assert float(said[1]) == default
        elif name in ("ledger_conn_id", "via_from"):
            assert said
            assert said[1] == default

    def test_the_limits_of_a_field_are_those_of_the_connection(self, name: str) -> None:
        """The form accepts the values that the connection accepts, and refuses all others."""
        schema = FIELDS[name]["schema"]
        step = 1 if "integer" in schema["type"] else 0.001
        refused = [schema["exclusiveMinimum"]] if "exclusiveMinimum" in schema else []
        taken = [schema["exclusiveMinimum"] + step] if "exclusiveMinimum" in schema else []
        for bound, outwards in (("minimum", -step), ("maximum", step)):
            if bound in schema:
                taken.append(schema[bound])
                refused.append(schema[bound] + outwards)
        for choice in schema.get("enum", ()):
            taken.append(choice)
            refused.append(f"{choice}s")
        for value in taken:
            assert getattr(resolve({name: value}), name) == value
        for value in refused:
            with pytest.raises(SendosoConfigError, match=name):
                resolve({name: value})


class TestBefore3_2:
    """The form is made of widgets; flask-appbuilder, which gives them their looks, is not there on newer Airflows."""

    @pytest.fixture
    def form(self, monkeypatch: pytest.MonkeyPatch) -> type[wtforms.Form]:
        looks = types.ModuleType("flask_appbuilder.fieldwidgets")
        looks.BS3TextFieldWidget = wtforms.widgets.TextInput  # type: ignore[attr-defined]
        looks.BS3PasswordFieldWidget = wtforms.widgets.PasswordInput  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "flask_appbuilder", types.ModuleType("flask_appbuilder"))
        monkeypatch.setitem(sys.modules, "flask_appbuilder.fieldwidgets", looks)
        return type("ConnectionForm", (wtforms.Form,), SendosoHook.get_connection_form_widgets())

    def test_the_widgets_have_the_same_fields(self, form: type[wtforms.Form]) -> None:
        made = form()
        assert {field.name: (field.label.text, field.description) for field in made} == {
            name: (field["label"], field["description"]) for name, field in FIELDS.items()
        }
        assert made.grant_type.data == "client_credentials"

    def test_the_widgets_are_of_types_that_airflow_accepts(self, form: type[wtforms.Form]) -> None:
        kinds = {field.name: type(field) for field in form()}
        assert set(kinds.values()) <= {wtforms.StringField, wtforms.PasswordField, wtforms.IntegerField}
        assert kinds["refresh_token"] is wtforms.PasswordField
        assert kinds["max_sends_per_batch"] is wtforms.IntegerField

    def test_a_secret_is_not_rendered_into_the_page(self, form: type[wtforms.Form]) -> None:
        assert "s3cret" not in form(data={"refresh_token": "s3cret"}).refresh_token()

    @pytest.mark.parametrize(
        ("filled", "wrong"),
        [
            ({}, set()),
            ({"grant_type": "refresh_token", "max_sends_per_batch": "100", "timeout": "2.5"}, set()),
            ({"grant_type": "password"}, {"grant_type"}),
            ({"max_sends_per_batch": "many"}, {"max_sends_per_batch"}),
        ],
    )
    def test_the_widgets_refuse_values_outside_the_limits(
        self, form: type[wtforms.Form], filled: dict[str, str], wrong: set[str]
    ) -> None:
        class Posted(dict[str, str]):
            def getlist(self, name: str) -> list[str]:
                return [self[name]] if name in self else []

        made = form(Posted(dict.fromkeys(FIELDS, "") | filled))
        assert made.validate() is (not wrong)
        assert made.errors.keys() == wrong

    def test_the_standard_fields_look_as_in_newer_airflows(self) -> None:
        behaviour = SendosoHook.get_ui_field_behaviour()
        assert {name.replace("_", "-"): value for name, value in behaviour.items()} == FIELD_BEHAVIOUR
        assert behaviour.keys() == {"hidden_fields", "relabeling", "placeholders"}
