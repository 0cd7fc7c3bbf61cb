"""Checks a webhook's signature with the library of the scheme, and reads what it says. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from airflow_provider_sendoso.exceptions import SendosoConfigError

if TYPE_CHECKING:
    from standardwebhooks import Webhook

HEADERS = ("svix-id", "svix-timestamp", "svix-signature")
"""The headers of a webhook (published)."""

LONGEST_BODY = 64 * 1024
"""Bytes of a body; those of Sendoso's webhooks have two fields (published), so some hundred bytes."""

LONGEST_ID = 190
"""Characters of a message's id and of a send's, which the ledger stores."""

_LONGEST_SIGNATURES = 2_000
"""Characters of the signatures; one has 47, and there is one for each secret that Sendoso signs with."""


def make_checks(secrets: Sequence[SecretStr]) -> tuple[Webhook, ...]:
    """
    Make the check of each secret.

    :param secrets: ``whsec_`` and the key as base64, as the connection has them.
    :raises SendosoConfigError: if the library is not installed.
    """
    try:
        from standardwebhooks import Webhook
    except ImportError:
        raise SendosoConfigError(
            "Receiving webhooks needs the package standardwebhooks, which checks their signatures: "
            "pip install 'airflow-provider-sendoso[webhooks]'."
        ) from None
    return tuple(Webhook(secret.get_secret_value()) for secret in secrets)


def read_headers(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str] | None:
    """
    Read the headers that a webhook has to have, before its body is read.

    :param headers: names in lower case, and values, as ASGI has them.
    :return: ``None`` if one is missing, there twice, too long, or not ASCII.
    """
    found: dict[str, str] = {}
    for name, value in headers:
        text = name.decode("latin-1")
        if text not in HEADERS:
            continue
        if text in found or not value.isascii():
            return None
        found[text] = value.decode("ascii").strip()
    longest = dict(zip(HEADERS, (LONGEST_ID, LONGEST_ID, _LONGEST_SIGNATURES), strict=True))
    if any(not 0 < len(found.get(name, "")) <= longest[name] for name in HEADERS):
        return None
    return found


def is_signed(body: bytes, headers: Mapping[str, str], checks: Sequence[Webhook]) -> bool:
    """
    Return whether one of the secrets has signed a webhook, within five minutes of now, before or after (published).

    :param body: the raw body, exactly as it came: another spelling of the same JSON has another signature.
    :param headers: of :func:`read_headers`.
    :param checks: of :func:`make_checks`.
    """
    # The scheme is Svix's own; the library calls the headers by the names of the open standard that came of it.
    named = {name.replace("svix", "webhook"): value for name, value in headers.items()}
    return any(_is_signed_with(check, body, named) for check in checks)


def _is_signed_with(check: Webhook, body: bytes, headers: dict[str, str]) -> bool:
    try:
        check.verify(body, headers, json_parse=False)
    except Exception:
        # Besides its own error the library lets through those of a signature without a comma, of one that is not
        # base64, of a body that is not UTF-8: a stranger's bytes, none of which is signed.
        return False
    return True


def read_gid(body: bytes) -> str | None:
    """
    Read which send a webhook names: ``send_gid``, beside which there is only ``status_changed_at`` (published).

    :param body: the body, whose signature is right.
    :return: ``None`` if it names none in a form that the ledger can store.
    """
    try:
        fields: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    gid = fields.get("send_gid") if isinstance(fields, dict) else None
    if isinstance(gid, bool) or not isinstance(gid, str | int):
        return None
    text = str(gid).strip()
    return text if 0 < len(text) <= LONGEST_ID and text.isprintable() else None
