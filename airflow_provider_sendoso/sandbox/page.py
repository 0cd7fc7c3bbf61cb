"""The sandbox's page for a person: what it received, and how to connect Airflow to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
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


def render(
    *,
    state: dict[str, Any],
    gifts: Sequence[Gift],
    url: str,
    login: str,
    password: str,
    rate: int,
    paused: bool = False,
    only: str | None = None,
) -> str:
    """
    Write the page.

    :param state: what ``GET /sandbox/state`` answers
    :param gifts: the catalogue
    :param url: of the sandbox, as its reader sees it
    :param login: the client id
    :param password: the client secret
    :param rate: requests a second, 0 for no limit
    :param paused: whether it is to stay as it is
    :param only: the id of the one send to list
    """
    template = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    repeats = Counter(_duplicate_key(send) for send in state["sends"])
    listed = [send for send in state["sends"] if only in (None, send["id"])]
    here = {} if only is None else {"send": only}
    return Template(template).substitute(
        refresh="" if paused else _REFRESH,
        live="Paused" if paused else "Live",
        live_class="paused" if paused else "running",
        toggle=_link("Resume", here) if paused else _link("Pause", {"paused": ""} | here),
        tiles=_tiles(state, rate),
        statuses=_statuses(state["counts"]),
        duplicates=_duplicates(repeats),
        only="" if only is None else _only(only, found=bool(listed)),
        sends=_sends(listed, repeats, {gift.id: gift.name for gift in gifts}) if listed or only is None else "",
        faults=_faults(state["faults"]),
        fault_line=escape(f"curl -d '{_EXAMPLE_FAULT}' {url}/sandbox/faults"),
        export_line=escape(export_line(url, login, password)),
        gifts="".join(_gift(gift) for gift in gifts),
    )


def _only(send_id: str, found: bool) -> str:
    words = "Only" if found else "There is no send"
    return f'<p class="note">{words} <code>{escape(send_id)}</code>. {_link("All sends", {})}</p>'


def _link(words: str, query: dict[str, str]) -> str:
    return f'<a href="/{escape("?" + urlencode(query) if query else "")}">{words}</a>'


def _tiles(state: dict[str, Any], rate: int) -> str:
    peak = state["peak_per_second"]
    limit = f"limit {rate}" if rate else "no limit"
    return "".join(
        [
            _tile(len(state["sends"]), "Sends accepted", "nothing left this machine"),
            _tile(
                state["duplicates"],
                "Sent more than once",
                "same gift, same e-mail",
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


def _pill(status: str) -> str:
    return f'<span class="pill {escape(status)}">{escape(status)}</span>'


def _duplicate_key(send: dict[str, Any]) -> tuple[str, str]:
    return send["gift_id"], send["recipient"]["email"].casefold()


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


def _sends(sends: Sequence[dict[str, Any]], repeats: Counter[tuple[str, str]], names: dict[str, str]) -> str:
    if not sends:
        return '<p class="empty">Nothing yet. Connect Airflow as shown below and run a DAG.</p>'
    rows = "".join(
        _send(send, repeats[_duplicate_key(send)], names.get(send["gift_id"], "")) for send in sends[:_MAX_ROWS]
    )
    more = f'<p class="note">The newest {_MAX_ROWS} of {len(sends):,}.</p>' if len(sends) > _MAX_ROWS else ""
    return (
        '<div class="scroll"><table><thead><tr><th>Time (UTC)</th><th>Gift</th><th>Recipient</th>'
        f"<th>E-mail</th><th>Status</th><th>Metadata</th></tr></thead><tbody>{rows}</tbody></table></div>{more}"
    )


def _send(send: dict[str, Any], times: int, gift_name: str) -> str:
    recipient = send["recipient"]
    created = str(send["created_at"])
    variant = f" · {escape(str(send['variant_id']))}" if send["variant_id"] else ""
    badge = f'<span class="badge">{times}× sent</span>' if times > 1 else ""
    return (
        f'<tr class="{"repeated" if times > 1 else ""}">'
        f'<td class="time" title="{escape(send["id"])}"><time datetime="{created}">{created[11:19]}</time>'
        f"<small>{created[:10]}</small></td>"
        f"<td>{escape(gift_name)}<small>{escape(send['gift_id'])}{variant}</small></td>"
        f"<td>{escape(recipient['name'])}</td><td>{escape(recipient['email'])} {badge}</td>"
        f"<td>{_pill(send['status'])}</td><td>{_chips(send['metadata'].items())}</td></tr>"
    )


def _chips(pairs: Iterable[tuple[str, object]]) -> str:
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


def _gift(gift: Gift) -> str:
    variants = ", ".join(variant.id for variant in gift.variants) or "–"
    countries = gift.ship_to_countries
    where = ", ".join(countries) if len(countries) <= 4 else f"{len(countries)} countries"
    return (
        f"<tr><td><code>{escape(gift.id)}</code></td><td>{escape(gift.name)}</td><td>{escape(gift.category)}</td>"
        f'<td class="number">${gift.price:.2f}</td><td>{escape(gift.delivery_type)}</td>'
        f'<td title="{escape(", ".join(countries))}">{escape(where)}</td><td>{escape(variants)}</td></tr>'
    )
