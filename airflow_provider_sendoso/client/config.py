"""Validates a Sendoso connection and resolves it into the client's configuration."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_core import PydanticCustomError

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.models.hosts import is_host, is_ip, is_loopback
from airflow_provider_sendoso.models.identity import is_invisible, name_problem, same_name
from airflow_provider_sendoso.models.spending import SpendingLimits

DEFAULT_HOST = "https://app.sendoso.com"
_PORTS = {"https": 443, "http": 80}

DEFAULT_LEDGER_CONN_ID = "sendoso_ledger"


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("no_number", "Input should be a number")  # true is 1 to Python
    return value


_Float = Annotated[float, BeforeValidator(_no_truth)]
_Int = Annotated[int, BeforeValidator(_no_truth)]
_Amount = Annotated[Decimal, BeforeValidator(_no_truth)]

_SHORTEST_SECRET = 16
"""Bytes of a webhook secret; those of Svix have 24."""


def _webhook_secrets(value: Any) -> tuple[str, ...]:
    """Take apart the secrets, of which there are two while one replaces the other."""
    parts = re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(map(_is_webhook_secret, parts)):
        raise PydanticCustomError(
            "webhook_secret",
            "Input should be the signing secret from the webhooks' portal, which begins with whsec_, or several of "
            "them with blanks between them",
        )
    return tuple(parts)


def _is_webhook_secret(secret: Any) -> bool:
    if not isinstance(secret, str) or not secret.startswith("whsec_"):
        return False
    try:
        return len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) >= _SHORTEST_SECRET
    except ValueError:
        return False


_WebhookSecrets = Annotated[tuple[SecretStr, ...], BeforeValidator(_webhook_secrets)]


class ClientConfig(BaseModel):
    """
    A resolved connection; its ``repr`` shows no secret.

    :param base_url: scheme, host and port, without a trailing slash.
    :param client_id: OAuth client ID.
    :param client_secret: OAuth client secret.
    :param grant_type: how access tokens are obtained.
    :param scope: space-separated OAuth scopes; ``None`` asks for the client's default.
    :param requests_per_second: ceiling for all calls of the account together (published: 10).
    :param timeout: seconds that one request may take in all.
    :param account: the name under which the ledger stores sends, tokens and the rate; by default the host.
    :param names_account: whether the connection sets ``account`` itself.
    :param deployment: tells apart several Airflows that share a ledger and have DAGs, tasks and runs of the same names.
    :param ledger_conn_id: the Airflow connection of the ledger database.
    :param via_from: the calling application's name in campaign sends (published).
    :param max_sends_per_batch: ceiling for every batch sent through this connection; a single gift is a batch of one.
    :param max_sends_per_day: the most sends of the account on a day (UTC), by all that send.
    :param max_cost_per_month: the highest estimated cost of the account in a month (UTC), by all that send.
    :param min_days_between_gifts: days for which a person who was sent anything of the account is sent nothing more,
        unless a task sets another number.
    :param webhook_secret: the signing secrets of Sendoso's webhooks (published); with several, any of them is right.
    :param poll_with_webhooks: seconds after which a send that no webhook has named is looked at all the same; without
        ``webhook_secret`` it has no meaning.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    base_url: str
    client_id: str
    client_secret: SecretStr
    grant_type: Literal["client_credentials", "refresh_token"] = "client_credentials"
    refresh_token: SecretStr | None = None
    scope: str | None = None
    requests_per_second: _Float = Field(default=10.0, gt=0, allow_inf_nan=False)
    timeout: _Float = Field(default=30.0, gt=0, le=600)
    account: str
    names_account: bool = Field(default=False, exclude=True)
    deployment: str | None = None
    ledger_conn_id: str = DEFAULT_LEDGER_CONN_ID
    via_from: str = "Airflow"
    max_sends_per_batch: _Int | None = Field(default=None, ge=0)
    max_sends_per_day: _Int | None = Field(default=None, ge=0)
    max_cost_per_month: _Amount | None = Field(default=None, ge=0, allow_inf_nan=False)
    min_days_between_gifts: _Float | None = Field(default=None, ge=0, le=36_500)
    webhook_secret: _WebhookSecrets = ()
    poll_with_webhooks: _Float = Field(default=3600.0, ge=60, le=86_400)

    @property
    def client(self) -> tuple[str, ...]:
        """The values that tell this OAuth client from others, which may belong to another organisation at Sendoso."""
        return (self.base_url, self.client_id, self.grant_type)

    @property
    def spending(self) -> SpendingLimits:
        """The limits that the ledger keeps for all that the account sends."""
        return SpendingLimits(
            max_sends_per_day=self.max_sends_per_day,
            max_cost_per_month=self.max_cost_per_month,
            min_days_between_gifts=self.min_days_between_gifts,
        )

    @property
    def identity(self) -> tuple[str, ...]:
        """The values that identify this client's tokens."""
        return (self.base_url, self.client_id, self.account, self.grant_type, self.scope or "")

    @classmethod
    def from_connection(
        cls,
        conn_id: str,
        *,
        host: str | None,
        schema: str | None,
        port: int | None,
        login: str | None,
        password: str | None,
        extra: Mapping[str, Any],
    ) -> ClientConfig:
        """
        Resolve an Airflow connection's fields.

        :param conn_id: named in the errors.
        :param host: base URL with or without scheme; absent: ``https://app.sendoso.com``.
        :param schema: ``http`` or ``https``, as the HTTP provider takes it; the host's own scheme wins.
        :param port: optional.
        :param login: client ID.
        :param password: client secret.
        :param extra: the connection's extra; ``None`` and ``""`` mean unset.
        :raises SendosoConfigError: if a value is missing, unknown or out of range.
        """
        # Blanks and line breaks around pasted credentials are not part of them.
        login, password = (login or "").strip(), (password or "").strip()
        if not login or not password:
            missing = "login (the client ID)" if not login else "password (the client secret)"
            raise SendosoConfigError(
                f"The Sendoso connection {conn_id!r} has no {missing}. Client ID and secret come from "
                "Settings > API in the Sendoso dashboard, or from Sendoso support."
            )
        for field, text in (("login", login), ("password", password)):
            for character in filter(is_invisible, text):
                raise SendosoConfigError(
                    f"The Sendoso connection {conn_id!r} has a {field} with a character that cannot be seen "
                    f"(U+{ord(character):04X}). Paste it anew; nothing was sent."
                )
        base_url, hostname = _base_url(conn_id, host, schema, port)
        if not isinstance(extra, Mapping):
            raise SendosoConfigError(f"The Sendoso connection {conn_id!r} has an extra that is not a JSON object.")
        given = {
            name: value
            for name, value in extra.items()
            if value is not None and value != "" and not _is_the_forms_second_name(name, value, extra)
        }
        for field, consequence in _NAMES.items():
            if isinstance(given.get(field), str):
                given[field] = _name(conn_id, field, given[field], consequence)
        try:
            return cls(
                **{"account": hostname, **given},
                names_account="account" in given,
                base_url=base_url,
                client_id=login,
                client_secret=SecretStr(password),
            )
        except (ValidationError, TypeError) as error:
            # "from None", because the cause could quote the extra, which may hold a refresh token.
            raise SendosoConfigError(_explain(conn_id, error)) from None


def _is_the_forms_second_name(name: Any, value: Any, extra: Mapping[str, Any]) -> bool:
    """Tell what the Test button of Airflow 2's form adds: each of our fields once more, under a longer name."""
    field = str(name).removeprefix("extra__sendoso__")
    return field != name and field in extra and bool(extra[field] == value)


_NAMES = {
    "account": "To the ledger it would be another account, in which nobody has been sent a gift.",
    "deployment": "To the ledger it would be another deployment, whose batches are others.",
}
"""The names that the ledger stores, and for the error what another spelling of each would mean."""


def _name(conn_id: str, field: str, text: str, consequence: str) -> str:
    name = same_name(text)
    problem = name_problem(name) if name else "is blank"
    if problem is not None:
        raise SendosoConfigError(
            f"The Sendoso connection {conn_id!r} names its {field} so that it {problem}. {consequence} "
            "Nothing was sent."
        )
    return name


def _base_url(conn_id: str, host: str | None, schema: str | None, port: int | None) -> tuple[str, str]:
    text = (host or DEFAULT_HOST).strip()
    if is_ip(text):
        text = f"[{text}]" if ":" in text else text
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        # Normalised, because another spelling of the host (a trailing dot, zeros in an address) would be another
        # account.
        hostname, given_port = (parts.hostname or "").rstrip("."), parts.port or port
        hostname = str(ipaddress.ip_address(hostname)) if is_ip(hostname) else hostname
    except ValueError:
        hostname, given_port = None, None
    if (
        not hostname
        or not is_host(hostname)
        or parts.username
        or parts.path.strip("/")
        or parts.query
        or parts.fragment
    ):
        raise SendosoConfigError(
            f"The Sendoso connection {conn_id!r} has a host that is not a base URL; "
            f"use a host name or a URL without a path, like {DEFAULT_HOST}."
        )
    loopback = is_loopback(hostname)
    scheme = parts.scheme or (schema or "").strip().lower() or ("http" if loopback else "https")
    if scheme not in _PORTS:
        raise SendosoConfigError(
            f"The Sendoso connection {conn_id!r} has the scheme {scheme!r}; use https (or http for loopback)."
        )
    if scheme == "http" and not loopback:
        raise SendosoConfigError(
            f"The Sendoso connection {conn_id!r} uses http for {hostname}. The client secret would cross the "
            "network in the clear: use https (http is allowed for loopback only, as for the sandbox)."
        )
    literal = f"[{hostname}]" if ":" in hostname else hostname
    # The scheme's default port is left out, so that the connection has the same tokens with and without it.
    port_part = f":{given_port}" if given_port and given_port != _PORTS[scheme] else ""
    return f"{scheme}://{literal}{port_part}", hostname


def _explain(conn_id: str, error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        # A field that the connection's own columns already hold, given again in the extra.
        return f"The Sendoso connection {conn_id!r} repeats base_url, client_id or client_secret in its extra."
    known = sorted(ClientConfig.model_fields.keys() - {"base_url", "client_id", "client_secret"})
    problems = []
    for detail in error.errors(include_input=False, include_url=False):
        name = ".".join(str(part) for part in detail["loc"])
        if detail["type"] == "extra_forbidden":
            problems.append(f"extra {name!r} is unknown (known: {', '.join(known)})")
        else:
            problems.append(f"extra {name!r}: {detail['msg']}")
    return f"The Sendoso connection {conn_id!r} is not usable: {'; '.join(problems)}."
