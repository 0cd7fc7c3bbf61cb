"""eGift links: each is made once and is written to the table, whatever happens in between."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine
from tenacity import wait_none
from trying import SCOPE, FakeTI, Try, batch, die, people, sendoso_connection

from airflow_provider_sendoso.exceptions import (
    SendHeldError,
    SendosoConfigError,
    SendosoConnectionError,
    SendosoLedgerError,
    SendosoNotFoundError,
    SendosoResultsError,
    SendOutcomeUnknownError,
)
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import Record, State
from airflow_provider_sendoso.ledger.sends import SendLedger
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.warehouse import tables

PATH = "/api/v3/send/generate_egift_links"
POST = {"method": "POST", "path": PATH}
BOX, EGIFT, LUNCH = 101, 102, 104
ALL = {"sent": 5}
Read = Callable[..., list[tuple[Any, ...]]]
Links = Callable[..., Try]


@pytest.fixture
def warehouse(
    ledger_connection: dict[str, Any],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    set_connection: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Engine]:
    """A warehouse of the same kind as the ledger, behind ``warehouse``."""
    monkeypatch.setattr(tables, "_wait", wait_none())
    if ledger_connection["conn_type"] == "sqlite":
        connection = {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")}
        engine = create_engine(f"sqlite:///{tmp_path}/warehouse.db")
    else:
        database = request.getfixturevalue("postgres_database")()
        connection, engine = database.connection, create_engine(database.url)
    set_connection("warehouse", connection)
    engine.warehouse = connection  # type: ignore[attr-defined]
    yield engine
    engine.dispose()


@pytest.fixture
def links(send: Callable[..., Try], warehouse: Engine) -> Links:
    """Runs one try of a batch of links for five people, unless told otherwise."""
    return lambda recipients=5, **changes: send(recipients, **(arguments() | changes))


@pytest.fixture
def read(warehouse: Engine) -> Read:
    """Reads columns of the links table, in the order of the rows."""

    def run(columns: str = "email, egift_link", where: str = "1 = 1") -> list[tuple[Any, ...]]:
        query = f"SELECT {columns} FROM links WHERE {where} ORDER BY batch_id, row_number"
        with warehouse.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    return run


def arguments() -> dict[str, Any]:
    return {"touch_id": EGIFT, "links_table": "links", "conn_id": "warehouse"}


def made(sandbox: Sandbox) -> list[tuple[str, str]]:
    """The recipients and links that Sendoso has made, in the order of the e-mails."""
    sends = sandbox.campaign_sends()
    return sorted((sent.body["email"], f"{sandbox.url}/?send={sent.tracking_code}") for sent in sends)


def records() -> list[Record]:
    return list(SendosoHook().ledger.sends.records(*State))


def end_the_campaign(sandbox: Sandbox) -> None:
    fields = {"name": "Coffee", "delivery_type": "email", "end_date": "2025-02-01T00:00:00Z"}
    sandbox.add("touches", {"id": EGIFT, **fields})


# -- what lands --------------------------------------------------------------------------------------------------------


def test_each_recipient_gets_one_link_and_every_run_reads_it(sendoso: Sandbox, links: Links, read: Read) -> None:
    assert links() == Try("", ALL)
    assert read() == made(sendoso)
    assert len(made(sendoso)) == 5
    assert links() == Try("", ALL)
    assert read() == made(sendoso)
    assert links(run_id="run-2") == Try("", {"already_sent": 5})
    assert read() == made(sendoso) * 2
    assert len(made(sendoso)) == 5


def test_a_row_of_the_links_table_has_number_reference_email_and_scope(
    sendoso: Sandbox, links: Links, read: Read
) -> None:
    rows = [{"email": "Ada@Example.com", "no": "C-1"}, {"email": "ada@example.com"}, {"email": "grace@example.com"}]
    assert links(rows, row_ref="no") == Try("", {"sent": 2, "duplicate": 1})
    assert read("row_number, row_ref, email, dedupe_scope") == [
        (1, "C-1", "Ada@Example.com", SCOPE),
        (3, None, "grace@example.com", SCOPE),
    ]
    keys = [record.send_key for record in records()]
    assert sorted(key for (key,) in read("recipient_key_hash")) == sorted(keys)
    assert all(sent_at for (sent_at,) in read("sent_at"))
    assert [dict(sent.body) for sent in sendoso.campaign_sends()][1] == {
        "email": "grace@example.com",
        "touch_id": EGIFT,
        "via": "generate_egift_links",
        "via_from": "Airflow",
    }


def test_a_column_names_the_campaign(sendoso: Sandbox, links: Links, read: Read) -> None:
    rows = [{"email": "ada@example.com", "touch_id": LUNCH}, {"email": "grace@example.com", "touch_id": BOX}]
    assert links(rows, touch_id=None) == Try("", {"sent": 1, "invalid": 1})
    assert read() == made(sendoso)
    assert [sent.touch["id"] for sent in sendoso.campaign_sends()] == [LUNCH]


def test_sixteen_concurrent_requests_get_their_own_links(sendoso: Sandbox, links: Links, read: Read) -> None:
    sendoso.fault("slow", times=200, delay=0.02, **POST)
    assert links(200, max_in_flight=16) == Try("", {"sent": 200})
    assert sorted(read()) == made(sendoso)
    assert len(made(sendoso)) == 200


def test_a_recipient_who_was_sent_the_campaign_gets_no_link_and_the_other_way_round(
    sendoso: Sandbox, send: Callable[..., Try], links: Links, read: Read, caplog: pytest.LogCaptureFixture
) -> None:
    sent = {"gift_id": None, "touch_id": EGIFT, "message": None}
    assert send(people(1), **sent) == Try("", {"sent": 1})
    assert links(people(2), run_id="run-2") == Try("", {"sent": 1, "already_sent": 1})
    assert [email for email, _ in read()] == ["ada1@example.com"]
    assert send(people(2), run_id="run-3", **sent) == Try("", {"already_sent": 2})
    assert len(sendoso.campaign_sends()) == 2


# -- kills -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def killed(
    sendoso: Sandbox, ledger: dict[str, Any], warehouse: Engine, forkserver: ForkServerContext
) -> Callable[[str], None]:
    """Runs a try in a process of its own, until it has killed itself."""

    def run(at: str) -> None:
        connections = {
            "sendoso_default": sendoso_connection(sendoso, requests_per_second=1000, timeout=60),
            "sendoso_ledger": ledger,
            "warehouse": warehouse.warehouse,  # type: ignore[attr-defined]
        }
        process = forkserver.Process(target=die, args=(connections, at, arguments()))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL

    return run


@pytest.mark.parametrize(
    ("at", "then", "in_the_end"),
    [
        ("posting-committed:3", 2, {"sent": 4, "held": 1}),
        ("posted:3", 3, {"sent": 4, "held": 1}),
        ("outcome-committed:3", 3, ALL),
        ("released", 5, ALL),
    ],
)
def test_links_made_before_a_kill_land_with_the_next_try(
    sendoso: Sandbox,
    links: Links,
    read: Read,
    killed: Callable[[str], None],
    an_hour_later: Callable[[], None],
    at: str,
    then: int,
    in_the_end: dict[str, int],
) -> None:
    killed(at)
    before = made(sendoso)
    assert len(before) <= then
    assert read() == []
    an_hour_later()
    assert links() == Try("SendHeldError" if "held" in in_the_end else "", in_the_end)
    assert set(before) <= set(made(sendoso))
    assert len(made(sendoso)) == in_the_end["sent"] + (at == "posted:3")
    assert [row for row in made(sendoso) if row in read()] == read()
    assert len(read()) == in_the_end["sent"]


@pytest.mark.parametrize("own", [True, False], ids=["argument", "column"])
def test_links_land_when_the_campaign_has_ended_since(
    sendoso: Sandbox, links: Links, read: Read, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    rows = [{**row, "touch_id": EGIFT} for row in people(5)]
    touch = {"touch_id": EGIFT if own else None}
    with monkeypatch.context() as patch:
        patch.setattr("airflow_provider_sendoso.runs.egift_links.write_links", broken)
        assert links(rows[:4], **touch).error == "SendosoResultsError"
    end_the_campaign(sendoso)
    ended = links(rows, **touch)
    assert ended.error == ("SendosoConfigError" if own else "")
    assert own or ended.counts == {"sent": 4, "invalid": 1}
    assert read() == made(sendoso)
    assert len(made(sendoso)) == 4


def test_the_summary_is_pushed_before_the_links_are_written(
    sendoso: Sandbox, send: Any, warehouse: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed_while_writing(*args: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("airflow_provider_sendoso.runs.egift_links.write_links", killed_while_writing)
    ti = FakeTI("run-1")
    with pytest.raises(KeyboardInterrupt):
        batch(2, **arguments()).execute({"ti": ti})
    assert ti.xcom["return_value"]["sent"] == 2


def broken(*args: Any) -> Any:
    raise SendosoResultsError("no room")


def test_a_ledger_that_fails_leaves_the_links_table_as_it_was(
    sendoso: Sandbox, links: Links, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert links(4) == Try("", {"sent": 4})
    fails = SendosoLedgerError("away")

    def no_read(self: SendLedger, send_keys: Any) -> Any:
        raise fails

    with monkeypatch.context() as patch:
        patch.setattr(SendLedger, "read", no_read)
        assert links() == Try("SendosoLedgerError", ALL)
    assert len(read()) == 4
    assert links() == Try("", ALL)
    assert read() == made(sendoso)


# -- unknown outcomes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["drop_before", "drop_after", "garbage", "truncate", "error_after", "redirect"])
def test_a_link_of_unknown_outcome_is_held_though_sendoso_lists_its_send(
    sendoso: Sandbox, links: Links, read: Read, an_hour_later: Callable[[], None], fault: str
) -> None:
    sendoso.fault(fault, **POST)
    held = {"sent": 4, "held": 1}
    first = links()
    assert first == Try("SendHeldError", held)
    assert isinstance(first.raised, SendHeldError)
    assert "list shows no links" in str(first.raised)
    posts = len([request for request in sendoso.requests if request.path == PATH])
    an_hour_later()
    assert links() == Try("SendHeldError", held)
    assert links(on_held="continue", run_id="run-2") == Try("", {"already_sent": 4, "held": 1})
    assert [record.state for record in records()].count(State.HELD) == 1
    assert len([request for request in sendoso.requests if request.path == PATH]) == posts
    assert not [request for request in sendoso.requests if (request.method, request.path) == ("GET", "/api/v3/send")]
    assert len(read(where="egift_link IS NOT NULL")) == 8


def test_a_links_row_in_sendosos_list_is_not_taken_for_a_campaign_send(
    sendoso: Sandbox, send: Callable[..., Try], links: Links, an_hour_later: Callable[[], None]
) -> None:
    """Of two sends to one recipient in two scopes, one never arrived, and the other made a link."""
    sent = {"gift_id": None, "touch_id": EGIFT, "message": None, "dedupe_scope": "spring"}
    sendoso.fault("drop_before", method="POST", path="/api/v3/send")
    assert send(1, **sent) == Try("SendHeldError", {"held": 1})
    assert links(1) == Try("", {"sent": 1})
    assert send(1, **sent, run_id="run-2") == Try("SendHeldError", {"held": 1})
    assert len(sendoso.campaign_sends()) == 1


@pytest.mark.parametrize("went_out", [True, False])
def test_a_person_resolves_a_held_link(sendoso: Sandbox, links: Links, read: Read, went_out: bool) -> None:
    sendoso.fault("drop_after" if went_out else "drop_before", **POST)
    links()
    links()
    ledger = SendosoHook().ledger
    (record,) = ledger.sends.records(State.HELD)
    decided = State.SENT if went_out else State.READY
    expire = "UPDATE sendoso_sends SET lease_until = 0"
    ledger._database.run(lambda connection: connection.execute(text(expire)))
    assert ledger.resolutions.resolve(record, decided, resolved_by="me", why="looked it up")
    assert links() == Try("", ALL)
    assert len(read()) == (4 if went_out else 5)
    assert len(made(sendoso)) == 5


ODD = [
    {"success": True},
    {"success": True, "egift_links": []},
    {"success": True, "egift_links": [{"recipient_email_or_phone_number": "ada0@example.com"}]},
    {"success": True, "egift_links": [{"egift_link": " "}]},
    {"success": True, "egift_links": [{"egift_link": "x" * 2001}]},
    {"success": True, "egift_links": [{"egift_link": "a\u0000b"}]},
    {"success": True, "egift_links": [{"egift_link": "a"}, {"egift_link": "b"}]},
    {"success": False, "egift_links": [{"egift_link": "a"}]},
    [],
]


@pytest.mark.parametrize("body", ODD, ids=lambda body: json.dumps(body)[:60])
def test_an_answer_without_a_link_is_held(sendoso: Sandbox, links: Links, body: Any) -> None:
    sendoso.fault("status", status=200, body=body, **POST)
    assert links(1) == Try("SendHeldError", {"held": 1})


@pytest.mark.parametrize(
    "body",
    [
        {"egift_links": [{"egift_link": " the-link ", "recipient_email_or_phone_number": "somebody@example.com"}]},
        {"send": {"egift_links": [{"egift_link": "the-link"}]}},
        {
            "egift_links": [
                {"egift_link": "another", "recipient_email_or_phone_number": "ada9@example.com"},
                {"egift_link": "the-link", "recipient_email_or_phone_number": "ADA0@example.com"},
            ]
        },
    ],
    ids=["the only one", "inside send", "one of two"],
)
def test_a_link_is_read_from_every_known_place_in_the_answer(
    sendoso: Sandbox, links: Links, read: Read, body: Any
) -> None:
    sendoso.fault("status", status=200, body={"success": True, **body}, **POST)
    assert links(1) == Try("", {"sent": 1})
    assert read() == [("ada0@example.com", "the-link")]


# -- before anything is made -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("gift_id", "message", "variant_id", "team_id", "metadata", "shipping_estimate", "on_absent", "settle_time"),
        *("address_confirmation", "expire_after_days", "hide_product_info", "address_confirmation_message"),
    ],
)
def test_an_argument_that_links_do_not_have_is_refused(name: str) -> None:
    with pytest.raises((TypeError, AirflowException), match=f"(?s)Invalid arguments.*{name}"):
        batch(**arguments(), **{name: "1"})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"touch_id": BOX}, "only eGifts have links"),
        ({"touch_id": 999}, "no campaign that this account can send"),
        ({"links_table": " "}, "Give links_table"),
        ({"conn_id": None}, "Give links_table"),
        ({"links_table": "links; DROP TABLE x"}, "links_table is 'links; DROP TABLE x'"),
        ({"touch_id": None}, "No column for touch_id"),
        ({"recipients": [{"name": "Ada"}]}, "No column for email"),
    ],
    ids=str,
)
def test_a_campaign_or_table_that_cannot_have_links_is_refused(
    sendoso: Sandbox, send: Any, warehouse: Engine, changes: dict[str, Any], words: str
) -> None:
    operator = batch(**(arguments() | changes))
    with pytest.raises(SendosoConfigError, match=words):
        operator.execute({"ti": FakeTI("run-1")})
    assert not [request for request in sendoso.requests if request.path == PATH]


def test_a_dry_run_makes_no_links_and_leaves_existing_rows(sendoso: Sandbox, links: Links, read: Read) -> None:
    def dry_run() -> dict[str, Any]:
        return batch(5, **arguments(), dry_run=True).execute({"ti": FakeTI("run-1")})

    links(people(0))
    first = dry_run()
    assert (first["would_send"], first["estimated_cost"], first["currency"]) == (5, 125.0, "USD")
    assert (made(sendoso), read()) == ([], [])
    assert links(4, max_cost=99) == Try("SendosoLimitError", {"not_reached": 4})
    assert links(4, max_cost=100) == Try("", {"sent": 4})
    assert dry_run()["would_send"] == 1
    assert read() == made(sendoso)
    assert links(approved_fingerprint=first["fingerprint"]) == Try("", ALL)


def forbid(warehouse: Engine, words: str) -> None:
    """Make every insert fail with this message."""
    with warehouse.begin() as connection:
        if warehouse.dialect.name == "sqlite":
            abort = f"SELECT RAISE(ABORT, {words}) WHERE NEW.email NOT LIKE 'x%'"
            connection.execute(text(f"CREATE TRIGGER forbid BEFORE INSERT ON links BEGIN {abort}; END"))
            return
        body = f"BEGIN IF NEW.email NOT LIKE 'x%' THEN RAISE EXCEPTION '%', {words}; END IF; RETURN NEW; END"
        connection.execute(text(f"CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$"))
        connection.execute(text("CREATE TRIGGER forbid BEFORE INSERT ON links FOR EACH ROW EXECUTE FUNCTION forbid()"))


def test_a_links_table_without_the_right_to_write_is_refused_before_the_first_link(
    sendoso: Sandbox, links: Links, warehouse: Engine, set_connection: Callable[..., None]
) -> None:
    links(people(0))
    with warehouse.begin() as connection:
        if warehouse.dialect.name == "sqlite":
            abort = "CREATE TRIGGER forbid BEFORE INSERT ON links BEGIN SELECT RAISE(ABORT, 'read only'); END"
            connection.execute(text(abort))
        else:
            name = f"reader_{warehouse.url.database}"
            connection.execute(text(f"CREATE ROLE {name} LOGIN"))
            connection.execute(text(f"GRANT SELECT, DELETE ON links TO {name}"))
            set_connection("warehouse", warehouse.warehouse | {"login": name})  # type: ignore[attr-defined]
    with pytest.raises(SendosoResultsError, match=r"links table 'links' .* cannot be written"):
        batch(5, **arguments()).execute({"ti": FakeTI("run-1")})
    assert made(sendoso) == []


def test_an_error_of_a_database_that_quotes_values_does_not_show_a_link(
    sendoso: Sandbox,
    links: Links,
    read: Read,
    warehouse: Engine,
    set_connection: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    links(people(0))
    forbid(warehouse, "NEW.egift_link" if warehouse.dialect.name != "sqlite" else "'?send='")
    refused = links()
    assert refused == Try("SendosoResultsError", ALL)
    assert "?send=" not in f"{refused.raised!r} {caplog.text}"
    with warehouse.begin() as connection:
        connection.execute(text("DROP TRIGGER forbid" + (" ON links" if warehouse.dialect.name != "sqlite" else "")))
    assert links() == Try("", ALL)
    assert read() == made(sendoso)


# -- at rest -----------------------------------------------------------------------------------------------------------


def test_the_ledger_stores_links_encrypted(sendoso: Sandbox, links: Links) -> None:
    links()
    hook = SendosoHook()
    kept = hook.ledger._database.run(lambda connection: connection.execute(text("SELECT * FROM sendoso_sends")).all())
    codes = [sent.tracking_code for sent in sendoso.campaign_sends()]
    assert [code for code in codes if code in repr(kept)] == []
    cipher = hook.ledger.links("sandbox")
    first, second = records()[:2]
    assert f"{sendoso.url}/?send=" in str(cipher.decrypt(first.send_key, str(first.link_ciphertext)))
    assert cipher.decrypt(first.send_key, str(second.link_ciphertext)) is None
    assert hook.ledger.links("another").decrypt(first.send_key, str(first.link_ciphertext)) is None
    assert str(first.link_ciphertext) not in repr(first)


def with_secret(sandbox: Sandbox, secret: str, set_connection: Callable[..., None]) -> None:
    sandbox._app.tokens.client_secret = secret
    set_connection("sendoso_default", sendoso_connection(sandbox, timeout=60) | {"password": secret})


def test_a_changed_client_secret_makes_no_second_link(
    sendoso: Sandbox, links: Links, read: Read, set_connection: Callable[..., None]
) -> None:
    links(3)
    with_secret(sendoso, "another", set_connection)
    changed = links()
    assert changed == Try("SendosoConfigError", ALL)
    for words in ("3 eGift links", "row 1, send key", "no second link", "look these up"):
        assert words in str(changed.raised)
    assert read() == made(sendoso)
    assert links(run_id="run-2") == Try("SendosoConfigError", {"already_sent": 5})
    assert len(read()) == 5 + 2
    with_secret(sendoso, "sandbox", set_connection)
    assert links(run_id="run-2") == Try("SendosoConfigError", {"already_sent": 5})
    assert sorted(read()) == sorted(made(sendoso) * 2)
    assert len(made(sendoso)) == 5


# -- the hook alone ----------------------------------------------------------------------------------------------------


def test_the_hook_makes_links_in_one_request(sendoso: Sandbox, send: Any) -> None:
    emails = ["ada@example.com", "grace@example.com"]
    generated = SendosoHook().generate_egift_links(touch_id=EGIFT, emails=emails)
    assert [(link.email, link.link) for link in generated] == made(sendoso)
    assert len([request for request in sendoso.requests if request.path == PATH]) == 1
    assert "ada" not in repr(generated)
    assert "send=" not in repr(generated)


@pytest.mark.parametrize(
    ("emails", "words"),
    [
        ([], "must be a list"),
        ("ada@example.com", "must be a list"),
        (["ada"], "not an e-mail address"),
        (["ada@example.com", "Ada@example.com"], "twice"),
    ],
)
def test_the_hook_refuses_invalid_or_repeated_emails(sendoso: Sandbox, send: Any, emails: Any, words: str) -> None:
    with pytest.raises(SendosoConfigError, match=words):
        SendosoHook().generate_egift_links(touch_id=EGIFT, emails=emails)
    assert made(sendoso) == []


def test_the_hook_raises_what_is_known_of_a_failed_link_request(sendoso: Sandbox, send: Any) -> None:
    emails = iter(f"ada{n}@example.com" for n in range(9))

    def generate(touch_id: int = EGIFT) -> Any:
        return SendosoHook().generate_egift_links(touch_id=touch_id, emails=[next(emails)])

    for fault in ("drop_after", "garbage"):
        sendoso.fault(fault, **POST)
        with pytest.raises(SendOutcomeUnknownError, match="may have been made"):
            generate()
    with pytest.raises(SendosoNotFoundError):
        generate(999)
    sendoso.revoke_tokens()
    assert len(generate()) == 1
    sendoso.stop()
    with pytest.raises(SendosoConnectionError):
        generate()
    sendoso.start()
