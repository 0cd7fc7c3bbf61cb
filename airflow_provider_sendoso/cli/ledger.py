"""The commands for the ledger: list open sends, show a send, and record a person's decision."""

from __future__ import annotations

import getpass
import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.hooks.connections import ledger_engine
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger import Ledger, decisions, grants
from airflow_provider_sendoso.ledger.copying import Move
from airflow_provider_sendoso.ledger.ddl import DIALECTS, ddl
from airflow_provider_sendoso.ledger.records import Record
from airflow_provider_sendoso.models import normalise_key
from airflow_provider_sendoso.models.identity import same_name
from airflow_provider_sendoso.sending.existing import check_send_id

Say = Callable[[str], None]


def list_sends(
    conn_id: str,
    *,
    dedupe_scope: str | None,
    batch_id: str | None,
    states: Sequence[str] | None,
    reason: str | None,
    limit: int,
    as_json: bool,
    say: Say = print,
) -> None:
    """
    Show the sends in the given states, by default those of unknown outcome.

    :param conn_id: the Sendoso connection, which determines account and ledger.
    :param dedupe_scope: only the sends of this scope.
    :param batch_id: only the sends of this batch.
    :param states: the states, in any case.
    :param reason: only the sends with this reason.
    :param limit: the most sends to show; all are counted.
    :param as_json: print JSON.
    :param say: prints a line.
    :raises SendosoConfigError: if a state, the batch or the scope is unknown.
    """
    wanted = decisions.states_named(states)
    ledger, account = _open(conn_id)
    found = decisions.find(ledger, account, wanted, batch_id=batch_id, dedupe_scope=dedupe_scope, reason=reason)
    shown: list[dict[str, Any]] = []
    counts: Counter[tuple[str, str | None]] = Counter()
    for record in found:
        counts[record.state.value, record.reason] += 1
        if len(shown) < limit:
            shown.append(decisions.describe(ledger, record))
    total = sum(counts.values())
    counted = [{"state": state, "reason": why, "sends": number} for (state, why), number in counts.most_common()]
    if as_json:
        say(json.dumps({"sends": shown, "total": total, "counts": counted}))
        return
    for described in shown:
        say("\n".join(decisions.as_lines(described)))
    if len(shown) < total:
        say(f"… and {total - len(shown)} more: raise --limit, or narrow the list.")
    for count in counted:
        say(f"{count['sends']:>8}  {count['state']}  {count['reason'] or ''}".rstrip())
    said = "/".join(wanted)
    say(f"{total:>8}  in all, of account {account!r}, in ledger {ledger.identity.ledger_uuid} ({said}).")


def list_scopes(conn_id: str, *, as_json: bool, say: Say = print) -> None:
    """
    Show the scopes of the account, the oldest first, and how many sends of each are in which state.

    :param conn_id: the Sendoso connection, which says whose scopes and which ledger.
    :param as_json: for a program to read.
    :param say: shows a line.
    """
    ledger, account = _open(conn_id)
    scopes = ledger.sends.scope_counts(account)
    told = [
        {
            "dedupe_scope": scope.dedupe_scope,
            "recipient_key": scope.recipient_key,
            "created_at": decisions.moment(scope.created_at),
            "last_posted_at": decisions.moment(scope.last_posted_at),
            "sends": {state.value: count for state, count in sorted(scope.sends.items())},
        }
        for scope in scopes
    ]
    if as_json:
        say(json.dumps(told))
        return
    for scope in scopes:
        counts = ", ".join(f"{state.value} {count}" for state, count in sorted(scope.sends.items())) or "no sends"
        last = decisions.moment(scope.last_posted_at)
        posted = f", last posted at {last}" if last else ""
        since = decisions.moment(scope.created_at)
        say(f"{scope.dedupe_scope}\n    {counts}; by {scope.recipient_key}, since {since}{posted}")
    say(f"{len(told)} scopes of account {account!r}, in ledger {ledger.identity.ledger_uuid}.")


def budget(conn_id: str, *, dedupe_scope: str | None, as_json: bool, say: Say = print) -> None:
    """
    Show what was used of this day, of this month, and of the scopes that have limits, and what is left.

    :param conn_id: the Sendoso connection, which says whose budget, and has the limits of days and months.
    :param dedupe_scope: only this scope, whether it has limits or not.
    :param as_json: print JSON.
    :param say: prints a line.
    :raises SendosoConfigError: if the ledger does not know the scope.
    """
    hook = SendosoHook(conn_id)
    ledger, account = hook.ledger, hook.config.account
    lines = ledger.budget.lines(account, hook.config.spending, dedupe_scope and same_name(dedupe_scope))
    if not lines:
        raise SendosoConfigError(
            f"The ledger {ledger.identity.ledger_uuid} knows no dedupe_scope={dedupe_scope} of the account {account!r}."
        )
    if as_json:
        say(json.dumps({"account": account, "budget": [line.as_json() for line in lines]}))
        return
    for line in lines:
        say("\n".join(line.as_lines()))
    say(f"Costs are estimates. Account {account!r}, ledger {ledger.identity.ledger_uuid}.")


def show(
    conn_id: str,
    *,
    send_key: str | None,
    send_id: str | None,
    recipient: str | None,
    dedupe_scope: str | None,
    as_json: bool,
    say: Say = print,
) -> None:
    """
    Show the ledger's record of a send, and the decisions about it.

    :param conn_id: the Sendoso connection.
    :param send_key: the send's key or its first digits; give exactly one of ``send_key``, ``send_id`` and
        ``recipient``.
    :param send_id: Sendoso's id of the send.
    :param recipient: the recipient's key within the scope, like an e-mail; it is hashed and not shown.
    :param dedupe_scope: the scope of ``recipient``; ``None`` searches all scopes of the account.
    :param as_json: print JSON.
    :param say: prints a line.
    :raises SendosoConfigError: if the ledger does not know the send.
    """
    if [send_key, send_id, recipient].count(None) != 2:
        raise SendosoConfigError("Name the send by one of --send-key, --send-id and --recipient.")
    if dedupe_scope is not None and recipient is None:
        raise SendosoConfigError("--scope goes with --recipient; keys and ids name one send by themselves.")
    ledger, account = _open(conn_id)
    if send_key is not None:
        records = decisions.read(ledger, account, [send_key])
    elif send_id is not None:
        found = ledger.sends.find(account, send_id)
        records = [] if found is None else [found]
    else:
        scopes = ledger.sends.scopes(account) if dedupe_scope is None else [dedupe_scope]
        keys = _keys(ledger, account, scopes, [recipient or ""])
        records = [known[key] for key in keys if (known := ledger.sends.read([key]))]
    if not records:
        what = f"send id {send_id}" if send_id is not None else "send to that recipient"
        where = f" in scope {dedupe_scope!r}" if dedupe_scope is not None else ""
        raise SendosoConfigError(
            f"The ledger {ledger.identity.ledger_uuid} knows no {what}{where} of the account {account!r}: it was never "
            "tried with this ledger. (A replacement is found by its key or id only.)"
        )
    told = [_whole(ledger, record) for record in records]
    if as_json:
        say(json.dumps(told))
        return
    for number, send in enumerate(told):
        say(("\n" if number else "") + _as_text(send))


def resolve(
    conn_id: str,
    *,
    send_keys: Sequence[str],
    recipients: Sequence[str],
    batch_id: str | None,
    dedupe_scope: str | None,
    reason: str | None,
    states: Sequence[str] | None,
    sent: bool,
    not_sent: bool,
    send_id: str | None,
    why: str,
    by: str | None,
    yes: bool,
    say: Say = print,
    ask: Callable[[str], str] = input,
) -> None:
    """
    Record a person's decision about sends of unknown outcome.

    :param conn_id: the Sendoso connection.
    :param send_keys: the sends' keys or their first digits.
    :param recipients: recipients' keys within ``dedupe_scope``; they are hashed and not shown.
    :param batch_id: instead, all open sends of a batch.
    :param dedupe_scope: the scope of ``recipients``; without any recipient, all open sends of the scope.
    :param reason: of a batch or a scope, only the sends with this reason.
    :param states: of a batch or a scope, the sends in these states instead of the open ones, like ``refused``.
    :param sent: the gifts were found; give exactly one of ``sent`` and ``not_sent``.
    :param not_sent: the gifts did not go out, and the next run sends them.
    :param send_id: Sendoso's id of the gift, for a single send.
    :param why: how the person knows.
    :param by: the person; ``None`` takes the user of the operating system.
    :param yes: do not ask for confirmation.
    :param say: prints a line.
    :param ask: asks for a line.
    :raises SendosoConfigError: if the arguments are ambiguous or wrong; nothing was changed.
    :raises SendosoError: if nothing could be resolved, or if some sends can be resolved only later.
    """
    if sent == not_sent:
        raise SendosoConfigError("Say what you have found out: either --sent or --not-sent. Nothing was changed.")
    if recipients and dedupe_scope is None:
        raise SendosoConfigError("--recipient needs --scope: only together they name a send. Nothing was changed.")
    resolution = "sent" if sent else "not_sent"
    decision = decisions.Decision.parse(resolution, why=why, resolved_by=by or _os_user(), send_id=send_id)
    named = [*send_keys, *recipients]
    scope = None if recipients else dedupe_scope
    decisions.check_selection(send_keys=named, batch_id=batch_id, dedupe_scope=scope, reason=reason)
    wanted = decisions.states_named(states)
    hook = SendosoHook(conn_id)
    ledger, account = hook.ledger, hook.config.account
    keys = [*send_keys]
    for number, recipient in enumerate(recipients, 1):
        (key,) = _keys(ledger, account, [dedupe_scope or ""], [recipient])
        if not ledger.sends.read([key]):
            raise SendosoConfigError(
                f"The ledger {ledger.identity.ledger_uuid} knows no send to --recipient number {number} in scope "
                f"{dedupe_scope!r} of the account {account!r}. Nothing was changed."
            )
        keys.append(key)
    which: dict[str, Any] = {"batch_id": batch_id, "dedupe_scope": scope, "reason": reason, "states": wanted}
    records = decisions.select(ledger, account, send_keys=keys, **which)
    if send_id is not None and len(records) == 1:
        check_send_id(hook.session, ledger, records[0], send_id)
    if not keys and not yes:
        _confirm(records, resolution, say, ask)
    tally = decisions.resolve(ledger, records, decision)
    failure = tally.failure()
    if failure is not None:
        raise failure
    for line in tally.lines():
        say(line)


def print_ddl(dialect: str, role: str | None = None, say: Say = print) -> None:
    """
    Print the statements that create an empty ledger, or the grants for its roles; needs no connection.

    :param dialect: a key of :data:`~airflow_provider_sendoso.ledger.ddl.DIALECTS`.
    :param role: the name of the role that runs DAGs; ``None`` prints the tables.
    :param say: prints a line.
    :raises SendosoConfigError: if a ledger cannot be on that database.
    """
    if dialect not in DIALECTS:
        raise SendosoConfigError(f"There is no ledger on {dialect!r}; use one of {', '.join(DIALECTS)}.")
    if role is None:
        say(ddl(dialect))
        return
    if dialect == "sqlite":
        raise SendosoConfigError("There are no roles on 'sqlite': who may write to the file may do everything.")
    for purpose, statements in grants.grants(dialect, role):
        say("\n".join((f"-- {purpose}", *statements, "")))


def copy(from_conn_id: str, to_conn_id: str, say: Say = print) -> None:
    """
    Move a ledger to another database or bucket.

    :param from_conn_id: the connection of the ledger as it is.
    :param to_conn_id: the connection of an empty database or bucket, or of one that an earlier call has begun to fill.
    :param say: shows a line.
    :raises SendosoError: as :meth:`~airflow_provider_sendoso.ledger.copying.Move.run` says.
    """
    if from_conn_id == to_conn_id:
        raise SendosoConfigError("--from and --to are the same connection. Nothing was changed.")
    Move(ledger_engine(from_conn_id), ledger_engine(to_conn_id)).run(say)


def _open(conn_id: str) -> tuple[Ledger, str]:
    hook = SendosoHook(conn_id)
    return hook.ledger, hook.config.account


def _keys(ledger: Ledger, account: str, scopes: Sequence[str], recipients: Sequence[str]) -> list[str]:
    keys = []
    for recipient in recipients:
        try:
            recipient_key = normalise_key(recipient)
        except ValueError:
            recipient_key = None
        if recipient_key is None:
            raise SendosoConfigError("--recipient is empty, or not text. Nothing was changed.")
        keys += [ledger.send_key(account, scope, recipient_key) for scope in scopes]
    return keys


def _whole(ledger: Ledger, record: Record) -> dict[str, Any]:
    batch = ledger.sends.batch(record.batch_id)
    instance = ("dag_id", "task_id", "run_id", "map_index", "recipient_key")
    return (
        decisions.describe(ledger, record)
        | {"account": record.account}
        | {name: getattr(batch, name, None) for name in instance}
        | {
            "resolutions": [
                {
                    "resolved_at": decisions.moment(one.resolved_at),
                    "from_state": one.from_state.value,
                    "to_state": one.to_state.value,
                    "send_id": one.send_id,
                    "resolved_by": one.resolved_by,
                    "why": one.why,
                }
                for one in ledger.resolutions.history(record.send_key)
            ]
        }
    )


def _as_text(send: dict[str, Any]) -> str:
    lines = [f"{name:<14}{value}" for name, value in send.items() if name != "resolutions" and value is not None]
    for one in send["resolutions"]:
        sent_as = f", send id {one['send_id']}" if one["send_id"] is not None else ""
        lines.append(f"{one['resolved_at']}  {one['from_state']} -> {one['to_state']}{sent_as}")
        lines.append(f"    by {one['resolved_by']}: {one['why']}")
    return "\n".join(lines)


def _confirm(records: Sequence[Record], resolution: str, say: Say, ask: Callable[[str], str]) -> None:
    for (state, reason), number in Counter((record.state.value, record.reason) for record in records).most_common():
        say(f"{number:>8}  {state}  {reason or ''}".rstrip())
    consequence = "they count as sent" if resolution == "sent" else "the next run SENDS THEM AGAIN"
    try:
        answer = ask(f"Resolve these {len(records)} sends as {resolution}, so that {consequence}? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise SendosoConfigError("Not confirmed. Nothing was changed.")


def _os_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user of a container may have no name
        raise SendosoConfigError("The operating system knows no name for you: use --by. Nothing was changed.") from None
