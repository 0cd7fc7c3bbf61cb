"""The provider's metadata, which Airflow's providers manager reads."""

from __future__ import annotations

from typing import Any

from airflow_provider_sendoso import __version__
from airflow_provider_sendoso.connection_form import FIELD_BEHAVIOUR, FIELDS


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata."""
    integration = "Sendoso"
    package = "airflow_provider_sendoso"
    asset_uris = {
        "schemes": ["sendoso"],
        "handler": f"{package}.assets.sendoso.sanitize_uri",
        "factory": f"{package}.assets.sendoso.create_asset",
        "to_openlineage_converter": f"{package}.assets.sendoso.convert_asset_to_openlineage",
    }
    return {
        "package-name": "airflow-provider-sendoso",
        "name": integration,
        "description": "Send gifts through `Sendoso <https://www.sendoso.com/>`__, never the same one twice.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": integration,
                "external-doc-url": "https://developer.sendoso.com/",
                "tags": ["service"],
            }
        ],
        "operators": [
            {
                "integration-name": integration,
                "python-modules": [f"{package}.operators.sendoso", f"{package}.operators.ledger"],
            }
        ],
        "sensors": [{"integration-name": integration, "python-modules": [f"{package}.sensors.sendoso"]}],
        "hooks": [{"integration-name": integration, "python-modules": [f"{package}.hooks.sendoso"]}],
        "triggers": [{"integration-name": integration, "python-modules": [f"{package}.triggers.sendoso"]}],
        "notifications": [f"{package}.notifications.sendoso.SendosoNotifier"],
        "asset-uris": [asset_uris],
        "dataset-uris": [asset_uris],  # Airflow 2
        "extra-links": [f"{package}.links.sendoso.{name}" for name in ("OnHoldLink", "SendosoLink", "TrackingLink")],
        "cli": [f"{package}.cli.commands.get_cli_commands"],
        "connection-types": [
            {
                "connection-type": "sendoso",
                "hook-class-name": f"{package}.hooks.sendoso.SendosoHook",
                "hook-name": integration,
                "ui-field-behaviour": FIELD_BEHAVIOUR,
                "conn-fields": FIELDS,
            }
        ],
    }
