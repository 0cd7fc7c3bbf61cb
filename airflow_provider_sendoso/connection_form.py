"""
The connection form, declared once: Airflow 3.2 and newer read it from the provider's metadata, older versions from the
hook's widgets.

Saving the form writes every field into the connection's extra; an empty field becomes ``null``, which means unset. Only
the drop-down has a default, because the first save would store any other default, and it would stay when the provider's
default changes.
"""

from __future__ import annotations

from typing import Any

FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["schema"],
    "relabeling": {
        "host": "Base URL",
        "login": "Client ID",
        "password": "Client Secret",
        # Airflow 3.3.2 cannot test a connection that was stored without a port, and shows no placeholder there.
        "port": "Port (443 for https)",
    },
    "placeholders": {"host": "https://app.sendoso.com"},
}

FIELDS: dict[str, dict[str, Any]] = {
    "grant_type": {
        "label": "Grant type",
        "description": (
            "client_credentials for a client ID and secret from Settings > API in the Sendoso dashboard, or from "
            "Sendoso's support. refresh_token for a client that a person authorises with the command: airflow sendoso "
            "authorize."
        ),
        "schema": {
            "type": ["string", "null"],
            "enum": ["client_credentials", "refresh_token"],
            "default": "client_credentials",
        },
    },
    "refresh_token": {
        "label": "Refresh token",
        "description": (
            "For the grant type refresh_token only, where airflow sendoso authorize --no-store has printed one. It is "
            "used once; from then on the ledger has the newer one."
        ),
        "schema": {"type": ["string", "null"], "format": "password"},
    },
    "scope": {
        "label": "OAuth scope",
        "description": "Space-separated, like: public write. Empty: what the client has. Sending needs write.",
        "schema": {"type": ["string", "null"]},
    },
    "ledger_conn_id": {
        "label": "Ledger connection",
        "description": (
            "Id of the Airflow connection (Postgres, MySQL, or SQLite for a single machine) of the database that "
            "remembers who was sent a gift. Empty: sendoso_ledger. Sends need one."
        ),
        "schema": {"type": ["string", "null"]},
    },
    "account": {
        "label": "Account",
        "description": (
            "What sends, tokens and the rate belong to. Empty: the host. Give two Sendoso accounts on one host two "
            "names; a changed name forgets who was sent a gift."
        ),
        "schema": {"type": ["string", "null"]},
    },
    "deployment": {
        "label": "Deployment",
        "description": (
            "Only where several Airflows share a ledger and have DAGs, tasks and runs of the same names: another name "
            "in each of them, like staging, so that none takes another's batches for its own."
        ),
        "schema": {"type": ["string", "null"]},
    },
    "requests_per_second": {
        "label": "Requests per second",
        "description": "Ceiling for all tasks of the account together. Empty: 10, which is Sendoso's limit.",
        "schema": {"type": ["number", "null"], "exclusiveMinimum": 0},
    },
    "timeout": {
        "label": "Timeout (seconds)",
        "description": "What one request may take in all, up to 600. Empty: 30.",
        "schema": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 600},
    },
    "max_sends_per_batch": {
        "label": "Most sends in a batch",
        "description": "No batch through this connection makes more; a single gift is a batch of one, so with 0 "
        "nothing can be sent. Empty: no limit.",
        "schema": {"type": ["integer", "null"], "minimum": 0},
    },
    "max_sends_per_day": {
        "label": "Most sends a day",
        "description": "What all tasks of the account together may send on a day (UTC). Empty: no limit.",
        "schema": {"type": ["integer", "null"], "minimum": 0},
    },
    "max_cost_per_month": {
        "label": "Highest cost a month",
        "description": "What all sends of the account may cost in a month (UTC), as estimated from the catalogue, in "
        "its currency. A send of unknown price is then refused. Empty: no limit.",
        "schema": {"type": ["number", "null"], "minimum": 0},
    },
    "min_days_between_gifts": {
        "label": "Days between two gifts",
        "description": "Who was sent anything of the account within so many days is left out, unless a task sets "
        "another number. Empty: no limit.",
        "schema": {"type": ["number", "null"], "minimum": 0, "maximum": 36500},
    },
    "webhook_secret": {
        "label": "Webhook secret",
        "description": (
            "Where Sendoso's webhooks are received: the signing secret from their portal, like whsec_…; while it is "
            "rotated, both, with a blank between them. Empty: no webhook is accepted."
        ),
        "schema": {"type": ["string", "null"], "format": "password"},
    },
    "poll_with_webhooks": {
        "label": "Poll with webhooks (seconds)",
        "description": (
            "With a webhook secret: after so long a send that no webhook has named is looked at all the same, from 60 "
            "to 86400. Empty: 3600."
        ),
        "schema": {"type": ["number", "null"], "minimum": 60, "maximum": 86400},
    },
    "via_from": {
        "label": "Sent via",
        "description": "The application that campaign sends name as their origin. Empty: Airflow. Keep it constant.",
        "schema": {"type": ["string", "null"]},
    },
}


def field_behaviour() -> dict[str, Any]:
    """Return the behaviour of the standard fields in the form that a hook returns before Airflow 3.2."""
    return {name.replace("-", "_"): value for name, value in FIELD_BEHAVIOUR.items()}


def widgets() -> dict[str, Any]:
    """
    Return the fields as widgets of flask-appbuilder, which Airflow uses for its forms before 3.2.

    Such a form has fields for text, passwords and whole numbers only. A choice is a text field that the form validates;
    any other number is a text field that is validated when the connection is used.
    """
    from flask_appbuilder.fieldwidgets import (  # type: ignore[import-not-found]
        BS3PasswordFieldWidget,
        BS3TextFieldWidget,
    )
    from wtforms import IntegerField, PasswordField, StringField  # type: ignore[import-untyped]
    from wtforms.validators import Optional, any_of  # type: ignore[import-untyped]

    def widget(label: str, description: str, schema: dict[str, Any]) -> Any:
        secret = schema.get("format") == "password"
        kind = PasswordField if secret else IntegerField if "integer" in schema["type"] else StringField
        look = BS3PasswordFieldWidget() if secret else BS3TextFieldWidget()
        checks = [Optional(), *([any_of(schema["enum"])] if "enum" in schema else [])]
        return kind(label, checks, description=description, default=schema.get("default"), widget=look)

    return {name: widget(**field) for name, field in FIELDS.items()}
