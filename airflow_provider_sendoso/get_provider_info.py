"""What Airflow shows and wires of this provider; read by its providers manager."""

from __future__ import annotations

from typing import Any

from airflow_provider_sendoso import __version__


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
        "cli": [f"{package}.cli.commands.get_cli_commands"],
        "connection-types": [
            {
                "connection-type": "sendoso",
                "hook-class-name": f"{package}.hooks.sendoso.SendosoHook",
                "hook-name": integration,
                "ui-field-behaviour": {
                    "hidden-fields": ["schema"],
                    "relabeling": {"host": "Base URL", "login": "Client ID", "password": "Client Secret"},
                    "placeholders": {"host": "https://app.sendoso.com"},
                },
                "conn-fields": {
                    "grant_type": {
                        "label": "Grant type",
                        "description": "How tokens are obtained; refresh_token after `airflow sendoso authorize`.",
                        "schema": {
                            "type": ["string", "null"],
                            "enum": ["client_credentials", "refresh_token"],
                            "default": "client_credentials",
                        },
                    },
                    "refresh_token": {
                        "label": "Refresh token",
                        "description": "Only for grant type refresh_token; the ledger's newer one wins.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "requests_per_second": {
                        "label": "Requests per second",
                        "description": "Ceiling for all calls of the account together; Sendoso's default is 10.",
                        "schema": {"type": ["number", "null"]},
                    },
                    "ledger_conn_id": {
                        "label": "Ledger connection",
                        "description": "The connection of the ledger database; default sendoso_ledger.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "account": {
                        "label": "Account",
                        "description": "What ledger rows and the rate belong to; default: the host.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "timeout": {
                        "label": "Timeout",
                        "description": "Seconds that one request may take; default 30.",
                        "schema": {"type": ["number", "null"]},
                    },
                    "scope": {
                        "label": "OAuth scope",
                        "description": "Space-separated; default: what the client has.",
                        "schema": {"type": ["string", "null"]},
                    },
                },
            }
        ],
    }
