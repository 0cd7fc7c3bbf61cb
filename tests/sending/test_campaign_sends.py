"""Sends of campaigns: in their three shapes, refused before they are sent, and found again without an id."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from trying import FakeTI, Try, batch, people

from airflow_provider_sendoso.client.endpoints import list_campaign_sends_request
from airflow_provider_sendoso.exceptions import SendHeldError, SendosoConfigError, SendOutcomeUnknownError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import Record, State
from airflow_provider_sendoso.operators.sendoso import SendGiftOperator
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sending.kinds.tracking import TrackerScanner

POST = {"method": "POST", "path": "/api/v3/send"}
LIST = {"method": "GET", "path": "/api/v3/send"}
BOX, EGIFT = 101, 102
LONDON = {"line1": "12 St James Sq", "line2": "Flat 2", "city": "London", "postal_code": "SW1Y 4JH", "country": "GB"}
ADA = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}
ABROAD = ADA | {"address": LONDON, "mobile_no": "+44 20 7946 0000"}
RESEND: dict[str, Any] = {"on_absent": "resend", "settle_time": 0}


@pytest.fixture
def campaign(send: Callable[..., Try]) -> Callable[..., Try]:
    """Runs one try of a batch of eGifts to five people, unless told otherwise."""

    def run(recipients: Any = 5, **changes: Any) -> Try:
        return send(recipients, **({"gift_id": None, "touch_id": EGIFT, "message": None} | changes))

    return run


@pytest.fixture
def gift(sendoso: Sandbox, send: Any) -> Callable[..., Any]:
    """Sends one gift of a campaign."""

    def run(**changes: Any) -> Any:
        arguments = {"touch_id": EGIFT, "recipient": ADA, "dedupe_scope": "thanks", **changes}
        ti = FakeTI("run-1", arguments["dedupe_scope"])
        return SendGiftOperator(task_id="thank", **arguments).execute({"ti": ti})

    return run


def records() -> list[Record]:
    return list(SendosoHook().ledger.sends.records(*State))


def bodies(sandbox: Sandbox) -> list[dict[str, Any]]:
    return [dict(sent.body) for sent in sandbox.campaign_sends()]


def lists(sandbox: Sandbox) -> int:
    return sum((request.method, request.path) == ("GET", LIST["path"]) for request in sandbox.requests)


def touch(sandbox: Sandbox, number: int, **fields: Any) -> None:
    sandbox.add("touches", {"id": number, "name": "Autumn", "delivery_type": "email", **fields})


# -- shapes ------------------------------------------------------------------------------------------------------------


def test_an_egift_needs_no_field_but_the_email(sendoso: Sandbox, campaign: Callable[..., Try]) -> None:
    assert campaign([{"email": "ada@example.com"}], message="For {email}") == Try("", {"sent": 1})
    assert bodies(sendoso) == [
        {
            "touch_id": EGIFT,
            "email": "ada@example.com",
            "custom_message": "For ada@example.com",
            "via": "single_email_address",
            "via_from": "Airflow",
        }
    ]


def test_a_parcel_goes_to_the_address_in_one_line(sendoso: Sandbox, campaign: Callable[..., Try]) -> None:
    assert campaign([ABROAD], touch_id=BOX, message="Hi {first_name}") == Try("", {"sent": 1})
    assert bodies(sendoso) == [
        {
            "touch_id": BOX,
            "name": "Ada Lovelace",
            "email": "ada@example.com",
            "custom_message": "Hi Ada",
            "mobile_no": "+44 20 7946 0000",
            "address": "12 St James Sq, Flat 2",
            "city": "London",
            "zip": "SW1Y 4JH",
            "country": "GB",
            "confirm_address": False,
            "via": "single_person_or_company",
            "via_from": "Airflow",
        }
    ]


def test_a_recipient_without_an_address_is_asked_for_it(sendoso: Sandbox, campaign: Callable[..., Try]) -> None:
    asking = {"address_confirmation": "link", "expire_after_days": "3", "address_confirmation_message": "Where to?"}
    grace = {"first_name": "Grace", "email": "grace@example.com"}
    assert campaign([ABROAD, grace], touch_id=BOX, **asking) == Try("", {"sent": 2})
    assert [body.get("no_address") for body in bodies(sendoso)] == [None, True]
    assert bodies(sendoso)[1] == {
        "touch_id": BOX,
        "name": "Grace",
        "email": "grace@example.com",
        "no_address": True,
        "confirm_address": True,
        "address_confirmation_via": "link",
        "resume_with_unconfirmed_address": False,
        "expire_after_days": 3,
        "hide_product_info": False,
        "address_confirmation_custom_message": "Where to?",
        "via": "single_person_or_company",
        "via_from": "Airflow",
    }


def test_rows_choose_between_gifts_and_campaigns(sendoso: Sandbox, send: Callable[..., Try]) -> None:
    rows = [
        ADA | {"gift_id": "gift-donation-trees"},
        ADA | {"email": "b@example.com", "touch_id": EGIFT},
        ADA | {"email": "c@example.com", "touch_id": EGIFT, "gift_id": "gift-mug"},
        ADA | {"email": "d@example.com"},
    ]
    assert send([row | {"message": "Hi"} for row in rows], gift_id=None, message=None) == Try(
        "", {"sent": 2, "invalid": 2}
    )
    assert [gift.body["email"] for gift in sendoso.sends] == ["ada@example.com"]
    assert [body["email"] for body in bodies(sendoso)] == ["b@example.com"]


def test_an_argument_beats_a_column(sendoso: Sandbox, campaign: Callable[..., Try], send: Callable[..., Try]) -> None:
    assert campaign([{"email": "a@example.com", "gift_id": "gift-mug", "touch_id": 999}]) == Try("", {"sent": 1})
    assert send([ADA | {"touch_id": 999}], dedupe_scope="other") == Try("", {"sent": 1})
    assert (len(sendoso.sends), [body["touch_id"] for body in bodies(sendoso)]) == (1, [EGIFT])


def test_the_hook_sends_a_campaign_without_a_ledger(sendoso: Sandbox, send: Any) -> None:
    sent = SendosoHook().send_gift(touch_id=EGIFT, recipient={"email": "ada@example.com"})
    [accepted] = sendoso.campaign_sends()
    assert sent.id == f"tracking:{accepted.tracking_code}"
    with pytest.raises(SendosoConfigError, match=r"there is no address.*Nothing was sent"):
        SendosoHook().send_gift(touch_id=BOX, recipient=ADA)
    assert len(sendoso.campaign_sends()) == 1


# -- found before anything is sent -------------------------------------------------------------------------------------

WRONG_ROWS = [
    (ADA, "there is no address, the gift goes by post, and address_confirmation is not set"),
    (ABROAD | {"mobile_no": " "}, "mobile_no is missing, without which Sendoso drops what goes outside the US"),
    (ABROAD | {"first_name": None, "last_name": ""}, "first_name and last_name are missing, and the gift goes by post"),
    (ABROAD | {"address": LONDON | {"city": None}}, "address_city is missing, and the gift goes by post"),
    (ABROAD | {"address": LONDON | {"country": "FR"}}, "address_country is FR, to which the campaign does not ship"),
]


@pytest.mark.parametrize(("row", "problem"), WRONG_ROWS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_row_that_cannot_be_sent_is_invalid(
    sendoso: Sandbox, campaign: Callable[..., Try], gift: Any, row: dict[str, Any], problem: str
) -> None:
    ended = campaign([row, ABROAD | {"email": "b@example.com"}], touch_id=BOX)
    assert ended == Try("", {"sent": 1, "invalid": 1})
    assert campaign([row], touch_id=BOX, dedupe_scope="alone").error == "SendosoRowsError"
    with pytest.raises(SendosoConfigError, match=problem):
        gift(touch_id=BOX, recipient=row)
    assert len(bodies(sendoso)) == 1


def test_a_parcel_within_the_us_needs_no_number(sendoso: Sandbox, campaign: Callable[..., Try]) -> None:
    address = {"line1": "1 Main St", "city": "Reno", "state": "NV", "postal_code": "89501", "country": "us"}
    assert campaign([ADA | {"address": address}], touch_id=BOX) == Try("", {"sent": 1})
    assert "mobile_no" not in bodies(sendoso)[0]


NOW = datetime.now(UTC)
CANNOT = [
    (404404, {}, "touch_id is no campaign that this account can send"),
    (7, {"end_date": (NOW - timedelta(days=1)).isoformat()}, "touch_id is a campaign that ended at"),
    (7, {"start_date": (NOW + timedelta(days=1)).isoformat()}, "touch_id is a campaign that begins at"),
    (7, {"delivery_type": "pigeon"}, "says of itself neither mail nor email"),
]


@pytest.mark.parametrize(("number", "fields", "problem"), CANNOT, ids=["unknown", "ended", "not begun", "no kind"])
def test_a_campaign_that_cannot_be_sent_is_refused_before_the_first_send(
    sendoso: Sandbox, campaign: Callable[..., Try], gift: Any, number: int, fields: dict[str, Any], problem: str
) -> None:
    if number == 7:
        touch(sendoso, 7, **fields)
    with pytest.raises(SendosoConfigError, match=rf"{problem}.*{number}.*Nothing was sent"):
        batch([ADA], gift_id=None, touch_id=number, message=None).execute({"ti": FakeTI("run-1")})
    with pytest.raises(SendosoConfigError, match=problem):
        gift(touch_id=number)
    assert bodies(sendoso) == []
    # A wrong campaign in a row refuses that row alone.
    rows = [ADA | {"touch_id": number}, ADA | {"email": "b@example.com", "touch_id": EGIFT}]
    assert campaign(rows, touch_id=None) == Try("", {"sent": 1, "invalid": 1})


def test_a_campaign_that_has_ended_since_fails_no_recipient_who_was_sent_it(
    sendoso: Sandbox, campaign: Callable[..., Try], gift: Any
) -> None:
    touch(sendoso, 7)
    first = gift(touch_id=7)
    assert campaign(touch_id=7) == Try("", {"sent": 5})
    touch(sendoso, 7, end_date=(NOW - timedelta(days=1)).isoformat())
    assert campaign(touch_id=7, run_id="run-2") == Try("", {"already_sent": 5})
    assert gift(touch_id=7) == first
    assert len(bodies(sendoso)) == 6


@pytest.mark.parametrize("how", ["ended", "by post now", "somewhere else only"])
def test_a_row_that_was_sent_is_not_invalid_because_its_campaign_has_changed_since(
    sendoso: Sandbox, campaign: Callable[..., Try], how: str
) -> None:
    changes: dict[str, dict[str, Any]] = {
        "ended": {"end_date": (NOW - timedelta(days=1)).isoformat()},
        "by post now": {"delivery_type": "mail"},
        "somewhere else only": {"delivery_type": "mail", "ship_to_countries": ["FR"]},
    }
    touch(sendoso, 7)
    london = {"address": LONDON, "mobile_no": "+44 20 7946 0000"} if how == "somewhere else only" else {}
    rows = [ADA | london | {"touch_id": 7}, ADA | {"email": "b@example.com", "touch_id": EGIFT}]
    assert campaign(rows, touch_id=None) == Try("", {"sent": 2})
    touch(sendoso, 7, **changes[how])
    assert campaign(rows, touch_id=None, max_invalid=0) == Try("", {"sent": 2})  # the same run, once more
    rows += [row | {"email": f"new-{row['email']}"} for row in rows]
    rows += [rows[0]]
    ended = campaign(rows, touch_id=None, run_id="run-2")
    assert ended == Try("", {"already_sent": 2, "sent": 1, "invalid": 1, "duplicate": 1})
    assert len(bodies(sendoso)) == 3


def test_a_send_posted_before_its_campaign_ended_is_looked_for(sendoso: Sandbox, campaign: Callable[..., Try]) -> None:
    touch(sendoso, 7)
    sendoso.fault("drop_after", **POST)
    rows = [ADA | {"touch_id": 7}]
    sendoso.fault("status", times=100, status=503, method="GET", path=POST["path"])
    first = campaign(rows, touch_id=None)
    assert (first.error, first.counts) == ("SendHeldError", {"held": 1})
    sendoso.clear_faults()
    touch(sendoso, 7, end_date=(NOW - timedelta(days=1)).isoformat())
    assert campaign(rows, touch_id=None) == Try("", {"sent": 1})
    assert len(bodies(sendoso)) == 1


def test_a_campaign_that_cannot_be_read_stops_the_batch(sendoso: Sandbox, campaign: Callable[..., Try]) -> None:
    sendoso.fault("error_before", times=100, method="GET", path="/api/v3/touches")
    with pytest.raises(KeyError):  # nothing was reached: there is no summary yet
        campaign()
    assert bodies(sendoso) == []
    sendoso.clear_faults()
    assert campaign() == Try("", {"sent": 5})


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"gift_id": "gift-mug"}, "gift_id: not with touch_id"),
        (
            {"metadata": {"a": 1}, "variant_id": "xl", "team_id": "1"},
            "variant_id, team_id, metadata: not with touch_id",
        ),
        ({"address_confirmation": "pigeon"}, "address_confirmation is 'pigeon'; use one of 'email', 'link'"),
        ({"expire_after_days": 8}, "expire_after_days is 8; use a number from 2 to 7"),
        ({"hide_product_info": "perhaps"}, "hide_product_info is 'perhaps', neither true nor false"),
        (
            {"touch_id": None, "gift_id": "gift-mug", "message": "Hi", "address_confirmation": "email"},
            "only with touch_id",
        ),
    ],
)
def test_wrong_arguments_are_refused(sendoso: Sandbox, gift: Any, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(SendosoConfigError, match=problem):
        gift(**changes)
    with pytest.raises(SendosoConfigError, match=problem):
        batch([ADA], **({"gift_id": None, "touch_id": EGIFT, "message": None} | changes)).execute({"ti": FakeTI("r")})
    assert (bodies(sendoso), sendoso.sends) == ([], [])


def test_the_cost_of_a_campaign_is_estimated_and_limited(sendoso: Sandbox, campaign: Callable[..., Try]) -> None:
    arguments: dict[str, Any] = {"gift_id": None, "touch_id": EGIFT, "message": None}
    summary = batch(3, dry_run=True, **arguments).execute({"ti": FakeTI("run-1")})
    assert (summary["would_send"], summary["estimated_cost"], summary["currency"]) == (3, 75.0, "USD")
    assert campaign(3, max_cost=74).error == "SendosoLimitError"
    assert bodies(sendoso) == []
    assert campaign(3, max_cost=75, approved_fingerprint=summary["fingerprint"]) == Try("", {"sent": 3})


# -- once, whatever happens --------------------------------------------------------------------------------------------


def test_the_id_is_the_tracking_code_until_it_is_bound(sendoso: Sandbox, gift: Any) -> None:
    first = gift()
    [accepted] = sendoso.campaign_sends()
    assert first == f"tracking:{accepted.tracking_code}"
    assert gift() == first
    [record] = records()
    assert SendosoHook().ledger.bindings.bind(record.send_key, str(accepted.id))
    assert gift() == str(accepted.id)
    assert len(sendoso.campaign_sends()) == 1


def test_another_campaign_or_gift_in_the_same_scope_is_an_error(sendoso: Sandbox, gift: Any) -> None:
    gift()
    with pytest.raises(SendosoConfigError, match=r"already sent the campaign 102 .*, not the campaign 104"):
        gift(touch_id=104)
    with pytest.raises(SendosoConfigError, match=r"already sent the campaign 102 .*, not the gift gift-donation-trees"):
        gift(touch_id=None, gift_id="gift-donation-trees", message="Hi")
    assert (len(sendoso.campaign_sends()), sendoso.sends) == (1, [])


def test_an_accepted_send_without_a_code_is_sent(sendoso: Sandbox, gift: Any, campaign: Callable[..., Try]) -> None:
    sendoso.fault("status", **POST, status=200, body={"success": True, "message": "On its way"})
    assert gift() is None
    assert gift() is None
    assert [(record.state, record.send_id) for record in records()] == [(State.SENT, None)]


@pytest.mark.parametrize("body", [{"success": False}, {"message": "?"}, {"send": {"id": 5}}, []], ids=repr)
def test_an_answer_that_does_not_say_accepted_is_unknown(sendoso: Sandbox, gift: Any, body: Any) -> None:
    sendoso.fault("status", **POST, status=200, body=body)
    sendoso.fault("status", times=100, **LIST, status=404, body={"success": False, "message": "Not found"})
    with pytest.raises(SendOutcomeUnknownError):
        gift()
    assert [record.state for record in records()] == [State.HELD]


def test_a_lost_answer_is_found_again_among_many(sendoso: Sandbox, campaign: Callable[..., Try]) -> None:
    sendoso.preload(250, touch_ids=(EGIFT, BOX), email="old{}@example.com", spacing=1.0)
    sendoso.fault("drop_after", **POST)
    assert campaign() == Try("", {"sent": 5})
    bound = [record for record in records() if record.bound_id is not None]
    [found] = [sent for sent in sendoso.campaign_sends() if str(sent.id) == bound[0].bound_id]
    assert (len(bound), bound[0].send_id, found.body["email"]) == (1, str(found.id), "ada0@example.com")
    assert campaign(run_id="run-2") == Try("", {"already_sent": 5})


def test_a_request_that_never_arrived_is_held_and_sent_again_only_on_proof(
    sendoso: Sandbox, campaign: Callable[..., Try], an_hour_later: Callable[[], None]
) -> None:
    sendoso.fault("drop_before", **POST)
    assert campaign() == Try("SendHeldError", {"sent": 4, "held": 1})
    assert campaign() == Try("SendHeldError", {"sent": 4, "held": 1})
    an_hour_later()
    assert campaign(**RESEND) == Try("", {"sent": 5})
    assert len(bodies(sendoso)) == 5


def test_a_list_without_any_send_of_the_account_proves_no_absence(
    sendoso: Sandbox, campaign: Callable[..., Try], an_hour_later: Callable[[], None]
) -> None:
    sendoso.fault("drop_before", **POST)
    assert campaign(1) == Try("SendHeldError", {"held": 1})
    an_hour_later()
    sendoso.preload(10)
    with pytest.raises(TaskDeferred):
        campaign(1, **RESEND)
    assert campaign(1, method="execute_after_settling", **RESEND) == Try("SendHeldError", {"held": 1})
    assert bodies(sendoso) == []


def test_a_list_of_campaign_sends_that_is_not_complete_proves_no_absence(
    sendoso: Sandbox, campaign: Callable[..., Try], an_hour_later: Callable[[], None]
) -> None:
    """It shows other sends of this account, and says that there are more."""
    sendoso.fault("drop_before", **POST)
    assert campaign() == Try("SendHeldError", {"sent": 4, "held": 1})
    an_hour_later()
    shown = SendosoHook().session.read(list_campaign_sends_request()).json["sends"]
    for _ in range(5):
        for page in (shown, []):
            body = {"sends": page, "total_count": len(shown) + 1}
            sendoso.fault("status", **LIST, status=200, body=body)
    held = campaign(method="execute_after_settling", **RESEND)
    assert held == Try("SendHeldError", {"sent": 4, "held": 1})
    assert len(bodies(sendoso)) == 4


@pytest.mark.sends_two
def test_two_sends_to_one_person_are_told_apart_by_their_order(
    sendoso: Sandbox, gift: Any, campaign: Callable[..., Try]
) -> None:
    """One send is known to have gone out; the answer to the other, in another scope, is lost."""
    first = gift(dedupe_scope="one")
    sendoso.fault("drop_after", **POST)
    assert gift(dedupe_scope="two") == str(sendoso.campaign_sends()[1].id)
    by_scope = {record.dedupe_scope: record for record in records()}
    assert by_scope["one"].send_id == first
    assert by_scope["one"].bound_id == str(sendoso.campaign_sends()[0].id)


@pytest.mark.sends_two
def test_with_more_rows_than_sends_none_is_guessed(sendoso: Sandbox, gift: Any) -> None:
    """A person sends the same campaign to the same recipient by hand within the hour."""
    SendosoHook().send_gift(touch_id=EGIFT, recipient=ADA)
    sendoso.fault("drop_after", **POST)
    with pytest.raises(SendOutcomeUnknownError):
        gift()
    assert [(record.state, record.bound_id) for record in records()] == [(State.HELD, None)]


@pytest.mark.sends_two
def test_a_send_that_may_be_one_of_several_rows_is_not_sent_again(
    sendoso: Sandbox, campaign: Callable[..., Try], an_hour_later: Callable[[], None]
) -> None:
    SendosoHook().send_gift(touch_id=EGIFT, recipient=people(1)[0])  # by hand, to the first of five
    sendoso.fault("drop_after", **POST)
    held = Try("SendHeldError", {"sent": 4, "held": 1})
    assert campaign() == held
    an_hour_later()
    assert campaign(method="execute_after_settling", **RESEND) == held
    assert len(bodies(sendoso)) == 6


def test_a_send_that_did_not_go_out_does_not_take_the_row_of_another(sendoso: Sandbox, gift: Any) -> None:
    gift(dedupe_scope="one")
    sendoso.fault("drop_before", **POST)
    with pytest.raises(SendOutcomeUnknownError):
        gift(dedupe_scope="two")
    assert {record.dedupe_scope: record.state for record in records()} == {"one": State.SENT, "two": State.HELD}


def test_a_send_that_did_not_go_out_does_not_take_a_row_that_appears_while_the_list_is_read(
    sendoso: Sandbox, gift: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another task sends the same campaign to the same person, in another scope, just after the search has begun."""
    walk = TrackerScanner._walked
    other = SendGiftOperator(task_id="thank", touch_id=EGIFT, recipient=ADA, dedupe_scope="one")
    others = iter([lambda: other.execute({"ti": FakeTI("run-2")})])

    def walked(self: TrackerScanner, *arguments: Any, **more: Any) -> Any:
        next(others, lambda: None)()
        return walk(self, *arguments, **more)

    monkeypatch.setattr(TrackerScanner, "_walked", walked)
    sendoso.fault("drop_before", **POST)
    with pytest.raises(SendOutcomeUnknownError):
        gift(dedupe_scope="two")
    assert {record.dedupe_scope: record.state for record in records()} == {"one": State.SENT, "two": State.HELD}
    assert len(bodies(sendoso)) == 1


def test_two_unknown_sends_in_two_scopes_do_not_take_each_others_row(sendoso: Sandbox, gift: Any) -> None:
    lists_are_away = {"times": 100, **LIST}
    for scope, fault in (("one", "drop_before"), ("two", "drop_after")):
        sendoso.fault(fault, **POST)
        sendoso.fault("error_before", **lists_are_away)
        with pytest.raises(SendOutcomeUnknownError):
            gift(dedupe_scope=scope)
        sendoso.clear_faults()
    for scope in ("one", "two"):
        with pytest.raises(SendHeldError):
            gift(dedupe_scope=scope)
    assert {record.state for record in records()} == {State.HELD}


@pytest.mark.sends_two
def test_a_campaign_send_that_came_back_is_replaced_once(
    sendoso: Sandbox, gift: Any, campaign: Callable[..., Try]
) -> None:
    first = gift()
    with pytest.raises(SendosoConfigError, match=r"which is (pending|processing|shipped|delivered)"):
        gift(resend_of=first, dedupe_scope="again")
    [accepted] = sendoso.campaign_sends()
    sendoso.finish(accepted.id, "Undeliverable")
    second = gift(resend_of=first, dedupe_scope="again")
    assert second not in (first, None)
    # There is one replacement, whichever of the send's two ids a row gives.
    assert gift(resend_of=str(accepted.id), dedupe_scope="again") == second
    rows = [ADA | {"touch_id": EGIFT, "resend_of": name} for name in (first, str(accepted.id))]
    assert campaign(rows, touch_id=None, run_id="run-2") == Try("", {"already_sent": 1, "duplicate": 1})
    assert len(sendoso.campaign_sends()) == 2


@pytest.mark.sends_two
def test_many_returned_sends_are_looked_for_in_one_walk(sendoso: Sandbox, campaign: Callable[..., Try]) -> None:
    assert campaign(4) == Try("", {"sent": 4})
    for accepted in sendoso.campaign_sends()[:3]:
        sendoso.finish(accepted.id, "Undeliverable")
    before = lists(sendoso)
    rows = [
        row | {"touch_id": EGIFT, "resend_of": f"tracking:{accepted.tracking_code}"}
        for row, accepted in zip(people(4), sendoso.campaign_sends(), strict=True)
    ]
    replaced = campaign(rows, touch_id=None, dedupe_scope="again", run_id="run-2")
    assert replaced == Try("", {"sent": 3, "invalid": 1})
    assert lists(sendoso) - before == 1


def test_a_send_whose_status_is_not_known_is_not_replaced(sendoso: Sandbox, gift: Any) -> None:
    first = gift()
    sendoso.fault("status", times=10, status=404, **LIST)
    with pytest.raises(SendosoConfigError, match=r"whose status Sendoso does not say: only failed and returned ones"):
        gift(resend_of=first, dedupe_scope="again")


def test_the_results_table_has_campaign_and_tracking_code(
    sendoso: Sandbox, send: Any, set_connection: Any, tmp_path: Any
) -> None:

    set_connection("warehouse", {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")})
    arguments: dict[str, Any] = {"gift_id": None, "touch_id": EGIFT, "message": None}
    batch(1, results_table="results", conn_id="warehouse", **arguments).execute({"ti": FakeTI("run-1")})
    [accepted] = sendoso.campaign_sends()
    with sqlite3.connect(tmp_path / "warehouse.db") as warehouse:
        query = "SELECT outcome, gift_id, touch_id, tracking_code, send_id, estimated_cost FROM results"
        rows = warehouse.execute(query).fetchall()
    code = accepted.tracking_code
    assert rows == [("sent", None, str(EGIFT), code, f"tracking:{code}", 25)]


def test_a_walk_ends_at_the_time_of_the_oldest_unknown_send(sendoso: Sandbox, campaign: Callable[..., Try]) -> None:
    sendoso.preload(5_000, spacing=60.0)
    sendoso.fault("drop_after", **POST)
    began = time.monotonic()
    assert campaign(2) == Try("", {"sent": 2})
    # 60 rows an hour: those of the last two hours are on two pages.
    assert lists(sendoso) <= 4, time.monotonic() - began
