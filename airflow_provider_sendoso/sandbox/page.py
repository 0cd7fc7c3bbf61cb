"""The sandbox's web page: what the sandbox has received, and how to connect Airflow to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from string import Template
from typing import Any
from urllib.parse import urlencode

from airflow_provider_sendoso.sandbox.catalogue import Gift
from airflow_provider_sendoso.sandbox.connection import export_line

_MAX_ROWS = 200
_EXAMPLE_FAULT = '{"fault": "drop_after", "method": "POST", "path": "/api/v3/sends"}'
_REFRESH = '<meta http-equiv="refresh" content="3">'


@dataclass(frozen=True)
class _Line:
    """
    One send in the table: a gift's or a campaign's.

    :param names: the names by which the page can be asked for this send alone
    :param key: the value that two sends share if they are the same gift to the same person; its first part is shown
    :param status: one of the six statuses, which decides the colour
    :param word: the status in the API's word
    """

    names: tuple[str, ...]
    key: tuple[str, str]
    gift: str
    variant: str
    recipient: str
    email: str
    status: str
    word: str
    created_at: str
    pairs: tuple[tuple[str, object], ...]


def render(
    *,
    state: dict[str, Any],
    gifts: Sequence[Gift],
    touches: Sequence[Mapping[str, Any]],
    url: str,
    login: str,
    password: str,
    rate: int,
    paused: bool = False,
    only: str | None = None,
) -> str:
    """
    Return the page as HTML.

    :param state: the answer of ``GET /sandbox/state``
    :param gifts: the catalogue
    :param touches: the campaigns
    :param url: the address of the sandbox, as the reader's browser knows it
    :param login: the client id
    :param password: the client secret
    :param rate: requests a second, 0 for no limit
    :param paused: whether the page does not reload itself
    :param only: the id or the tracking code of the one send to list
    """
    template = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    lines = _lines(state, {gift.id: gift.name for gift in gifts})
    repeats = Counter(line.key for line in lines)
    listed = [line for line in lines if only is None or only in line.names]
    here = {} if only is None else {"send": only}
    return Template(template).substitute(
        refresh="" if paused else _REFRESH,
        live="Paused" if paused else "Live",
        live_class="paused" if paused else "running",
        toggle=_link("Resume", here) if paused else _link("Pause", {"paused": ""} | here),
        tiles=_tiles(state, len(lines), rate),
        statuses=_statuses(state["counts"]),
        duplicates=_duplicates(repeats),
        only="" if only is None else _only(only, found=bool(listed)),
        sends=_sends(listed, repeats) if listed or only is None else "",
        faults=_faults(state["faults"]),
        webhooks=_webhooks(state["webhooks"]),
        webhook_url=escape(state["webhooks"]["url"] or ""),
        webhook_secret=escape(state["webhooks"]["secret"]),
        fault_line=escape(f"curl -d '{_EXAMPLE_FAULT}' {url}/sandbox/faults"),
        export_line=escape(export_line(url, login, password)),
        gifts="".join(_gift(gift) for gift in gifts),
        touches=_chips((touch["id"], f"{touch.get('name')} · {touch.get('delivery_type')}") for touch in touches),
    )


def _lines(state: dict[str, Any], gift_names: dict[str, str]) -> list[_Line]:
    """Return both kinds of sends in one list, newest first."""
    gifts = [_gift_line(send, gift_names.get(send["gift_id"], "")) for send in state["sends"]]
    campaigns = [_campaign_line(send) for send in state["campaign_sends"]]
    return sorted([*gifts, *campaigns], key=lambda line: line.created_at, reverse=True)


def _gift_line(send: dict[str, Any], gift_name: str) -> _Line:
    recipient = send["recipient"]
    return _Line(
        names=(send["id"],),
        key=(send["gift_id"], recipient["email"].casefold()),
        gift=gift_name,
        variant=str(send["variant_id"] or ""),
        recipient=recipient["name"],
        email=recipient["email"],
        status=send["status"],
        word=send["status"],
        created_at=send["created_at"],
        pairs=tuple(send["metadata"].items()),
    )


def _campaign_line(send: dict[str, Any]) -> _Line:
    recipient, code = send["recipient"], send["tracking_code"]
    return _Line(
        names=(str(send["id"]), code),
        key=(f"touch {send['touch']['id']}" if send["touch"] else send["variant_id"], recipient["email"].casefold()),
        gift=str(send["touch"]["name"] if send["touch"] else send["variant_id"]),
        variant="",
        recipient=str(recipient["name"] or ""),
        email=recipient["email"],
        status=send["delivery_status"],
        word=send["status"],
        created_at=send["created_at"],
        pairs=(("tracking_code", code),),
    )


def _only(send_id: str, found: bool) -> str:
    words = "Only" if found else "There is no send"
    return f'<p class="note">{words} <code>{escape(send_id)}</code>. {_link("All sends", {})}</p>'


def _link(words: str, query: dict[str, str]) -> str:
    return f'<a href="/{escape("?" + urlencode(query) if query else "")}">{words}</a>'


def _tiles(state: dict[str, Any], sends: int, rate: int) -> str:
    peak = state["peak_per_second"]
    limit = f"limit {rate}" if rate else "no limit"
    return "".join(
        [
            _tile(sends, "Sends accepted", "nothing left this machine"),
            _tile(
                state["duplicates"],
                "Sent more than once",
                "same gift or campaign, same e-mail",
                "bad" if state["duplicates"] else "",
            ),
            _tile(state["requests"], "Requests", f"{state['unanswered']} without an answer"),
            _tile(
                state["refused"],
                "Refusals",
                f"{state['throttled']} of them for going too fast",
                "warn" if state["throttled"] else "",
            ),
            _tile(peak, "Busiest second", f"requests; {limit}", "warn" if rate and peak > rate else ""),
        ]
    )


def _tile(number: int, title: str, note: str, mood: str = "") -> str:
    return f'<div class="tile {mood}"><b>{number:,}</b><span>{title}</span><small>{escape(note)}</small></div>'


def _statuses(counts: dict[str, int]) -> str:
    return "".join(f"<li>{_pill(status)} <b>{count:,}</b></li>" for status, count in counts.items())


def _pill(status: str, word: str | None = None) -> str:
    return f'<span class="pill {escape(status)}">{escape(status if word is None else word)}</span>'


def _duplicates(repeats: Counter[tuple[str, str]]) -> str:
    found = [(key, count) for key, count in repeats.items() if count > 1]
    if not found:
        return ""
    items = "".join(
        f"<li><b>{count}×</b> <code>{escape(gift)}</code> to {escape(email)}</li>"
        for (gift, email), count in found[:_MAX_ROWS]
    )
    return (
        '<section class="alarm" role="alert"><h2>Sent more than once</h2>'
        "<p>Sendoso processes every duplicate it receives. In the real world each of these people would get "
        f"more than one parcel, and each parcel would be charged.</p><ul>{items}</ul></section>"
    )


def _sends(lines: Sequence[_Line], repeats: Counter[tuple[str, str]]) -> str:
    if not lines:
        return '<p class="empty">Nothing yet. Connect Airflow as shown below and run a DAG.</p>'
    rows = "".join(_send(line, repeats[line.key]) for line in lines[:_MAX_ROWS])
    more = f'<p class="note">The newest {_MAX_ROWS} of {len(lines):,}.</p>' if len(lines) > _MAX_ROWS else ""
    return (
        '<div class="scroll"><table><thead><tr><th>Time (UTC)</th><th>Gift</th><th>Recipient</th>'
        f"<th>E-mail</th><th>Status</th><th>Metadata</th></tr></thead><tbody>{rows}</tbody></table></div>{more}"
    )


def _send(line: _Line, times: int) -> str:
    created = line.created_at
    variant = f" · {escape(line.variant)}" if line.variant else ""
    badge = f'<span class="badge">{times}× sent</span>' if times > 1 else ""
    return (
        f'<tr class="{"repeated" if times > 1 else ""}">'
        f'<td class="time" title="{escape(line.names[0])}"><time datetime="{created}">{created[11:19]}</time>'
        f"<small>{created[:10]}</small></td>"
        f"<td>{escape(line.gift)}<small>{escape(line.key[0])}{variant}</small></td>"
        f"<td>{escape(line.recipient)}</td><td>{escape(line.email)} {badge}</td>"
        f"<td>{_pill(line.status, line.word)}</td><td>{_chips(line.pairs)}</td></tr>"
    )


def _chips(pairs: Iterable[tuple[object, object]]) -> str:
    return "".join(f'<span class="chip"><i>{escape(str(key))}</i> {escape(str(value))}</span>' for key, value in pairs)


def _faults(faults: Sequence[dict[str, Any]]) -> str:
    if not faults:
        return '<p class="empty">None: it behaves.</p>'
    return f'<ul class="faults">{"".join(_fault(fault) for fault in faults)}</ul>'


def _fault(fault: dict[str, Any]) -> str:
    left = f"for {fault['seconds']:.1f} s" if fault["times"] is None else f"{fault['times']}× more"
    where = f"{fault['method'] or 'any method'} {fault['path'] or 'any path'}"
    shown = ("fault", "times", "seconds", "method", "path")
    options = _chips((key, value) for key, value in fault.items() if key not in shown)
    return f"<li><code>{escape(fault['fault'])}</code> {left} · {escape(where)} {options}</li>"


def _webhooks(webhooks: dict[str, Any]) -> str:
    if webhooks["url"] is None:
        return '<p class="empty">Nobody has subscribed.</p>'
    lines = "".join(
        f"<li><code>{escape(one['id'])}</code> {escape(one['send_gid'])} · "
        f"{'no answer' if one['status'] is None else one['status']} {escape(one['fault'] or '')}</li>"
        for one in webhooks["last"]
    )
    return f'<p>{webhooks["deliveries"]:,} deliveries; the last:</p><ul class="faults">{lines}</ul>'


def _gift(gift: Gift) -> str:
    variants = ", ".join(variant.id for variant in gift.variants) or "–"
    countries = gift.ship_to_countries
    where = ", ".join(countries) if len(countries) <= 4 else f"{len(countries)} countries"
    return (
        f"<tr><td><code>{escape(gift.id)}</code></td><td>{escape(gift.name)}</td><td>{escape(gift.category)}</td>"
        f'<td class="number">${gift.price:.2f}</td><td>{escape(gift.delivery_type)}</td>'
        f'<td title="{escape(", ".join(countries))}">{escape(where)}</td><td>{escape(variants)}</td></tr>'
    )
