"""The outcome of a POST by its phase, its status, its body, whether the token was renewed, and whose gift it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_sendoso.client.answers import Answer, Exchange, Phase, names_another
from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.outcomes import PostOutcome, Verdict, classify
from airflow_provider_sendoso.models import METADATA_KEY, StatusReport

POST = Request("POST", "/api/v3/sends", json={"send": {"email": "ada@example.com", "first_name": "Ada"}})

ACCEPTED = {
    "id inside": b'{"send": {"id": "s-1", "status": "pending"}}',
    "id on top": b'{"id": "s-1", "status": "pending"}',
    "number": b'{"success": true, "send": {"id": 41}}',
}
UNREADABLE = {
    "no id": b'{"success": true, "message": "Thank you"}',
    "success false": b'{"success": false, "id": "s-1"}',
    "null id": b'{"send": {"id": null}}',
    "HTML": b"<html><body>One moment, please</body></html>",
    "empty": b"",
    "truncated": b'{"send": {"id": "s-',
    "not UTF-8": b"\xff\xfe\x00",
    "list": b'[{"id": "s-1"}]',
    "null": b"null",
    "text": b'"s-1"',
    "id a list": b'{"id": [1]}',
    "id an object": b'{"send": {"id": {"value": 1}}}',
    "id true": b'{"id": true}',
    "id half a character": b'{"id": "\\ud800"}',
    "deep": b"[" * 100_000,
    "a number too long": b'{"id": ' + b"9" * 10_000 + b"}",
}
BODIES = ACCEPTED | UNREADABLE
FLAGS = [(renewed, own_gift) for renewed in (False, True) for own_gift in (False, True)]


def outcome(
    status: int, body: bytes = b"{}", *, renewed: bool = False, own_gift: bool = False, **headers: str
) -> PostOutcome:
    sent = Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)
    return classify(POST, Exchange(Phase.ANSWERED, sent), renewed=renewed, own_gift=own_gift)


TRACKING = "https://track.sendoso.com/gifts/3f9a"


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        (TRACKING, True),
        ("http://127.0.0.1:8765/?send=send-1&copy=2", True),
        # Everybody who may look at the task would see the address.
        (f"{TRACKING}?to=ada@example.com", False),
        (f"{TRACKING}?to=ADA%40example.com", False),
        (f"{TRACKING}?to=somebody@else.org", False),
        (f"{TRACKING}/ada", False),
        (f"{TRACKING}/Canada", True),
        # A browser must not be sent to such an address.
        ("javascript:alert(1)", False),
        ("//track.sendoso.com/3f9a", False),
        ("https://user:pw@track.sendoso.com/3f9a", False),
        ("https://[::1", False),
        ("https://", False),
        ("https://track.sendoso.com/a b", False),
        ("https://track.sendoso.com/\n", False),
        ("https://track.sendoso.com/\ud800", False),
        (f"https://track.sendoso.com/{'a' * 2000}", False),
        ("", False),
        (7, False),
        (None, False),
        ([TRACKING], False),
    ],
)
def test_a_tracking_url_is_kept_only_if_it_is_a_web_address_without_personal_data(url: object, kept: bool) -> None:
    """The gift went out, whatever the answer has as tracking URL."""
    found = outcome(201, json.dumps({"send": {"id": "s-1", "tracking_url": url}}).encode())
    assert (found.verdict, found.send_id) == (Verdict.SENT, "s-1")
    assert found.tracking_url() == (url if kept else None)


@pytest.mark.parametrize(("renewed", "own_gift"), FLAGS)
class TestWithoutAnAnswer:
    def test_a_request_that_failed_before_its_first_byte_may_be_tried_again(self, renewed, own_gift):
        found = classify(POST, Exchange(Phase.NOT_CONNECTED, error="gaierror"), renewed=renewed, own_gift=own_gift)
        assert (found.verdict, found.reason, found.words) == (Verdict.RETRY, "not_connected", "gaierror")

    def test_a_request_that_failed_after_its_first_byte_is_unknown(self, renewed, own_gift):
        found = classify(POST, Exchange(Phase.LOST, error="ReadTimeout"), renewed=renewed, own_gift=own_gift)
        assert (found.verdict, found.reason, found.words) == (Verdict.UNKNOWN, "lost", "ReadTimeout")


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
@pytest.mark.parametrize(("renewed", "own_gift"), FLAGS)
class TestAccepted:
    @pytest.mark.parametrize("body", ACCEPTED)
    def test_a_2xx_with_an_id_is_sent(self, status, body, renewed, own_gift):
        found = outcome(status, ACCEPTED[body], renewed=renewed, own_gift=own_gift)
        assert (found.verdict, found.reason) == (Verdict.SENT, "accepted")
        assert found.send_id in ("s-1", "41")

    @pytest.mark.parametrize("body", UNREADABLE)
    def test_a_2xx_without_an_id_is_unknown(self, status, body, renewed, own_gift):
        found = outcome(status, UNREADABLE[body], renewed=renewed, own_gift=own_gift)
        assert (found.verdict, found.reason, found.send_id) == (Verdict.UNKNOWN, "unreadable", None)


@pytest.mark.parametrize("status", [400, 410, 413, 422])
@pytest.mark.parametrize("body", BODIES)
def test_a_4xx_is_a_refusal_only_where_sendoso_has_written_its_body(status: int, body: str) -> None:
    try:
        by_sendoso = isinstance(json.loads(BODIES[body]), dict)
    except (ValueError, RecursionError):
        by_sendoso = False
    assert outcome(status, BODIES[body]).verdict is (Verdict.REFUSED if by_sendoso else Verdict.NOT_SENT)


ASKED = Request(
    "POST",
    "/api/v3/sends",
    json={"send": {"gift_id": "gift-1", "email": "Ada@Example.com", "metadata": {METADATA_KEY: "mark-1"}}},
)


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ({"id": 1}, Verdict.SENT),
        (
            {"id": 1, "email": "ada@example.com", "gift_id": "gift-1", "metadata": {METADATA_KEY: "mark-1"}},
            Verdict.SENT,
        ),
        ({"id": 1, "email": None, "gift_id": "", "metadata": []}, Verdict.SENT),
        ({"id": 1, "email": "bob@example.com"}, Verdict.UNKNOWN),
        ({"send": {"id": 1, "recipient": {"email": "bob@example.com"}}}, Verdict.UNKNOWN),
        ({"id": 1, "recipient": {"email": "bob@example.com"}}, Verdict.UNKNOWN),
        ({"send": {"id": 1, "email": "bob@example.com"}}, Verdict.UNKNOWN),
        ({"send": {"id": 1, "gift_id": "gift-2"}}, Verdict.UNKNOWN),
        ({"send": {"id": 1, "metadata": {METADATA_KEY: "mark-2"}}}, Verdict.UNKNOWN),
    ],
)
def test_an_answer_that_names_another_send_leaves_the_send_unknown(body: dict[str, Any], verdict: Verdict) -> None:
    found = classify(
        ASKED, Exchange(Phase.ANSWERED, Answer(201, {}, json.dumps(body).encode())), renewed=False, own_gift=False
    )
    assert found.verdict is verdict
    assert (found.reason, found.send_id) == (("accepted", "1") if verdict is Verdict.SENT else ("another_send", None))


def test_an_answer_that_names_another_campaign_is_recognised() -> None:
    asked = Request("POST", "/api/v3/send", json={"send": {"touch_id": 7, "email": "ada@example.com"}})
    for body, another in (({"touch_id": "7"}, False), ({"touch": {"id": 8}}, True), ({"send": {"touch_id": 8}}, True)):
        assert names_another(asked, body) is another


@pytest.mark.parametrize(("renewed", "own_gift"), FLAGS)
class TestTheStatusDecidesWhateverTheBody:
    def verdicts(self, status: int, renewed: bool, own_gift: bool) -> set[Verdict]:
        found = [outcome(status, body, renewed=renewed, own_gift=own_gift) for body in BODIES.values()]
        assert {(each.reason, each.send_id) for each in found} == {(f"http_{status}", None)}
        return {each.verdict for each in found}

    @pytest.mark.parametrize(
        "status", [301, 302, 303, 304, 307, 308, 408, 409, 500, 501, 502, 503, 504, 520, 599, 101, 600]
    )
    def test_redirects_conflicts_and_server_errors_are_unknown(self, status, renewed, own_gift):
        assert self.verdicts(status, renewed, own_gift) == {Verdict.UNKNOWN}

    @pytest.mark.parametrize("status", [402, 403, 407, 421, 425, 426, 428, 431, 451])
    def test_a_status_that_concerns_every_send_stops_the_batch(self, status, renewed, own_gift):
        assert self.verdicts(status, renewed, own_gift) == {Verdict.STOP}

    @pytest.mark.parametrize("status", [405, 406, 411, 412, 414, 415, 416, 417, 418, 423, 424, 499])
    def test_a_status_that_may_not_concern_the_row_leaves_it_for_the_next_try(self, status, renewed, own_gift):
        assert self.verdicts(status, renewed, own_gift) == {Verdict.NOT_SENT}

    def test_not_found_stops_the_batch_for_its_own_gift_only(self, renewed, own_gift):
        found = self.verdicts(404, renewed, own_gift)
        assert found == ({Verdict.STOP} if own_gift else {Verdict.REFUSED, Verdict.NOT_SENT})

    def test_a_401_renews_the_token_once(self, renewed, own_gift):
        assert self.verdicts(401, renewed, own_gift) == {Verdict.STOP if renewed else Verdict.RENEW}

    def test_too_many_requests_are_tried_again(self, renewed, own_gift):
        assert self.verdicts(429, renewed, own_gift) == {Verdict.RETRY}


@pytest.mark.parametrize(
    ("retry_after", "verdict", "seconds"),
    [
        ("0", Verdict.RETRY, 0),
        ("120", Verdict.RETRY, 120),
        ("121", Verdict.STOP, 121),
        ("86400", Verdict.STOP, 86400),
        ("rubbish", Verdict.RETRY, None),
        ("Wed, 21 Oct 2026 07:29:00 GMT", Verdict.RETRY, 60),
        ("Wed, 21 Oct 2026 08:28:00 GMT", Verdict.STOP, 3600),
    ],
)
def test_a_throttle_of_up_to_two_minutes_is_waited_out(retry_after, verdict, seconds):
    found = outcome(429, retry_after=retry_after, date="Wed, 21 Oct 2026 07:28:00 GMT")
    assert (found.verdict, found.retry_after) == (verdict, seconds)


def test_the_status_of_an_accepted_send_is_read():
    assert outcome(201, ACCEPTED["id inside"]).report == StatusReport.of("pending")
    assert outcome(201, ACCEPTED["number"]).report is None
    held = b'{"id": "s-1", "status": "Suspicious Email"}'
    assert outcome(201, held).report == StatusReport.of("pending", "Suspicious Email")


@pytest.mark.parametrize(
    ("status", "message", "words"),
    [
        (422, "email ada@example.com is invalid", '"email <email> is invalid"'),
        (503, "Ada, try again", '"<first_name>, try again"'),
        (200, "Ada will hear from us", '"<first_name> will hear from us"'),
    ],
)
def test_the_words_of_an_outcome_have_no_values_of_the_request(status, message, words):
    assert outcome(status, json.dumps({"message": message}).encode()).words == words
