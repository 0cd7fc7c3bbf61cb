"""``ledger list|show|resolve|ddl``: what the commands print, and what they refuse before anything is written."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from airflow.cli import cli_parser
from buckets import SQLITE_OR_BUCKET, small_ledger
from sqlalchemy import update

import airflow_provider_sendoso
from airflow_provider_sendoso.cli.commands import get_cli_commands, main
from airflow_provider_sendoso.cli.ledger import resolve
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.ddl import DIALECTS, ddl
from airflow_provider_sendoso.ledger.records import Batch, Claim, Record, State, Wanted
from airflow_provider_sendoso.ledger.schema import sends
from airflow_provider_sendoso.ledger.spending import Fit
from airflow_provider_sendoso.models import Item, Kind
from airflow_provider_sendoso.models.spending import Price
from airflow_provider_sendoso.sandbox import Sandbox

ADA, BOB, EVE = "ada@example.com", "bob@example.com", "eve@example.com"


@pytest.fixture(params=SQLITE_OR_BUCKET)
def ledger_connection(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """One database only, because the commands do not depend on the ledger's database."""
    return small_ledger(request.param, tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs ``ledger …``; returns what it printed."""

    def do(*arguments: str) -> str:
        main(["ledger", *arguments])
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return do


@pytest.fixture
def fail(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs ``ledger …``, which must fail with one line of error and nothing written; returns the line."""

    def do(*arguments: str) -> str:
        with pytest.raises(SystemExit) as raised:
            main(["ledger", *arguments])
        assert isinstance(raised.value.code, str)
        assert "\n" not in raised.value.code
        said = raised.value.code + capsys.readouterr().out
        assert "example.com" not in said
        return said

    return do


@pytest.fixture
def send_id(sendoso: Sandbox) -> str:
    """The id of a gift that somebody has found at Sendoso."""
    send = SendosoHook().send_gift(
        gift_id="gift-donation-trees",
        recipient={"first_name": "Ada", "last_name": "L", "email": ADA},
        message="Thank you",
    )
    return str(send.id)


def read(key: str) -> Record:
    return SendosoHook().ledger.sends.read([key])[key]


def states(*keys: str) -> list[str]:
    return [read(key).state.value for key in keys]


def history(key: str) -> list[Any]:
    return SendosoHook().ledger.resolutions.history(key)


NOT_SENT = ("--not-sent", "--why", "looked")
SENT = ("--sent", "--why", "looked")


# list


def test_list_shows_and_counts_the_open_sends(make_open, run):
    keys = make_open(ADA, BOB) + make_open(EVE, scope="q5", batch_id="batch-2", reason="read_timeout")
    hook = SendosoHook()
    out = run("list")
    assert "2  UNKNOWN  http_500" in out
    assert "1  UNKNOWN  read_timeout" in out
    assert re.search(rf"3  in all, of account '{re.escape(hook.config.account)}'.*\(UNKNOWN/HELD\)", out)
    for key in keys:
        assert f"{key}  UNKNOWN" in out
        assert f"airflow_key {hook.ledger.airflow_key(key)}" in out
    assert re.search(r"    kind gift, row_ref C-1, gift_id gift-mug, posted_at 20\d\d-\d\d-\d\dT[\d:]{8}\+00:00\n", out)
    assert "scope 'q5', batch batch-2" in out
    assert "example.com" not in out


def test_list_says_that_nothing_is_open(sendoso, ledger, run):
    assert "0  in all" in run("list")


def test_list_is_narrowed_by_scope_batch_and_reason(make_open, run):
    make_open(ADA, BOB)
    (key,) = make_open(EVE, scope="q5", batch_id="batch-2", reason="read_timeout")
    for narrowed in (("--scope", "q5"), ("--batch", "batch-2"), ("--reason", "read_timeout")):
        listed = json.loads(run("list", "--json", *narrowed))
        assert [send["send_key"] for send in listed["sends"]] == [key]
    assert json.loads(run("list", "--json", "--scope", "q4", "--reason", "read_timeout"))["total"] == 0


def test_list_takes_states_in_any_case(make_open, run):
    keys = make_open(ADA, BOB)
    run("resolve", "--send-key", keys[0], *SENT)
    assert json.loads(run("list", "--json"))["counts"] == [{"state": "UNKNOWN", "reason": "http_500", "sends": 1}]
    listed = json.loads(run("list", "--json", "--state", "sent", "UNKNOWN"))
    assert {send["send_key"] for send in listed["sends"]} == set(keys)


def test_list_counts_more_than_it_shows(make_open, run):
    make_open(ADA, BOB, EVE)
    out = run("list", "--limit", "1")
    assert "… and 2 more" in out
    assert "3  UNKNOWN  http_500" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--state", "lost"), "state takes one or more of ready, claimed"),
        (("--scope", "q9"), "knows no dedupe_scope=q9 of the account"),
        (("--batch", "batch-9"), "knows no batch_id=batch-9 .*Is it the ledger that the gifts were sent with"),
    ],
)
def test_list_refuses_unknown_states_scopes_and_batches(make_open, fail, arguments, words):
    make_open(ADA)
    assert re.search(words, fail("list", *arguments))


def test_list_shows_the_send_of_a_killed_process_as_unknown(make_open, run):
    (key,) = make_open(ADA)
    posting = update(sends).values(state=State.POSTING, reason=None)
    SendosoHook().ledger._database.run(lambda connection: connection.execute(posting))
    assert f"{key}  UNKNOWN  process_lost" in run("list")


# show


def test_show_tells_everything_about_a_send_but_its_recipient(make_open, run):
    (key,) = make_open(ADA)
    shown = run("show", "--send-key", key[:8])
    for name, value in {
        "send_key": key,
        "state": "UNKNOWN",
        "reason": "http_500",
        "row_ref": "C-1",
        "dag_id": "campaign",
        "run_id": "run-1",
        "recipient_key": "email",
    }.items():
        assert re.search(rf"^{name} +{value}$", shown, re.M)
    run("resolve", "--send-key", key, *NOT_SENT, "--by", "grace")
    assert re.search(r"20\S+  UNKNOWN -> READY\n    by grace: looked\n", run("show", "--send-key", key))


@pytest.mark.parametrize("spelling", [ADA, " ADA@Example.COM "])
@pytest.mark.parametrize("scope", [(), ("--scope", "q4")])
def test_show_finds_a_recipient_and_does_not_repeat_it(make_open, run, spelling, scope):
    keys = make_open(ADA) + make_open(ADA, scope="q5", batch_id="batch-2") + make_open(BOB, scope="q6")
    out = run("show", "--recipient", spelling, "--json", *scope)
    assert [send["send_key"] for send in json.loads(out)] == (keys[:1] if scope else keys[:2])
    assert "example.com" not in out.lower()


def test_show_finds_a_send_by_its_id(make_open, send_id, run):
    (key,) = make_open(ADA)
    run("resolve", "--send-key", key, *SENT, "--send-id", send_id)
    (send,) = json.loads(run("show", "--send-id", send_id, "--json"))
    assert (send["send_key"], send["state"], send["resolutions"][0]["send_id"]) == (key, "SENT", send_id)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Name the send by one of"),
        (("--send-key", "0" * 64, "--send-id", "1"), "Name the send by one of"),
        (("--send-key", "0" * 64, "--scope", "q4"), "--scope goes with --recipient"),
        (("--send-key", "0" * 64), "knows no send_key=0000"),
        (("--send-key", "0000000"), "the first 8 or more"),
        (("--send-key", ADA), "64 hexadecimal digits"),
        (("--send-key", "%" * 8), "64 hexadecimal digits"),
        (("--send-id", "send-9"), "knows no send id send-9"),
        (("--recipient", "nobody@example.com"), "knows no send to that recipient"),
        (("--recipient", ADA, "--scope", "q9"), "knows no send to that recipient in scope 'q9'"),
        (("--recipient", " "), "--recipient is empty"),
        (("--recipient", "\udcff"), "--recipient is empty, or not text"),
    ],
)
def test_show_refuses_arguments_that_name_no_send(make_open, fail, arguments, words):
    make_open(ADA)
    assert words in fail("show", *arguments)


def test_an_ambiguous_prefix_of_a_key_is_refused(make_open, fail, run):
    (key,) = make_open(ADA)
    twin = key[:10] + "0" * 54
    other = update(sends).where(sends.c.send_key != key).values(send_key=twin)
    make_open(BOB)
    SendosoHook().ledger._database.run(lambda connection: connection.execute(other))
    assert f"2 send keys begin with {key[:10]}" in fail("resolve", "--send-key", key[:10], *SENT)
    assert states(key, twin) == ["UNKNOWN", "UNKNOWN"]
    assert run("show", "--send-key", key[:12])


# resolve


def test_resolve_records_one_send_as_sent(make_open, send_id, run):
    keys = make_open(ADA, BOB)
    out = run("resolve", "--send-key", keys[0][:8].upper(), *SENT, "--send-id", send_id)
    assert out == "Resolved as sent: 1 send.\n"
    assert states(*keys) == ["SENT", "UNKNOWN"]
    (written,) = history(keys[0])
    assert (written.resolved_by, written.why, written.send_id) == (getpass.getuser(), "looked", send_id)


def test_resolve_as_sent_without_an_id_says_what_follows(make_open, run):
    (key,) = make_open(ADA)
    assert "Without a send id no sensor can follow them." in run("resolve", "--send-key", key, *SENT)
    assert SendosoHook().recorded_send_ids(batch_id="batch-1") == []


def test_resolve_as_not_sent_says_what_follows(make_open, run):
    (key,) = make_open(ADA)
    out = run("resolve", "--send-key", key, *NOT_SENT)
    assert "Resolved as not sent: 1 send.\nThe next run that has them among its rows sends them" in out
    assert states(key) == ["READY"]


def test_resolve_records_sends_by_key_and_by_recipient(make_open, run):
    keys = make_open(ADA, BOB, EVE)
    arguments = ("--send-key", keys[0], "--recipient", "BOB@example.com", "--scope", "q4")
    assert "2 sends" in run("resolve", *arguments, *NOT_SENT)
    assert states(*keys) == ["READY", "READY", "UNKNOWN"]


def test_resolve_counts_a_send_named_twice_once(make_open, run):
    (key,) = make_open(ADA)
    assert "1 send." in run("resolve", "--send-key", key, "--recipient", ADA, "--scope", "q4", *SENT)


@pytest.mark.parametrize("narrowed", [("--batch", "batch-1"), ("--scope", "q4")])
def test_resolve_records_a_batch_or_a_scope_in_bulk(make_open, run, narrowed):
    keys = make_open(ADA, BOB) + make_open(EVE, reason="read_timeout")
    other = make_open(ADA, scope="q5", batch_id="batch-2")
    run("resolve", *narrowed, "--reason", "http_500", *NOT_SENT, "--yes")
    assert states(*keys, *other) == ["READY", "READY", "UNKNOWN", "UNKNOWN"]
    run("resolve", *narrowed, *SENT, "--yes")
    assert states(*keys, *other) == ["READY", "READY", "SENT", "UNKNOWN"]


@pytest.mark.parametrize("answer", ["y", "YES", "n", "", "maybe", EOFError()])
def test_resolve_asks_before_it_records_in_bulk(make_open, answer):
    keys = make_open(ADA, BOB)
    asked: list[str] = []
    said: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        if isinstance(answer, EOFError):
            raise answer
        return answer

    arguments: dict[str, Any] = {
        "send_keys": (),
        "recipients": (),
        "batch_id": "batch-1",
        "dedupe_scope": None,
        "reason": None,
        "states": None,
        "sent": False,
        "not_sent": True,
        "send_id": None,
        "why": "looked",
        "by": "grace",
        "yes": False,
    }
    agreed = answer in ("y", "YES")
    if agreed:
        resolve("sendoso_default", **arguments, say=said.append, ask=ask)
    else:
        with pytest.raises(Exception, match=r"Not confirmed\. Nothing was changed"):
            resolve("sendoso_default", **arguments, say=said.append, ask=ask)
    assert asked == ["Resolve these 2 sends as not_sent, so that the next run SENDS THEM AGAIN? [y/N] "]
    assert said[0].strip() == "2  UNKNOWN  http_500"
    assert states(*keys) == ["READY" if agreed else "UNKNOWN"] * 2


def test_resolve_skips_sends_that_may_still_be_posted(make_open, fail, run):
    keys = make_open(ADA) + make_open(BOB, lapsed=False)
    said = fail("resolve", "--batch", "batch-1", *NOT_SENT, "--yes")
    assert said.startswith("SendosoError: Resolved as not sent: 1 send. ")
    assert re.search(rf"may still be posting them: 1 send: {keys[1]}\. Their leases lapse within \d\d s", said)
    assert states(*keys) == ["READY", "UNKNOWN"]
    assert "its process may still be posting it" in run("list")
    assert "1 send" in run("resolve", "--send-key", keys[1], *SENT)


def test_resolve_skips_sends_that_are_not_open(make_open, send_id, fail, run):
    keys = make_open(ADA, BOB)
    run("resolve", "--send-key", keys[0], *SENT, "--send-id", send_id)
    out = run("resolve", "--send-key", keys[0], "--send-key", keys[1], *NOT_SENT)
    assert f"Skipped, not open or changed meanwhile: 1 send: {keys[0]} is SENT." in out
    assert states(*keys) == ["SENT", "READY"]
    assert "Resolved as sent: 0 sends. Skipped" in fail("resolve", "--send-key", keys[0], *SENT)
    assert read(keys[0]).send_id == send_id
    assert len(history(keys[0])) == 1


def test_a_send_id_of_another_send_is_refused(make_open, send_id, fail, run):
    keys = make_open(ADA, BOB)
    run("resolve", "--send-key", keys[0], *SENT, "--send-id", send_id)
    said = fail("resolve", "--send-key", keys[1], *SENT, "--send-id", send_id)
    assert f"{send_id} is that of another send already, {keys[0]} in scope 'q4'" in said
    assert states(*keys) == ["SENT", "UNKNOWN"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--send-key", "KEY", "--why", "x"), "either --sent or --not-sent"),
        (("--send-key", "KEY", "--why", "x", "--sent", "--not-sent"), "either --sent or --not-sent"),
        (("--send-key", "KEY", "--why", " ", "--sent"), "recorded with its reason and its author"),
        (("--send-key", "KEY", "--why", "x" * 501, "--sent"), "longer than 500"),
        (("--send-key", "KEY", *NOT_SENT, "--send-id", "1"), "What was not sent has no send id"),
        (("--send-key", "KEY", *SENT, "--send-id", "1" * 191), "longer than 190"),
        (("--batch", "batch-1", *SENT, "--send-id", "1", "--yes"), "one gift's, and 2 sends are meant"),
        (SENT, "exactly one of these"),
        (("--send-key", "KEY", "--batch", "batch-1", *SENT), "exactly one of these"),
        (("--scope", "q4", "--batch", "batch-1", *SENT), "exactly one of these"),
        (("--recipient", ADA, *SENT), "--recipient needs --scope"),
        (("--recipient", "nobody@example.com", "--scope", "q4", *SENT), "--recipient number 1 in scope 'q4'"),
        (("--send-key", "KEY", "--reason", "http_500", *SENT), "reason narrows a batch or a scope"),
        (("--send-key", "KEY", "--send-key", "f" * 64, *SENT), "knows no send_key=fff"),
        (("--batch", "batch-9", *SENT, "--yes"), "knows no batch_id=batch-9"),
        (("--batch", "batch-1", "--reason", "other", *SENT, "--yes"), "with batch_id=batch-1, reason=other is UNKNOWN"),
    ],
)
def test_resolve_refuses_and_writes_nothing(make_open, fail, arguments, words):
    keys = make_open(ADA, BOB)
    said = fail("resolve", *(keys[0] if argument == "KEY" else argument for argument in arguments))
    assert words in said
    assert "Nothing was changed." in said
    assert states(*keys) == ["UNKNOWN", "UNKNOWN"]
    assert history(keys[0]) == []


def test_without_a_user_name_resolve_asks_for_by(make_open, fail, run, monkeypatch):
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 50000")

    (key,) = make_open(ADA)
    monkeypatch.setattr(getpass, "getuser", nobody)
    assert "use --by" in fail("resolve", "--send-key", key, *SENT)
    assert run("resolve", "--send-key", key, *SENT, "--by", "grace")


def test_resolve_requires_why(make_open, capsys):
    (key,) = make_open(ADA)
    with pytest.raises(SystemExit) as raised:
        main(["ledger", "resolve", "--send-key", key, "--sent"])
    assert raised.value.code == 2
    assert "--why" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["list"], ["show", "--send-id", "1"], ["resolve", "--batch", "b", *SENT]])
def test_without_a_ledger_the_error_has_the_line_to_set(sendoso, fail, arguments):
    assert "AIRFLOW_CONN_SENDOSO_LEDGER=" in fail(*arguments)


# ddl


@pytest.mark.parametrize("dialect", DIALECTS)
def test_ddl_needs_no_connection(run, dialect):
    assert run("ddl", "--dialect", dialect) == f"{ddl(dialect)}\n"


def test_ddl_refuses_databases_that_cannot_be_a_ledger(fail):
    assert "use one of mysql, postgresql, sqlite" in fail("ddl", "--dialect", "snowflake")


# scopes


def test_scopes_are_listed_with_the_states_of_their_sends(make_open, run):
    make_open(ADA, BOB)
    (key,) = make_open(EVE, scope="q5")
    run("resolve", "--send-key", key, *NOT_SENT)
    make_open(ADA, scope="q5")
    said = run("scopes")
    assert [line for line in said.splitlines() if not line.startswith(" ")][:2] == ["q4", "q5"]
    assert re.search(r"^    UNKNOWN 2; by email, since \S+, last posted at \S+$", said, re.M)
    assert re.search(r"^    READY 1, UNKNOWN 1; by email, ", said, re.M)
    first, second = json.loads(run("scopes", "--json"))
    assert (first["dedupe_scope"], first["recipient_key"], first["sends"]) == ("q4", "email", {"UNKNOWN": 2})
    assert second["sends"] == {"READY": 1, "UNKNOWN": 1}
    assert "example.com" not in said


def test_an_account_without_scopes(sendoso, ledger, run):
    assert run("scopes").startswith("0 scopes of account ")
    assert json.loads(run("scopes", "--json")) == []


# Airflow's own command line, and a process.


def test_airflow_parses_the_nested_commands():
    parser = argparse.ArgumentParser()
    (group,) = get_cli_commands()
    cli_parser._add_command(parser.add_subparsers(), group)
    parsed = parser.parse_args(["sendoso", "ledger", "resolve", "--batch", "b", "--not-sent", "--why", "w", "--yes"])
    assert (parsed.batch, parsed.not_sent, parsed.why, parsed.yes, parsed.send_key) == ("b", True, "w", True, None)
    assert callable(parsed.func)


def test_airflow_runs_the_commands(make_open, capsys):
    parser = argparse.ArgumentParser()
    (group,) = get_cli_commands()
    cli_parser._add_command(parser.add_subparsers(), group)
    (key,) = make_open(ADA)
    parsed = parser.parse_args(["sendoso", "ledger", "show", "--send-key", key])
    parsed.func(parsed)
    assert key in capsys.readouterr().out
    with pytest.raises(SystemExit, match="SendosoConfigError: "):
        (parsed := parser.parse_args(["sendoso", "ledger", "show", "--send-key", "0" * 64])).func(parsed)


def test_the_command_as_a_process_exits_with_an_error(make_open):
    (key,) = make_open(ADA)
    environment = {**os.environ, "PYTHONPATH": str(Path(airflow_provider_sendoso.__file__).parents[1])}

    def process(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "ignore", "-m", "airflow_provider_sendoso", "ledger", *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300
        )

    asked = process("resolve", "--batch", "batch-1", *NOT_SENT)
    assert (asked.returncode, states(key)) == (1, ["UNKNOWN"])
    assert asked.stderr.endswith("Not confirmed. Nothing was changed.\n")
    done = process("resolve", "--batch", "batch-1", *NOT_SENT, "--yes")
    logged = [line for line in done.stderr.splitlines() if "empty cryptography key" not in line]  # Airflow 2 says so
    assert (done.returncode, logged, states(key)) == (0, [], ["READY"])


def test_a_send_id_that_sendoso_does_not_know_is_refused(make_open, send_id, fail, run):
    (key,) = make_open(ADA)
    said = fail("resolve", "--send-key", key, *SENT, "--send-id", send_id[:-1])
    assert "Sendoso does not know the send id" in said
    assert states(key) == ["UNKNOWN"]
    run("resolve", "--send-key", key, *SENT, "--send-id", send_id)
    assert read(key).send_id == send_id


def test_a_send_resolved_as_not_sent_can_be_resolved_as_sent_until_it_is_claimed(make_open, send_id, fail, run):
    keys = make_open(ADA, BOB)
    run("resolve", "--batch", "batch-1", *NOT_SENT, "--yes")
    assert "Resolved as sent: 1 send." in run("resolve", "--send-key", keys[0], *SENT, "--send-id", send_id)
    assert states(*keys) == ["SENT", "READY"]
    assert [(one.from_state, one.to_state) for one in history(keys[0])] == [("UNKNOWN", "READY"), ("READY", "SENT")]
    # A send that was decided as sent cannot become READY again, because a second gift cannot be undone.
    assert "Resolved as not sent: 0 sends" in fail("resolve", "--send-key", keys[0], *NOT_SENT)
    claimed = update(sends).where(sends.c.send_key == keys[1]).values(state="CLAIMED", attempt=sends.c.attempt + 1)
    SendosoHook().ledger._database.run(lambda connection: connection.execute(claimed))
    assert f"{keys[1]} is CLAIMED" in fail("resolve", "--send-key", keys[1], *SENT)


def test_a_ready_send_that_nobody_resolved_cannot_be_resolved_as_sent(make_open, fail):
    (key,) = make_open(ADA)
    given_back = update(sends).values(state="READY")
    SendosoHook().ledger._database.run(lambda connection: connection.execute(given_back))
    assert f"{key} is READY" in fail("resolve", "--send-key", key, *SENT)


def test_refused_sends_are_reopened_when_their_state_is_named(make_open, fail, run):
    keys = make_open(ADA, BOB, reason="http_402") + make_open(EVE, reason="http_422")
    refused = update(sends).values(state="REFUSED")
    SendosoHook().ledger._database.run(lambda connection: connection.execute(refused))
    assert "there is nothing to decide" in fail("resolve", "--batch", "batch-1", *NOT_SENT, "--yes")
    assert "is REFUSED" in fail("resolve", "--send-key", keys[0], *SENT)
    narrowed = ("--batch", "batch-1", "--state", "refused", "--reason", "http_402")
    assert "Resolved as not sent: 2 sends." in run("resolve", *narrowed, *NOT_SENT, "--yes")
    assert states(*keys) == ["READY", "READY", "REFUSED"]
    assert "1 send." in run("resolve", "--send-key", keys[2], *NOT_SENT)


@pytest.mark.usefixtures("ledger")
class TestBudget:
    @pytest.fixture
    def limited(self, sendoso: Sandbox, ledger: Any, set_connection: Callable[..., None]) -> None:
        connection = {"conn_type": "sendoso", "host": sendoso.url, "login": "sandbox", "password": "sandbox"}
        extra = {"account": "acme", "max_sends_per_day": 5, "max_cost_per_month": "100"}
        set_connection("sendoso_default", connection | {"extra": extra})
        hook = SendosoHook()
        batch = Batch("batch", "acme", "q4", "email", "dag", "task", "run", -1)
        hook.ledger.sends.open_batch(batch)
        limits = replace(hook.config.spending, scope_max_sends=3, scope_max_cost=Decimal("45.50"))
        for number in range(2):
            wanted = Wanted(f"key-{number}", "payload", Item("gift"), None, kind=Kind.GIFT)
            claim = hook.ledger.sends.claim(batch, "owner", 60, [wanted])[wanted.send_key]
            assert isinstance(claim, Claim)
            assert hook.ledger.sends.begin_post(claim, 60, fit=Fit(limits, Price(Decimal(10), "USD"), {}))
            if number:
                assert hook.ledger.sends.finish(claim, State.SENT, send_id="id-1")

    @pytest.mark.usefixtures("limited")
    def test_the_budget_says_what_is_spent_reserved_and_left(self, run: Callable[..., str]) -> None:
        printed = re.sub(r"\d{4}-\d\d(-\d\d)?", "DATE", run("budget"))
        assert printed.startswith(
            "day DATE (UTC): spent 1 (10.00 USD), reserved 1 (10.00 USD)\n"
            "    max_sends_per_day=5: 3 left\n"
            "month DATE (UTC): spent 1 (10.00 USD), reserved 1 (10.00 USD)\n"
            "    max_cost_per_month=100.00: 80.00 left\n"
            "scope 'q4': spent 1 (10.00 USD), reserved 1 (10.00 USD)\n"
            "    scope_max_sends=3: 1 left\n"
            "    scope_max_cost=45.50: 25.50 left\n"
            "Costs are estimates. Account 'acme', ledger "
        )

    @pytest.mark.usefixtures("limited")
    def test_the_budget_of_one_scope_is_json_for_a_program(self, run: Callable[..., str]) -> None:
        told = json.loads(run("budget", "--scope", " q4", "--json"))
        used = {"sends": 1, "cost": {"USD": "10.00"}}
        assert told == {
            "account": "acme",
            "budget": [
                {
                    "period": "scope",
                    "of": "q4",
                    "spent": used,
                    "reserved": used,
                    "unpriced": 0,
                    "limits": [
                        {"name": "scope_max_sends", "most": 3, "left": 1},
                        {"name": "scope_max_cost", "most": "45.50", "left": "25.50"},
                    ],
                }
            ],
        }

    @pytest.mark.usefixtures("limited")
    def test_a_scope_that_the_ledger_does_not_know_is_refused(self, fail: Callable[..., str]) -> None:
        assert "knows no dedupe_scope=q5 of the account 'acme'" in fail("budget", "--scope", "q5")
