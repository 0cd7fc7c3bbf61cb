"""What the pages say, what they do with bad input, and what a decision on them is."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from pages_airflow import DAG
from sqlalchemy import update

from airflow_provider_sendoso.exceptions import SendosoLedgerError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger import Ledger, decisions
from airflow_provider_sendoso.ledger.overview import account as figures
from airflow_provider_sendoso.ledger.records import State
from airflow_provider_sendoso.ledger.schema import sends
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator, SendGiftOperator

SCRIPT = "<script>alert('q4')</script>"


def ledger_of(conn_id: str = "sendoso_default") -> Ledger:
    return SendosoHook(conn_id).ledger


def decide(who: Any, *keys: str, state: str = "UNKNOWN", attempt: int = 1, **other: Any) -> Any:
    decision = {"conn": "sendoso_default", "resolution": "sent", "why": "found it", **other}
    return who.post("/held", sends=[{"key": key, "state": state, "attempt": attempt} for key in keys], **decision)


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


# -- what is there -----------------------------------------------------------------------------------------------------


def test_a_campaign_is_told(login: Callable[..., Any], sendoso: Any, ledger: Any) -> None:
    people = [{"first_name": "Ada", "last_name": "L", "email": f"ada{n}@example.com"} for n in range(3)]
    batch = BatchSendOperator(
        task_id="gifts",
        recipients=[*people, people[0], {"first_name": "no address"}],
        gift_id="gift-egift-coffee",
        message="Thank you",
        dedupe_scope="q4",
        scope_max_sends=4,
        scope_max_cost=40,
    )
    batch.execute({"ti": _ti()})
    who = login("viewer")
    row = text_of(who.get("/campaigns").text)
    assert "q4 Done 3 sent" in row
    assert "3 of 4" in row
    assert "30.00 USD of 40.00 USD" in row
    page = who.get("/campaign?scope=q4").text
    assert "3 sent of 3 rows" in text_of(page)
    assert f'href="/dags/{DAG}/runs/run-1/tasks/gifts"' in page
    assert "A recipient is known by email" in text_of(page)
    assert 'aria-label="scope_max_cost: 30.00 USD of 40.00 USD used"' in page
    chart = who.get("/campaign/chart?scope=q4").text
    assert "<path d=" in chart
    assert "3 sends, from" in chart


def test_an_account_is_told_to_who_may_see_it(login: Callable[..., Any], sendoso: Any, ledger: Any) -> None:
    SendGiftOperator(
        task_id="thank",
        gift_id="gift-egift-coffee",
        message="Thank you",
        recipient={"first_name": "Ada", "last_name": "L", "email": "ada@example.com"},
        dedupe_scope="thanks",
    ).execute({"ti": _ti("thank")})
    page = login("op").get("/account").text
    said = text_of(page)
    assert re.search(r"good for \d+ (minutes|hours), then renewed", said)
    assert "500 requests a second" in said
    assert "1 sends in the last minute" in said
    assert ledger_of().identity.ledger_uuid in said
    assert "tables of version" in said
    assert "This connection limits neither sends nor cost" in said
    secret = SendosoHook().config.client_secret.get_secret_value()
    assert f">{secret}<" not in page
    assert SendosoHook().session.token() not in page


def test_a_run_leads_to_its_campaign(login: Callable[..., Any], make_open: Callable[..., Any]) -> None:
    make_open("ada@example.com", scope=SCRIPT)
    who = login("viewer")
    only = who.get(f"/run?dag_id={DAG}&run_id=run-1&task_id=gifts&map_index={{MAP_INDEX}}")
    assert only.status_code == 303
    assert only.headers["location"].startswith("/sendoso/campaign?conn=sendoso_default&scope=%3Cscript")
    make_open("bob@example.com", scope="q4", batch_id="batch-2")
    both = who.get(f"/run?dag_id={DAG}&run_id=run-1")
    assert (both.status_code, both.text.count("<tr>")) == (200, 3)
    none = who.get(f"/run?dag_id={DAG}&run_id=run-1&task_id=gifts&map_index=7")
    assert "Nothing yet" in none.text


def test_where_airflow_has_a_path_every_address_has_it(
    login: Callable[..., Any], make_open: Callable[..., Any]
) -> None:
    """As with a path in ``[api] base_url``."""
    make_open("ada@example.com")
    who = login("admin", path="/airflow")
    for address in ("/campaigns", "/campaign?scope=q4", "/held", "/nowhere"):
        answer = who.get(address)
        assert answer.status_code == (404 if address == "/nowhere" else 200)
        page = answer.text
        found = re.findall(r'(?:href|src|data-posts|data-loads)="(/[^"]*)"', page)
        assert found
        assert [one for one in found if not one.startswith(("/airflow/sendoso/", "/airflow/dags/"))] == []
    assert who.get("/").headers["location"] == "/airflow/sendoso/campaigns"


# -- a person ----------------------------------------------------------------------------------------------------------


def test_a_person_is_found_by_hash_and_named_nowhere(
    login: Callable[..., Any],
    sendoso: Any,
    ledger: Any,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    recipient = {"first_name": "Ada", "last_name": "L", "email": "ada@example.com"}
    SendGiftOperator(
        task_id="thank", gift_id="gift-egift-coffee", message="Hi", recipient=recipient, dedupe_scope="thanks"
    ).execute({"ti": _ti("thank")})
    who = login("viewer")
    found = who.post("/person", conn="sendoso_default", email=" ADA@Example.com ")
    assert "1 found." in found.text
    assert "thanks" in found.text
    assert "ada@" not in found.text.lower()
    assert "Nothing:" in who.post("/person", conn="sendoso_default", email="bob@example.com").text
    for wrong in ("", "  ", "\x00", 7, None, ["ada@example.com"], "ada@example.com" * 30):
        answer = who.post("/person", conn="sendoso_default", email=wrong)
        assert answer.status_code == 422
        assert "ada@" not in answer.text
    assert who.get("/person?email=ada@example.com").status_code == 200  # a form without script would not be looked at
    logged = (caplog.text + "".join(capfd.readouterr())).lower()
    assert "ada@example.com" not in logged.replace("get /sendoso/person?email=ada@example.com", "").replace(
        "sendoso/person?email=ada@example.com", ""
    )


def test_a_gift_that_an_older_release_has_sent_without_a_hash_is_found(
    login: Callable[..., Any], make_open: Callable[..., Any]
) -> None:
    make_open("ada@example.com", scope="old")
    book = ledger_of()
    book._database.run(lambda connection: connection.execute(update(sends).values(email_hash=None)))
    assert "1 found." in login("viewer").post("/person", conn="sendoso_default", email="ada@example.com").text


# -- decisions


def test_many_are_decided_at_once_as_on_the_command_line(
    login: Callable[..., Any], make_open: Callable[..., Any]
) -> None:
    keys = make_open("ada@example.com", "bob@example.com", "cy@example.com")
    answer = decide(login("user"), *keys[:2], resolution="not_sent", why=" not in the list ")
    assert "2 recorded as not sent." in answer.text
    assert set(re.search('data-decided="([^"]*)"', answer.text)[1].split()) == set(keys[:2])  # type: ignore[index]
    book = ledger_of()
    for key in keys[:2]:
        (recorded,) = book.resolutions.history(key)
        assert (recorded.from_state, recorded.to_state) == (State.UNKNOWN, State.READY)
        assert (recorded.resolved_by, recorded.why) == ("Ada", "not in the list")
    assert book.sends.read([keys[2]])[keys[2]].state is State.UNKNOWN


def test_a_send_id_is_checked_at_sendoso(login: Callable[..., Any], make_open: Callable[..., Any]) -> None:
    key, other = make_open("ada@example.com", "bob@example.com")
    who = login("user")
    wrong = decide(who, key, send_id="no-such-id")
    assert (wrong.status_code, "does not know the send id" in wrong.json()["detail"]) == (409, True)
    several = decide(who, key, other, send_id="id-1")
    assert (several.status_code, "A send id is one gift's" in several.json()["detail"]) == (409, True)
    assert not any(ledger_of().resolutions.history(send) for send in (key, other))


@pytest.mark.parametrize(
    "wrong",
    [
        {"why": " "},
        {"why": "x" * 501},
        {"resolution": "perhaps"},
        {"resolution": "not_sent", "send_id": "id-1"},
        {"send_id": "x" * 191},
        {"sends": []},
        {"sends": [{"key": "abc", "state": "UNKNOWN", "attempt": 1}]},
        {"sends": [{"key": "0" * 64, "state": "UNKNOWN", "attempt": 1}]},
        {"sends": [{"key": "0" * 64}]},
        {"by": "somebody else"},
        {"conn": "nowhere"},
    ],
)
def test_a_decision_that_is_wrong_changes_nothing(
    login: Callable[..., Any], make_open: Callable[..., Any], wrong: dict[str, Any]
) -> None:
    (key,) = make_open("ada@example.com")
    right = {
        "conn": "sendoso_default",
        "resolution": "sent",
        "why": "found",
        "sends": [{"key": key, "state": "UNKNOWN", "attempt": 1}],
    }
    answer = login("user").post("/held", **right | wrong)
    assert answer.status_code in (404, 409, 422)
    assert answer.json()["detail"]
    assert ledger_of().sends.read([key])[key].state is State.UNKNOWN
    assert ledger_of().resolutions.history(key) == []


def test_a_stale_tab_that_decides_again_changes_nothing(
    login: Callable[..., Any], make_open: Callable[..., Any]
) -> None:
    """Without the page's own view of the send, "it went out" would take back "it did not", as a correction does."""
    (key,) = make_open("ada@example.com")
    who = login("user")
    decide(who, key, resolution="not_sent")
    again = decide(who, key, resolution="sent")
    assert "0 recorded" in again.text
    assert "1 had changed since this page was loaded" in text_of(again.text)
    assert "decided by Ada" in again.text
    record = ledger_of().sends.read([key])[key]
    assert record.state is State.READY
    assert len(ledger_of().resolutions.history(key)) == 1


def test_what_a_run_has_found_meanwhile_is_said(login: Callable[..., Any], make_open: Callable[..., Any]) -> None:
    key, other = make_open("ada@example.com", "bob@example.com")
    book = ledger_of()
    book.resolutions.resolve(
        book.sends.read([key])[key], State.SENT, resolved_by="reconcile", why="found by its mark", send_id="id-9"
    )
    answer = text_of(decide(login("user"), key, other, resolution="not_sent").text)
    assert "1 recorded as not sent." in answer
    assert f"{key[:12]} is sent as id-9 : found at Sendoso by a run" in answer
    assert book.sends.read([key])[key].state is State.SENT


def test_a_run_that_is_quicker_than_the_decision_wins(
    login: Callable[..., Any], make_open: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (key,) = make_open("ada@example.com")
    resolve = decisions.resolve

    def late(ledger: Ledger, records: Any, decision: Any) -> Any:
        ledger.resolutions.resolve(records[0], State.SENT, resolved_by="reconcile", why="found", send_id="id-9")
        return resolve(ledger, records, decision)

    monkeypatch.setattr(decisions, "resolve", late)
    answer = text_of(decide(login("user"), key, resolution="not_sent").text)
    assert "0 recorded as not sent" in answer
    assert "found at Sendoso by a run" in answer


def test_what_may_still_be_posted_cannot_be_sent_again(
    login: Callable[..., Any], make_open: Callable[..., Any]
) -> None:
    (key,) = make_open("ada@example.com", lapsed=False)
    answer = text_of(decide(login("user"), key, resolution="not_sent").text)
    assert "a process may still be posting it" in answer
    assert "0 recorded" in answer
    assert ledger_of().sends.read([key])[key].state is State.UNKNOWN


def test_a_send_whose_process_has_died_is_shown_and_decided(
    login: Callable[..., Any], make_open: Callable[..., Any]
) -> None:
    (key,) = make_open("ada@example.com")
    posting = update(sends).values(state=State.POSTING, reason=None)
    ledger_of()._database.run(lambda connection: connection.execute(posting))
    who = login("user")
    assert 'data-state="POSTING"' in who.get("/held").text
    assert "1 recorded as not sent" in decide(who, key, state="POSTING", resolution="not_sent").text


def test_what_was_said_not_to_have_gone_out_is_taken_back(
    login: Callable[..., Any], make_open: Callable[..., Any]
) -> None:
    key, other = make_open("ada@example.com", "bob@example.com")
    who = login("user")
    assert "Said not to have gone out" not in who.get("/held").text
    answer = decide(who, key, resolution="not_sent", why="not in the list")
    assert '<a href="/sendoso/held?conn=sendoso_default">' in answer.text
    page = who.get("/held").text
    assert "Said not to have gone out" in page
    assert re.search(f'value="{key}" data-state="READY" data-attempt="1"', page)
    assert "by Ada: not in the list" in text_of(page)
    assert "Said not to have gone out" in who.get("/held?scope=q4").text
    assert "Said not to have gone out" not in who.get("/held?scope=q5").text
    assert "Said not to have gone out" not in who.get(f"/held?after={'0' * 64}").text
    assert "1 recorded as sent" in decide(who, key, state="READY", why="there after all").text
    book = ledger_of()
    assert book.sends.read([key])[key].state is State.SENT
    assert [(one.from_state, one.to_state, one.why) for one in book.resolutions.history(key)] == [
        (State.UNKNOWN, State.READY, "not in the list"),
        (State.READY, State.SENT, "there after all"),
    ]
    assert "Said not to have gone out" not in who.get("/held").text
    # Once more is too late, as is to say again that it did not go out.
    for state, resolution in (("READY", "sent"), ("SENT", "not_sent")):
        assert "0 recorded" in decide(who, key, state=state, resolution=resolution).text
    assert len(book.resolutions.history(key)) == 2
    assert book.sends.read([other])[other].state is State.UNKNOWN


def test_an_undone_decision_has_its_send_id_checked_too(
    login: Callable[..., Any], make_open: Callable[..., Any]
) -> None:
    (key,) = make_open("ada@example.com")
    who = login("user")
    decide(who, key, resolution="not_sent")
    wrong = decide(who, key, state="READY", send_id="no-such-id")
    assert (wrong.status_code, "does not know the send id" in wrong.json()["detail"]) == (409, True)
    assert ledger_of().sends.read([key])[key].state is State.READY


def test_what_a_run_has_claimed_is_not_taken_back(login: Callable[..., Any], make_open: Callable[..., Any]) -> None:
    (key,) = make_open("ada@example.com")
    who = login("user")
    decide(who, key, resolution="not_sent")
    book = ledger_of()
    claimed = update(sends).values(state=State.CLAIMED, attempt=2, owner="run")
    book._database.run(lambda connection: connection.execute(claimed))
    assert "Said not to have gone out" not in who.get("/held").text
    answer = text_of(decide(who, key, state="READY").text)
    assert "0 recorded as sent" in answer
    assert f"{key[:12]} is about to be sent: decided by Ada" in answer
    # Given back without a POST it is free, and nobody has decided about this attempt.
    freed = update(sends).values(state=State.READY)
    book._database.run(lambda connection: connection.execute(freed))
    assert "Said not to have gone out" not in who.get("/held").text
    assert "0 recorded" in decide(who, key, state="READY", attempt=2).text
    assert book.sends.read([key])[key].state is State.READY


def test_what_is_on_hold_is_told_in_the_list(login: Callable[..., Any], make_open: Callable[..., Any]) -> None:
    make_open("ada@example.com", "bob@example.com")
    held = update(sends).values(state=State.SENT, status="pending", status_words="Pending Approval")
    ledger_of()._database.run(lambda connection: connection.execute(held))
    who = login("viewer")
    assert "2 on hold" in text_of(who.get("/campaigns").text)
    page = text_of(who.get("/campaign?scope=q4").text)
    assert "On hold at Sendoso until somebody there decides: 2 Pending Approval." in page


def test_a_limit_that_nothing_has_counted_is_told(
    login: Callable[..., Any],
    make_open: Callable[..., Any],
    sendoso: Any,
    set_connection: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_open("ada@example.com", "bob@example.com")
    limited = {"conn_type": "sendoso", "host": sendoso.url, "login": "sandbox", "password": "sandbox"}
    set_connection("sendoso_default", limited | {"extra": {"max_sends_per_day": 9}})
    who = login("op")
    assert 'aria-label="max_sends_per_day: 2 of 9 used"' in who.get("/account").text
    monkeypatch.setattr(figures, "ADDED_UP", 1)
    page = text_of(who.get("/account").text)
    assert "max_sends_per_day" in page
    assert "Not counted yet" in page


# -- bad input


def test_a_scope_that_is_html_is_text(login: Callable[..., Any], make_open: Callable[..., Any]) -> None:
    (key,) = make_open("ada@example.com", scope=SCRIPT, reason="<img src=x>")
    who = login("user")
    for address in ("/campaigns", "/held", "/campaigns?q=%3Cscript", f"/held?scope={SCRIPT}"):
        page = who.get(address).text
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "&lt;script&gt;" in page
    assert who.get("/campaign", params={"scope": SCRIPT}).status_code == 200
    assert "<script>alert" not in who.post("/person", conn="sendoso_default", email="ada@example.com").text
    wrong = who.get("/campaign", params={"scope": SCRIPT + "x"})
    assert (wrong.status_code, "<script>alert" in wrong.text) == (404, False)
    why = "<b>x</b>"
    decide(who, key, resolution="not_sent", why=why)
    assert why not in decide(who, key, resolution="not_sent", why=why).text


@pytest.mark.parametrize(
    "query",
    [
        "sort=worst",
        "state=lost",
        "after=x",
        "after=1e999",
        "q=" + "x" * 501,
        "conn=nowhere",
        "conn=../../etc",
    ],
)
def test_an_address_that_is_wrong_is_an_error_page(
    login: Callable[..., Any], make_open: Callable[..., Any], query: str
) -> None:
    make_open("ada@example.com")
    answer = login("viewer").get(f"/campaigns?{query}")
    assert answer.status_code in (200, 404, 422)
    assert (answer.status_code == 200) == (query == "after=1e999")


@pytest.mark.parametrize("named", ["%", "_", "\\", "' OR 1=1 --", "%' OR '1'='1"])
def test_a_name_is_looked_for_as_it_is(login: Callable[..., Any], make_open: Callable[..., Any], named: str) -> None:
    make_open("ada@example.com", scope="q4")
    make_open("bob@example.com", scope=f"a{named}b", batch_id="batch-2")
    page = login("viewer").get("/campaigns", params={"q": named}).text
    assert page.count("<tr>") == 2  # its own, and that of the names


@pytest.mark.parametrize("name", ["../app.py", "..%2fapp.py", "nothing.css", "%00", ".", "ui.css/"])
def test_only_what_is_static_is_given(login: Callable[..., Any], sendoso: Any, ledger: Any, name: str) -> None:
    assert login("viewer").get(f"/static/{name}").status_code in (307, 404)
    assert login("viewer").get("/static/ui.js").headers["content-type"].startswith("text/javascript")


def test_without_a_ledger_a_page_says_what_to_set(login: Callable[..., Any], sendoso: Any) -> None:
    for role in ("op", "viewer"):
        answer = login(role).get("/campaigns")
        assert answer.status_code == 503
        assert "AIRFLOW_CONN_SENDOSO_LEDGER=" in answer.text


def test_without_a_connection_a_page_says_what_to_make(login: Callable[..., Any]) -> None:
    answer = login("op").get("/campaigns")
    assert answer.status_code == 404
    assert "Make a connection of that type" in answer.text


def test_a_connection_that_cannot_be_read_hides_no_other(
    login: Callable[..., Any], make_open: Callable[..., Any], set_connection: Callable[..., None]
) -> None:
    make_open("ada@example.com")
    set_connection(
        "broken",
        {"conn_type": "sendoso", "host": "x", "login": "i", "password": "s"}
        | {"extra": {"requests_per_second": "many"}},
    )
    set_connection("warehouse", {"conn_type": "postgres", "host": "x"})
    who = login("op")
    assert who.get("/campaigns").status_code == 200
    assert "requests_per_second" in who.get("/campaigns?conn=broken").text
    assert "requests_per_second" not in login("viewer").get("/campaigns?conn=broken").text
    assert who.get("/campaigns?conn=warehouse").status_code == 404


def test_a_ledger_that_dies_while_the_page_is_open(
    login: Callable[..., Any], make_open: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (key,) = make_open("ada@example.com")
    who = login("user")
    assert who.get("/campaigns").status_code == 200
    from airflow_provider_sendoso.ledger.database import Database

    def gone(*_: Any, **__: Any) -> Any:
        raise SendosoLedgerError("The ledger (sqlite) could not be read or written: gone")

    with monkeypatch.context() as patched:
        patched.setattr(Database, "run", gone)
        for address in ("/campaigns", "/campaign?scope=q4", "/held", "/person", "/account"):
            answer = who.get(address)
            assert answer.status_code in (403, 503), address
        assert "could not be read" in who.get("/campaigns").text
        answer = decide(who, key)
        assert (answer.status_code, "could not be read" in answer.json()["detail"]) == (503, True)
    assert who.get("/campaigns").status_code == 200
    assert ledger_of().resolutions.history(key) == []


def test_pages_of_campaigns_follow_each_other(login: Callable[..., Any], make_open: Callable[..., Any]) -> None:
    names = {f"campaign {number:02}" for number in range(60)}
    for number, name in enumerate(sorted(names)):
        make_open("ada@example.com", scope=name, batch_id=f"batch-{number}")
    who = login("viewer")
    for sort in ("newest", "oldest", "active", "name"):
        seen: list[str] = []
        address: str | None = f"/campaigns?sort={sort}&state=held"
        while address is not None:
            page = who.get(address).text
            seen += re.findall(r'scope=campaign[^"]*">([^<]*)</a></th>', page)
            following = re.search(r'rel="next" href="/sendoso([^"]*)"', page)
            address = following[1].replace("&amp;", "&") if following else None
        assert len(seen) == len(names), sort
        assert set(seen) == names
        if sort == "name":
            assert seen == sorted(names)
    held = re.findall('data-key="([0-9a-f]*)"', who.get("/held").text)
    assert len(held) == 50
    rest = re.findall('data-key="([0-9a-f]*)"', who.get(f"/held?after={held[-1]}").text)
    assert len({*held, *rest}) == 60


def _ti(task_id: str = "gifts") -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(
        dag_id=DAG, task_id=task_id, run_id="run-1", map_index=-1, xcom_push=lambda *key, **value: None
    )
