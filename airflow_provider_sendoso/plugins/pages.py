"""The pages that are read: each route reads one page of the ledger, and shows what of it the person may see."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from airflow_provider_sendoso.exceptions import SendosoError
from airflow_provider_sendoso.ledger.overview import LOOKED_AT, Ran, Readable, position
from airflow_provider_sendoso.models.identity import same_name
from airflow_provider_sendoso.plugins import views
from airflow_provider_sendoso.plugins.access import Viewer, may_test_connections, tries_of, viewer
from airflow_provider_sendoso.plugins.accounts import Account
from airflow_provider_sendoso.plugins.render import render, static

router = APIRouter()

Who = Annotated[Viewer, Depends(viewer)]

MOUNTED_AT = "/sendoso"

_NO_CAMPAIGN = "The ledger knows no campaign of that name that you may see."
_SELDOM = 20.0
"""Times as long as a page's reads take passes before a live page is read again, however large a campaign is."""

_CAMPAIGNS = 25
_BATCHES = 25
_OPEN = 50
_STEPS = 60
_COUNTED = 1_000
"""Open sends, at which the number beside *Held* ends."""


@dataclass(frozen=True)
class Seen:
    """
    An account, as somebody sees it.

    :param account: the account.
    :param readable: the DAGs whose sends they may see.
    :param others: the ids of all connections that they may choose.
    :param is_visible: whether they may see the connection itself.
    """

    account: Account
    readable: Readable
    others: tuple[str, ...]
    is_visible: bool


def choose(request: Request, who: Viewer, conn: str | None) -> Seen:
    """
    Return the account that somebody has chosen, or the first that they may see.

    :param request: the request.
    :param who: who asks.
    :param conn: the id of a connection.
    :raises HTTPException: 404 if there is none such, or none that they may see.
    """
    visible: dict[str, tuple[Account, Readable]] = {}
    found = request.app.state.accounts.find()
    for account in found.accounts:
        readable = who.readable(account.conn_id)
        if readable is not None and (readable.dag_ids is None or _has_sent(account, readable)):
            visible[account.conn_id] = account, readable
    chosen = conn or next(iter(visible), None)
    if chosen is None or chosen not in visible:
        if chosen is not None and chosen in found.broken and who.may("GET", chosen):
            raise HTTPException(404, found.broken[chosen])
        raise HTTPException(
            404,
            "There is no account to show: no connection of type sendoso that you may see, and no DAG that you may see "
            "has sent anything. Make a connection of that type (Admin, Connections), and run a DAG that sends.",
        )
    account, readable = visible[chosen]
    return Seen(account, readable, tuple(visible), who.may("GET", chosen))


def _has_sent(account: Account, readable: Readable) -> bool:
    try:
        return account.ledger.overview.sends_from(account.name, readable)
    except SendosoError:
        return True  # the page itself then says what is wrong with the ledger


def show(
    request: Request,
    template: str,
    title: str,
    seen: Seen,
    who: Viewer,
    *,
    section: str | None = None,
    live: float | None = None,
    **values: Any,
) -> Response:
    """
    Answer with a page.

    :param request: the request.
    :param template: the page's template.
    :param title: the page's title.
    :param seen: the account.
    :param who: who asks.
    :param section: the name of the page in the navigation that it belongs to; ``None``: it is there itself.
    :param live: after how many seconds the page is read again, or later if it takes long; ``None``: never.
    :param values: what the template shows.
    """
    root = request.scope["root_path"]
    if live is not None:
        live = round(max(live, _SELDOM * (time.monotonic() - who.since)), 1)
    waiting = seen.account.ledger.overview.count_open(seen.account.name, seen.readable, _COUNTED)
    html = render(
        template,
        title=title,
        section=section or title.lower(),
        root=root,
        airflow=root.removesuffix(MOUNTED_AT),
        conn=seen.account.conn_id,
        seen=seen,
        live=live,
        waiting=f"{_COUNTED}+" if waiting >= _COUNTED else waiting,
        **values,
    )
    return HTMLResponse(html)


@router.get("/")
def start(request: Request) -> Response:
    """Lead to the first page."""
    return RedirectResponse(f"{request.scope['root_path']}/campaigns", 303)


@router.get("/campaigns")
def campaigns(
    request: Request,
    who: Who,
    conn: str | None = None,
    sort: Literal["newest", "oldest", "name", "active"] = "newest",
    state: Literal["", "running", "held"] = "",
    q: Annotated[str, Query(max_length=500)] = "",
    after: float | None = None,
    after_name: str | None = None,
) -> Response:
    """Show a page of campaigns."""
    seen = choose(request, who, conn)
    start_at = None if after is None else (after, after_name or "")
    found = seen.account.ledger.overview.campaigns(
        seen.account.name,
        seen.readable,
        sort=sort,
        state=state or None,
        named=q.strip() or None,
        after=start_at,
        limit=_CAMPAIGNS + 1,
    )
    shown = found[:_CAMPAIGNS]
    following = position(shown[-1], sort) if len(found) > _CAMPAIGNS else None
    runs = any(campaign.at_work for campaign in shown)
    return show(
        request,
        "campaigns.html",
        "Campaigns",
        seen,
        who,
        live=3.0 if runs else 20.0,
        campaigns=[_shown(seen.readable, campaign) for campaign in shown],
        sort=sort,
        state=state,
        q=q,
        following=following,
        is_first=start_at is None,
    )


@router.get("/campaign")
def campaign(
    request: Request,
    who: Who,
    scope: Annotated[str, Query(max_length=500)],
    conn: str | None = None,
    after: float | None = None,
    after_batch: str | None = None,
) -> Response:
    """Show one campaign."""
    seen = choose(request, who, conn)
    overview, account = seen.account.ledger.overview, seen.account.name
    found = overview.campaign(account, same_name(scope), seen.readable)
    if found is None:
        raise HTTPException(404, _NO_CAMPAIGN)
    start_at = None if after is None else (after, after_batch or "")
    batches = overview.batches(account, found.dedupe_scope, seen.readable, after=start_at, limit=_BATCHES + 1)
    shown = batches[:_BATCHES]
    last = shown[-1] if len(batches) > _BATCHES else None
    # The sends of a single batch are counted already: there may be a million.
    states = {shown[0].batch_id: found.states} if shown and found.batches == 1 else overview.states_of(shown)
    reasons = overview.reasons(account, found.dedupe_scope)
    return show(
        request,
        "campaign.html",
        found.dedupe_scope,
        seen,
        who,
        section="campaigns",
        live=3.0 if found.at_work else 20.0,
        campaign=found,
        last=_visible(seen.readable, found.last),
        reasons=reasons.most_common(),
        is_cut=reasons.total() >= LOOKED_AT,
        most=LOOKED_AT,
        batches=[(ran, states[ran.batch_id]) for ran in shown],
        tries=tries_of(shown),
        following=None if last is None else (last.created_at, last.batch_id),
        is_first=start_at is None,
    )


@router.get("/campaign/chart")
def chart(
    request: Request, who: Who, scope: Annotated[str, Query(max_length=500)], conn: str | None = None
) -> Response:
    """Give a part of the page of a campaign, which takes longer than the rest and changes less."""
    seen = choose(request, who, conn)
    overview, account = seen.account.ledger.overview, seen.account.name
    if not overview.may_read(account, same_name(scope), seen.readable):
        raise HTTPException(404, _NO_CAMPAIGN)
    return HTMLResponse(render("chart.html", line=overview.timeline(account, same_name(scope), _STEPS)))


@router.get("/run")
def run(
    request: Request,
    who: Who,
    dag_id: str,
    run_id: str,
    task_id: str | None = None,
    map_index: str | None = None,
) -> Response:
    """Show what a DAG run, or a task instance of it, has sent: its campaign, if it has one."""
    # Airflow leaves the name in braces where a task is not mapped.
    index = int(map_index) if map_index is not None and map_index.lstrip("-").isdecimal() else None
    root = request.scope["root_path"]
    found: list[tuple[Seen, Ran]] = []
    ledgers: set[tuple[str, str]] = set()
    for account in request.app.state.accounts.find().accounts:
        readable = who.readable(account.conn_id)
        if readable is None or not readable.has(dag_id):
            continue
        ledger = account.ledger
        if (ledger.identity.ledger_uuid, account.name) in ledgers:
            continue  # another connection to the same account
        ledgers.add((ledger.identity.ledger_uuid, account.name))
        seen = Seen(account, readable, (account.conn_id,), who.may("GET", account.conn_id))
        sent = ledger.overview.of_run(dag_id, run_id, task_id, index, limit=1_000)
        found += [(seen, ran) for name, ran in sent if name == account.name]
    scopes = {(seen.account.conn_id, ran.dedupe_scope): (seen, ran) for seen, ran in found}
    if len(scopes) == 1:
        (conn, scope), _ = scopes.popitem()
        return RedirectResponse(views.address(root, "campaign", conn=conn, scope=scope), 303)
    html = render(
        "run.html",
        title="What this run has sent",
        root=root,
        airflow=root.removesuffix(MOUNTED_AT),
        scopes=[(conn, ran) for (conn, _), (_, ran) in scopes.items()],
        live=5.0,
    )
    return HTMLResponse(html)


@router.get("/held")
def held(
    request: Request,
    who: Who,
    conn: str | None = None,
    scope: Annotated[str, Query(max_length=500)] = "",
    after: str = "",
) -> Response:
    """Show a page of the sends that somebody has to decide about."""
    seen = choose(request, who, conn)
    ledger = seen.account.ledger
    found = ledger.overview.open_sends(
        seen.account.name, seen.readable, dedupe_scope=scope or None, after=after, limit=_OPEN + 1
    )
    shown = found[:_OPEN]
    # What can be taken back is below the first page of what is open.
    can_be_undone = (
        ledger.overview.decided_sends(seen.account.name, seen.readable, dedupe_scope=scope or None, limit=_OPEN + 1)
        if not after
        else []
    )
    decided = can_be_undone[:_OPEN]
    return show(
        request,
        "held.html",
        "Held",
        seen,
        who,
        sends=[(one, ledger.airflow_key(one.record.send_key)) for one in shown],
        decided=[(one, ledger.airflow_key(one.open.record.send_key)) for one in decided],
        are_more_decided=len(can_be_undone) > _OPEN,
        decidable={
            one.record.send_key
            for one in (*shown, *(one.open for one in decided))
            if who.may_decide(one.ran.dag_id, seen.account.conn_id)
        },
        scope=scope,
        following=shown[-1].record.send_key if len(found) > _OPEN else None,
        is_first=not after,
        host=seen.account.hook.config.base_url,
    )


@router.get("/person")
def person(request: Request, who: Who, conn: str | None = None) -> Response:
    """Show the form that asks for a person; the answer is made by a POST, so that no address is in an address."""
    return show(request, "person.html", "Person", choose(request, who, conn), who)


@router.get("/account")
def account(request: Request, who: Who, conn: str | None = None) -> Response:
    """Show an account, to those who may see its connection."""
    seen = choose(request, who, conn)
    if not seen.is_visible:
        raise HTTPException(403, "Airflow does not let you see this connection.")
    overview, config = seen.account.ledger.overview, seen.account.hook.config
    stored = seen.account.ledger.tokens(config.identity, config.client_secret.get_secret_value()).read()
    posted, free_in = overview.rate(seen.account.name)
    return show(
        request,
        "account.html",
        "Account",
        seen,
        who,
        config=config,
        token=None if stored is None else stored[1],
        posted=posted,
        free_in=free_in,
        budgets=[
            (said, limit.name, None if used is None else views.budget(limit, used, currency))
            for limit, said, used, currency in overview.budgets(seen.account.name, config.spending)
        ],
        ledger=overview.versions(),
        may_test=may_test_connections() and who.may("POST", seen.account.conn_id),
    )


@router.get("/static/{name}")
def file(name: str) -> Response:
    """Give a file of style, script or icons."""
    found = static(name)
    if found is None:
        raise HTTPException(404, "There is no such file.")
    return Response(found[0], media_type=found[1], headers={"Cache-Control": "private, max-age=3600"})


def _visible(readable: Readable, ran: Ran | None) -> Ran | None:
    return ran if ran is not None and readable.has(ran.dag_id) else None


def _shown(readable: Readable, found: Any) -> tuple[Any, Ran | None]:
    """Return a campaign, and its last run if that may be seen."""
    return found, _visible(readable, found.last)
