"""What is written: decisions about held sends, under the rules of the command line; the connection check; a person.

All of these are POSTs of JSON from the pages themselves: see :func:`from_our_pages`.
"""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from airflow.configuration import conf as airflow_conf
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from airflow_provider_sendoso.ledger import decisions
from airflow_provider_sendoso.ledger.records import Record
from airflow_provider_sendoso.ledger.resolutions import LONGEST_WHY, Resolution
from airflow_provider_sendoso.models import LONGEST_ID, normalise_key
from airflow_provider_sendoso.plugins.access import Viewer, may_test_connections, refuse, viewer
from airflow_provider_sendoso.plugins.pages import MOUNTED_AT, Who, choose
from airflow_provider_sendoso.plugins.render import render
from airflow_provider_sendoso.sending.existing import check_send_id

MARK = "x-sendoso-pages"
"""A header that a page of another site cannot send: a browser asks the server first, which says no."""

_MOST = 200
"""The most sends to decide about at once: as many as somebody can have looked at."""
_SHOWN = 200
"""The most sends of a person to show."""


def from_our_pages(request: Request) -> None:
    """
    Refuse a request that another site has had the browser send, with the cookie of whoever looks at that site.

    :param request: the request.
    :raises HTTPException: 403; nothing was changed.
    """
    json = request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        ours = site == "same-origin"
    else:
        # Browsers do not send the other header to a host without https.
        hosts = {request.headers.get("host"), urlsplit(airflow_conf.get("api", "base_url", fallback="")).netloc}
        ours = urlsplit(request.headers.get("origin", "")).netloc in hosts - {None, ""}
    if not (json and ours and request.headers.get(MARK) == "1"):
        raise refuse("This request does not come from the pages of Sendoso in Airflow. Nothing was changed.")


router = APIRouter(dependencies=[Depends(from_our_pages)])


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    conn: str


class SeenSend(BaseModel):
    """
    A send as the page has shown it.

    :param key: its key.
    :param state: its state.
    :param attempt: which POST it stands for.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    key: str = Field(pattern="^[0-9a-f]{64}$")
    state: str
    attempt: int


class DecisionBody(_Body):
    """
    A decision.

    :param sends: the sends, as the page has shown them.
    :param resolution: what was found out.
    :param why: how the person knows.
    :param send_id: Sendoso's id of the one gift that was found.
    """

    sends: list[SeenSend] = Field(min_length=1, max_length=_MOST)
    resolution: Literal["sent", "not_sent"]
    why: str = Field(max_length=LONGEST_WHY)
    send_id: str | None = Field(default=None, max_length=LONGEST_ID)


class PersonBody(_Body):
    """
    A person.

    :param email: the address; it is hashed at once, and is in no log, address or table.
    """

    email: SecretStr = Field(max_length=320)


class CheckBody(_Body):
    """The connection to check."""


@router.post("/held")
def decide(request: Request, who: Who, body: DecisionBody) -> Response:
    """Record a decision about sends that are as the page has shown them; say of the others what has happened."""
    seen = choose(request, who, body.conn)
    ledger, account = seen.account.ledger, seen.account.name
    decision = decisions.Decision.parse(
        body.resolution, why=body.why, resolved_by=who.name, send_id=(body.send_id or "").strip() or None
    )
    shown = {send.key: send for send in body.sends}
    known = {key: record for key, record in ledger.sends.read(list(shown)).items() if record.account == account}
    ran = ledger.overview.batches_of(known.values())
    visible = {key for key, record in known.items() if seen.readable.has(ran[record.batch_id].dag_id)}
    if visible != shown.keys():
        raise HTTPException(
            404, "The ledger does not know one of these sends, or you may not see it. Nothing was changed."
        )
    for record in known.values():
        dag_id = ran[record.batch_id].dag_id
        if not who.may_decide(dag_id, seen.account.conn_id):
            raise refuse(
                f"Airflow does not let you edit the DAG {dag_id!r}, so you cannot decide about its sends. "
                "Nothing was changed."
            )
    for scope in sorted({record.dedupe_scope for record in known.values()}):
        ledger.sends.lapse(account=account, dedupe_scope=scope)
    known = ledger.sends.read(list(shown))
    as_shown = [record for key, record in known.items() if _is_as_shown(record, shown[key])]
    others = tuple(record for key, record in known.items() if not _is_as_shown(record, shown[key]))
    if decision.send_id is not None and len(as_shown) == 1 == len(shown):
        check_send_id(seen.account.hook.session, ledger, as_shown[0], decision.send_id)
    tally = decisions.resolve(ledger, as_shown, decision) if as_shown else decisions.Tally(decision, 0, (), ())
    skipped = (*others, *tally.changed, *tally.in_flight)
    gone = {record.send_key for record in skipped}
    html = render(
        "decided.html",
        root=request.scope["root_path"],
        conn=seen.account.conn_id,
        tally=tally,
        decision=decision,
        decided=[key for key in shown if key not in gone],
        changed=[(record, _last(ledger.resolutions.history(record.send_key))) for record in (*others, *tally.changed)],
        in_flight=tally.in_flight,
    )
    return HTMLResponse(html)


def _is_as_shown(record: Record, shown: SeenSend) -> bool:
    # What was being posted by a process that has died was shown as such, and is of unknown outcome now.
    state = "UNKNOWN" if shown.state == "POSTING" else shown.state
    return (record.state.value, record.attempt) == (state, shown.attempt)


def _last(history: list[Resolution]) -> Resolution | None:
    return history[-1] if history else None


@router.post("/person")
def person(request: Request, who: Who, body: PersonBody) -> Response:
    """Show what a person was sent."""
    seen = choose(request, who, body.conn)
    ledger, account = seen.account.ledger, seen.account.name
    try:
        address = normalise_key(body.email.get_secret_value())
    except ValueError:
        address = None
    if address is None:
        raise HTTPException(422, "That is not an e-mail address.")
    found = ledger.overview.person(
        account,
        ledger.email_hash(account, address),
        lambda scope: ledger.send_key(account, scope, address),
        seen.readable,
        limit=_SHOWN,
    )
    root = request.scope["root_path"]
    return HTMLResponse(
        render(
            "person_found.html",
            sends=found,
            most=_SHOWN,
            root=root,
            airflow=root.removesuffix(MOUNTED_AT),
            conn=seen.account.conn_id,
        )
    )


@router.post("/account/check")
def check(request: Request, who: Annotated[Viewer, Depends(viewer)], body: CheckBody) -> Response:
    """Check a connection, where Airflow's own button may do so."""
    seen = choose(request, who, body.conn)
    if not (who.may("GET", body.conn) and who.may("POST", body.conn)):
        raise refuse("Airflow does not let you test this connection.")
    if not may_test_connections():
        raise refuse("Testing connections is disabled: [core] test_connection in Airflow's configuration.")
    works, said = seen.account.hook.test_connection()
    return HTMLResponse(render("checked.html", works=works, said=said))
