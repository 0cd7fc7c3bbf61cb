"""Spellings that once sent a second gift without any crash, in a real Airflow: each person has one gift at the end."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

COUNTS = ("sent", "already_sent", "duplicate", "refused", "invalid", "held", "not_reached")
PEOPLE = [("C-1", "Ada", "Lovelace", "ada@example.com"), ("C-2", "Grace", "Hopper", "grace@example.com")]
EACH = ["ada@example.com", "grace@example.com"]


@pytest.fixture
def here(world: Callable[..., Any]) -> Any:
    """A world whose warehouse has two champions."""
    world = world()
    columns = ("given_name", "family_name", "email", "address_line1", "address_city", "address_postal_code")
    world.execute(f"CREATE TABLE champions (customer_id text, {' text, '.join(columns)} text, address_country text)")
    address = ("12 Harbour Row", "Bristol", "BS1 4QA", "GB")
    world.execute(
        "INSERT INTO champions VALUES (%s, %s, %s, %s, %s, %s, %s, %s)", *[(*row, *address) for row in PEOPLE]
    )
    return world


def environment(here: Any, *, extra: str | None = None, **more: Any) -> dict[str, str]:
    """The connections, with more in Sendoso's ``extra``, or with a text of one's own there."""
    given = dict(here.environment)
    connection = json.loads(given["AIRFLOW_CONN_SENDOSO_DEFAULT"])
    connection["extra"] = connection["extra"] | more if extra is None else extra
    return given | {"AIRFLOW_CONN_SENDOSO_DEFAULT": json.dumps(connection)}


def counts(run: Any) -> dict[str, int]:
    return {name: number for name in COUNTS if (number := run.xcoms["send_gifts"][name])}


def send(airflow: Any, day: int, environment: dict[str, str], dag_id: str = "champions_campaign") -> Any:
    """Run the campaign on a day of its own, so that it is another run of the same scope."""
    return airflow.run(dag_id, f"2026-03-{day:02}T00:00:00+00:00", environment)


EXTRAS = {
    "a dict's repr": "{'account': 'acme', 'requests_per_second': 500}",
    "a trailing comma": '{"account": "acme", "requests_per_second": 500,}',
    "YAML": "account: acme",
    "JSON in JSON": '"{\\"account\\": \\"acme\\"}"',
    "two accounts": '{"account": "acme", "account": "other"}',
}


def test_an_extra_that_cannot_be_read_sends_nobody_a_second_gift(airflow: Any, here: Any) -> None:
    assert counts(send(airflow, 1, environment(here, account="acme"))) == {"sent": 2}
    posts = here.posts()
    for day, (what, extra) in enumerate(EXTRAS.items(), 2):
        run = send(airflow, day, environment(here, extra=extra))
        assert (what, run.state, run.tasks["send_gifts"]) == (what, "failed", "failed")
        assert "extra" in run.log, what
        assert here.posts() == posts, what
    assert here.emails() == EACH


def test_an_account_spelled_otherwise_sends_nobody_a_second_gift(airflow: Any, here: Any) -> None:
    assert counts(send(airflow, 1, environment(here, account="Café-Société"))) == {"sent": 2}
    for day, account in enumerate(["Café-Société ", "Café-Société\n", "\u00a0Cafe\u0301-Société"], 2):
        run = send(airflow, day, environment(here, account=account))
        assert (account, run.state, counts(run)) == (account, "success", {"already_sent": 2})
    refused = ["CAFÉ-SOCIÉTÉ", "Café-Société\u200b", "Café-Société\u3164", "Café\u2013Société", "Ｃafé-Société"]
    for day, account in enumerate(refused, 12):
        run = send(airflow, day, environment(here, account=account))
        assert (account, run.state) == (account, "failed")
        assert "account" in run.log
    assert here.emails() == EACH


DECORATED = ['"{}"', "mailto:{}", "{})", "<{}>", "Ada <{}>", "{},", "'{}'", "{}.", "[{}]", "{};", "｟{}｠", "\u3164{}"]
SAME = ["{}", " {}\n", "{}\u00a0", "\ufeff{}"]


def test_an_address_decorated_otherwise_in_each_run_is_sent_one_gift(airflow: Any, here: Any) -> None:
    emails = [f"person{number}@acme.example" for number in range(len(DECORATED) + len(SAME))]
    here.execute(
        "INSERT INTO champions SELECT %s, 'A', 'B', %s, address_line1, address_city, address_postal_code, 'GB' "
        "FROM champions WHERE customer_id = 'C-1'",
        *[(f"P-{number}", email) for number, email in enumerate(emails)],
    )
    here.execute("DELETE FROM champions WHERE customer_id LIKE 'C-%'")
    assert counts(send(airflow, 1, environment(here))) == {"sent": len(emails)}
    posts = here.posts()
    again = [spelling.format(email) for spelling, email in zip([*DECORATED, *SAME], emails, strict=True)]
    changes = [(email, f"P-{number}") for number, email in enumerate(again)]
    here.execute("UPDATE champions SET email = %s WHERE customer_id = %s", *changes)
    run = send(airflow, 2, environment(here))
    assert (run.state, counts(run)) == ("success", {"already_sent": len(SAME), "invalid": len(DECORATED)})
    here.execute("UPDATE champions SET email = upper(email)")
    assert counts(send(airflow, 3, environment(here))) == {"already_sent": len(SAME), "invalid": len(DECORATED)}
    assert here.posts() == posts
    assert [email for email in emails if email in run.log] == []
    assert here.emails() == sorted(emails)


@pytest.fixture(scope="module")
def another_airflow(airflow: Any) -> Iterator[Any]:
    """A second deployment: with a metadata database of its own, and the same DAGs."""
    other = type(airflow)(Path(tempfile.mkdtemp(prefix="airflow-another-")))
    yield other
    other.close()


@pytest.mark.parametrize(
    ("ours", "theirs", "gifts"),
    [
        ({"account": "acme"}, {"account": "other"}, 2),
        ({"account": "acme", "deployment": "eu"}, {"account": "acme", "deployment": "us"}, 1),
    ],
    ids=["two accounts", "two deployments of one account"],
)
def test_two_airflows_with_equal_ids_on_one_ledger_and_warehouse_are_two_batches(
    airflow: Any, another_airflow: Any, here: Any, ours: dict[str, str], theirs: dict[str, str], gifts: int
) -> None:
    first = send(airflow, 1, environment(here, **ours), "campaign_results")
    second = send(another_airflow, 1, environment(here, **theirs), "campaign_results")
    again = send(airflow, 1, environment(here, **ours), "campaign_results")

    assert first.run_id == second.run_id == again.run_id
    assert (first.state, second.state, again.state) == ("success", "success", "success"), second.log[-5000:]
    assert counts(first) == counts(again) == {"sent": 2}
    assert counts(second) == ({"sent": 2} if gifts == 2 else {"already_sent": 2})
    batches = [run.xcoms["send_gifts"]["batch_id"] for run in (first, second, again)]
    assert batches[0] == batches[2] != batches[1]
    results = here.read_warehouse("SELECT batch_id, row_ref, send_id FROM sendoso_results ORDER BY row_ref")
    assert [(batch_id, row) for batch_id, row, _ in results if batch_id == batches[0]] == [
        (batches[0], "C-1"),
        (batches[0], "C-2"),
    ]
    assert len(results) == 4
    assert here.emails() == sorted(EACH * gifts)
