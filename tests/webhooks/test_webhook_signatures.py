"""What counts as signed, and what a webhook says: pure rules, held against signatures that were made by hand."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

sys.path.insert(0, str(Path(__file__).parent))
from conftest import OTHER, SECRET, Webhook, told

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.webhooks import signatures

CHECKS = signatures.make_checks([SecretStr(SECRET)])


def accepts(headers: dict[str, str], body: bytes, *secrets: str) -> bool:
    checks = signatures.make_checks([SecretStr(secret) for secret in secrets or (SECRET,)])
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    read = signatures.read_headers(raw)
    return read is not None and signatures.is_signed(body, read, checks)


def test_a_webhook_that_was_signed_by_the_published_rule_is_accepted() -> None:
    webhook = Webhook()
    assert accepts(webhook.headers, webhook.body)


def test_the_example_of_svix_own_documentation_is_accepted_but_for_its_age(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the published page on verifying by hand; it is of 2021."""
    headers = {
        "svix-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "svix-timestamp": "1614265330",
        "svix-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    body, secret = b'{"test": 2432232314}', "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert not accepts(headers, body, secret)

    class Then(signatures_library().datetime):  # type: ignore[misc]
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(1614265330, tz)

    monkeypatch.setattr(signatures_library(), "datetime", Then)
    assert accepts(headers, body, secret)
    assert not accepts(headers, body + b" ", secret)


def signatures_library():
    from standardwebhooks import webhooks

    return webhooks


@pytest.mark.parametrize("secrets", [(SECRET, OTHER), (OTHER, SECRET)])
def test_while_a_secret_is_rotated_either_of_the_two_is_right(secrets: tuple[str, str]) -> None:
    for secret in secrets:
        webhook = Webhook(secret=secret)
        assert accepts(webhook.headers, webhook.body, *secrets)


def test_of_several_signatures_one_has_to_be_right() -> None:
    old, new = Webhook(secret=OTHER), Webhook()
    both = old.headers["svix-signature"] + " " + new.headers["svix-signature"]
    assert accepts(new.headers | {"svix-signature": both}, new.body)
    assert accepts(new.headers | {"svix-signature": f"v2,abc {both}"}, new.body)


@pytest.mark.parametrize(("seconds", "accepted"), [(-330, False), (-270, True), (270, True), (330, False)])
def test_the_moment_of_a_signature_is_within_five_minutes(seconds: float, accepted: bool) -> None:
    webhook = Webhook(at=time.time() + seconds)
    assert accepts(webhook.headers, webhook.body) is accepted


@pytest.mark.parametrize(
    "change",
    [
        {"svix-id": "msg_2"},
        {"svix-id": ""},
        {"svix-id": "m" * 191},
        {"svix-timestamp": "soon"},
        {"svix-timestamp": "nan"},
        {"svix-timestamp": "9" * 180},
        {"svix-signature": ""},
        {"svix-signature": "v1"},
        {"svix-signature": "v1,%%%"},
        {"svix-signature": "v1,YWJj"},
        {"svix-signature": "v1,é"},
        {"svix-signature": "v1," + "A" * 3000},
    ],
)
def test_any_change_of_a_header_makes_a_webhook_unsigned(change: dict[str, str]) -> None:
    webhook = Webhook()
    assert not accepts(webhook.headers | change, webhook.body)


@pytest.mark.parametrize("missing", signatures.HEADERS)
def test_every_header_is_needed_once(missing: str) -> None:
    webhook = Webhook()
    headers = webhook.headers
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    twice = [*raw, (missing.encode(), headers.pop(missing).encode())]
    assert signatures.read_headers(twice) is None
    assert not accepts(headers, webhook.body)


@given(st.binary(max_size=200), st.dictionaries(st.sampled_from(signatures.HEADERS), st.text(max_size=60)))
def test_no_bytes_of_a_stranger_raise_or_are_accepted(body: bytes, headers: dict[str, str]) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    read = signatures.read_headers(raw)
    if read is not None:
        assert not signatures.is_signed(body, read, CHECKS)
    signatures.read_gid(body)


@pytest.mark.parametrize(
    ("body", "gid"),
    [
        (told("abc-1"), "abc-1"),
        (told(" abc "), "abc"),
        (told(50000001), "50000001"),
        (told(True), None),
        (told(None), None),
        (told(""), None),
        (told("x" * 191), None),
        (told("a\x00b"), None),
        (told(["abc"]), None),
        (b"[]", None),
        (b"{", None),
        (b"", None),
        (b"\xff\xfe", None),
        (b"[" * 60_000, None),
        (b'{"status_changed_at": "2026-11-28T03:00:00Z"}', None),
    ],
)
def test_a_webhook_names_a_send_that_the_ledger_can_store(body: bytes, gid: str | None) -> None:
    assert signatures.read_gid(body) == gid


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "standardwebhooks", None)
    with pytest.raises(SendosoConfigError, match=r"pip install 'airflow-provider-sendoso\[webhooks\]'"):
        signatures.make_checks([SecretStr(SECRET)])
