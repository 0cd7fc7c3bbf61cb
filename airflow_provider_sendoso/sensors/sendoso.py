"""The sensor: waits until sends are delivered, failed or returned."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    BaseOperatorLink,
    PokeReturnValue,
)

from airflow_provider_sendoso.arguments.values import given, got, text
from airflow_provider_sendoso.exceptions import (
    TRANSIENT_ERRORS,
    SendosoConfigError,
    SendosoError,
    SendosoStatusError,
)
from airflow_provider_sendoso.links.sendoso import OnHoldLink, SendosoLink
from airflow_provider_sendoso.sensors.base import WaitingSensor
from airflow_provider_sendoso.sensors.events import SendosoEventSensor

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_sendoso.client.session import SendosoSession
    from airflow_provider_sendoso.runs.results_refresh import ResultsRefresh
    from airflow_provider_sendoso.waiting.goal import Goal
    from airflow_provider_sendoso.waiting.wait import Wait

__all__ = ["SendStatusSensor", "SendosoEventSensor"]

# Heavy imports are in the methods that need them, because Airflow parses a DAG file every few seconds.

_LONGEST_POKE = 60.0
"""Seconds that a poke may take, unless ``poke_interval`` is longer: Airflow checks the timeout between pokes only."""


_OF_SINGLE_SENDS = ("statuses", "status_words", "on_hold_ids")
"""Parts of a report that the task's result does not have."""


class _OutOfTime(Exception):
    """A poke has reached its time limit."""


class SendStatusSensor(WaitingSensor):
    """
    Wait for one send, for several sends, or for all sends of a batch or scope.

    A status at or beyond a target counts as reached: ``pending < processing < shipped < delivered``. A single send that
    fails fails the task at once, without retries. With several sends, the sensor waits for all of them; then
    ``min_delivered`` decides. Without any send it succeeds. An id that Sendoso does not know counts as failed, with the
    status ``not_found``. A send that Sendoso holds until a manager approves it is ``pending``: the wait goes on, and
    the log and a button of the task say so.

    A single send is checked every ``poke_interval``. Of several sends, a shipped one is checked at every twelfth poll
    (hourly, by default), any other after a quarter of its age, but not more often than at every second poll and not
    less often than hourly. The list of sends is read instead where that takes fewer requests. Statuses are stored in
    the ledger for the sends that it knows. Where the connection receives webhooks, a send is checked within seconds
    after one has named it, and otherwise after the connection's ``poll_with_webhooks`` at the soonest.

    :param send_id: one id, or a list of ids; for a campaign's send ``tracking:<code>`` or its id (templated). Give
        exactly one of ``send_id``, ``batch_id`` and ``dedupe_scope``.
    :param batch_id: a batch's id, as ``BatchSendOperator`` returned it (templated).
    :param dedupe_scope: a scope: all sends that the ledger records as sent in it (templated).
    :param target_statuses: the statuses to wait for, or words of Sendoso's own where a status is too coarse, like
        ``redeemed`` (templated).
    :param failed_statuses: statuses, or words of Sendoso's own, that are failures; ``()`` returns any terminal status,
        for branching (templated).
    :param min_delivered: share of the sends, from 0 to 1, that must have reached a target; ``None``: no send may have
        failed (templated).
    :param deferrable: wait in the triggerer; default: ``[operators] default_deferrable``.
    :param poke_interval: seconds or timedelta between two polls.
    :param results_table: a batch's ``results_table``; its column ``status`` is updated at most once an hour while the
        sensor waits, and when the wait ends, also after a timeout (templated).
    :param conn_id: the connection of that table (templated).
    :param sendoso_conn_id: the connection (templated).
    :return: for one send its status; for a list of at most 100 ids ``{id: status}``; for a longer list, a batch or a
        scope ``sends``, ``reached``, ``counts`` by status, ``failed``, at most 100 ``failed_ids``, and ``on_hold``, the
        number of sends that Sendoso holds.
    :raises SendosoStatusError: if too many sends failed or came back.
    :raises SendosoConfigError: if an argument is wrong, or if the ledger does not know the batch.
    :raises SendosoResultsError: if the results table could not be updated.
    """

    operator_extra_links: Sequence[BaseOperatorLink] = (SendosoLink(), OnHoldLink())
    template_fields: Sequence[str] = (
        "send_id",
        "batch_id",
        "dedupe_scope",
        "target_statuses",
        "failed_statuses",
        "min_delivered",
        "results_table",
        "conn_id",
        "sendoso_conn_id",
    )

    def __init__(
        self,
        *,
        send_id: str | Iterable[str] | None = None,
        batch_id: str | None = None,
        dedupe_scope: str | None = None,
        target_statuses: Sequence[str] = ("delivered",),
        failed_statuses: Sequence[str] = ("failed", "returned"),
        min_delivered: float | str | None = None,
        results_table: str | None = None,
        conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.send_id = send_id
        self.batch_id = batch_id
        self.dedupe_scope = dedupe_scope
        self.target_statuses = target_statuses
        self.failed_statuses = failed_statuses
        self.min_delivered = min_delivered
        self.results_table = results_table
        self.conn_id = conn_id
        self._linked: bool | None = None

    @cached_property
    def _wait(self) -> Wait:
        """The state of the wait in this process."""
        from airflow_provider_sendoso.waiting.wait import Wait

        return Wait(
            self.hook,
            self._goal(),
            float(self.poke_interval),
            send_ids=self._send_ids(),
            batch_id=self.batch_id,
            dedupe_scope=self.dedupe_scope,
        )

    def _begin(self, context: Context) -> None:
        self._check_arguments()
        SendosoLink().push(context, self.hook.config.base_url)

    def _wait_in_triggerer(self, context: Context) -> Any:
        from airflow_provider_sendoso.triggers.sendoso import SendStatusTrigger
        from airflow_provider_sendoso.waiting.watch import NAMED

        goal = self._goal()
        deadline = self._deadline(context)
        look = self._first_look(context)
        if look:
            return look.xcom_value
        send_ids, list_id = self._send_ids(), None
        if send_ids is not None and len(send_ids) > NAMED:
            # Without a ledger they have to be the trigger's arguments: Airflow carries 10,000 (measured).
            list_id = self.hook.keep_list(send_ids, self.timeout)
        self.defer(
            trigger=SendStatusTrigger(
                send_ids=send_ids if list_id is None else None,
                list_id=list_id,
                batch_id=self.batch_id,
                dedupe_scope=self.dedupe_scope,
                target_statuses=[str(target) for target in goal.targets],
                failed_statuses=[str(failure) for failure in goal.failed],
                poke_interval=self.poke_interval,
                deadline=deadline,
                results_table=self.results_table,
                conn_id=self.conn_id,
                sendoso_conn_id=self.sendoso_conn_id,
            ),
            method_name="execute_complete",
            timeout=self._patience(context),
        )

    def _first_look(self, context: Context) -> PokeReturnValue:
        """Poke with the error handling of Airflow's own loop, which a deferrable sensor bypasses."""
        try:
            return self._look(context, patient=False)
        except AirflowException as error:
            if self.silent_fail and not isinstance(error, AirflowFailException):
                self.log.error("The first look failed: %s", error)
                return PokeReturnValue(is_done=False)
            raise

    def poke(self, context: Context) -> PokeReturnValue:
        """Check the sends that are due, or between two polls those that webhooks have named."""
        if self._is_time(float(self.poke_interval)):
            look = self._look(context, patient=True)
        elif self._is_woken():
            look = self._look(context, patient=True, woken=True)
        else:
            look = PokeReturnValue(is_done=False)
        if not look and self._is_late(context):
            raise self._timed_out(self._wait.watch.report(self._wait.goal, named=self._wait.named))
        return look

    def _is_woken(self) -> bool:
        """Return whether webhooks have named sends that are waited for."""
        if self._wait.watch.dead_rounds:
            return False  # while Sendoso does not answer, webhooks must not make the wait give up sooner
        try:
            return bool(self._wait.recall_woken(self._wait.listen()))
        except TRANSIENT_ERRORS as error:
            self.log.warning("Could not look for webhooks; the next poll does without: %s", error)
            return False

    def _look(self, context: Context, *, patient: bool, woken: bool = False) -> PokeReturnValue:
        """
        Check the sends that are due.

        :param context: the task's context, for the link to sends on hold.
        :param patient: whether to check them if they are many; if not, that is left to the triggerer, which needs no
            worker.
        :param woken: whether only those are due that :meth:`_is_woken` has found.
        """
        from airflow_provider_sendoso.waiting.rounds import FEW

        wait = self._wait
        wait.goal.check_host(self.hook.config.base_url)
        try:
            due = [] if woken else wait.recall()
            if patient or len(due) <= FEW:
                self._ask(wait, self.hook.session)
        except TRANSIENT_ERRORS as error:
            wait.watch.fail_round(error)
        if woken and not wait.has_open:
            return self._look(context, patient=patient)  # has the ledger more sends by now?
        wait.complain()
        # In mode "reschedule" every poke is a new process, which cannot count; there only the timeout ends the wait.
        over = wait.is_over()
        report = wait.watch.report(wait.goal, named=wait.named)
        self._say(context, report)
        if not over:
            if self._results is not None:
                self._results.write_on_the_way(report, wait.watch.changes)
            return PokeReturnValue(is_done=False)
        self._refresh_results(report)
        return PokeReturnValue(is_done=True, xcom_value=self._conclude(report))

    def _ask(self, wait: Wait, session: SendosoSession) -> None:
        """Run one round; the sends that there is no time for are due in the next round."""
        until = time.monotonic() + min(max(_LONGEST_POKE, wait.every), self.timeout)

        def keep() -> None:
            if wait.has_news:
                wait.write()
            if time.monotonic() > until:
                raise _OutOfTime

        try:
            session.walk(wait.begin(), keep)
        except _OutOfTime:
            pass
        finally:
            wait.write()

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """
        Finish with the trigger's event; an unknown event fails the task.

        :param event: see :class:`~airflow_provider_sendoso.triggers.sendoso.SendStatusTrigger`.
        """
        self._linked = None  # the process of the first look may have made the button
        match event:
            case {"status": "settled", "report": Mapping() as report}:
                self._say(context, report)
                self._refresh_results(report)
                return self._conclude(report)
            case {"status": "timeout", "report": Mapping() as report}:
                self._say(context, report)
                raise self._timed_out(report)
            case {"status": "error", "message": str(message), "retryable": True}:
                raise SendosoError(message)
            case {"status": "error", "message": str(message)}:
                raise SendosoConfigError(message)  # what only a person can mend; a failed send is a report
            case _:
                raise SendosoError(f"The trigger sent an event that says nothing about the sends: {event!r}.")

    def _say(self, context: Context, report: Mapping[str, Any]) -> None:
        """Log the statuses, and link to the sends on hold while there are any."""
        from airflow_provider_sendoso.waiting.goal import status_line

        self.log.info("Sends by status: %s.", status_line(report))
        on_hold = bool(report.get("on_hold", 0))
        if on_hold != self._linked:
            OnHoldLink().push(context, self.hook.config.base_url if on_hold else "")
            self._linked = on_hold

    def _timed_out(self, report: Mapping[str, Any]) -> AirflowSensorTimeout:
        """Write the statuses that are known into the results table, and return the error that ends the wait."""
        try:
            self._refresh_results(report)
        except SendosoError as error:
            self.log.error("%s", error)  # the task fails with the timeout instead
        from airflow_provider_sendoso.waiting.goal import status_line

        ids = ", ".join(report.get("on_hold_ids", ()))
        what = f" On hold: {ids}; a manager approves or cancels them in Sendoso's Send Tracker." if ids else ""
        return AirflowSensorTimeout(
            f"After {self.timeout:g} s not all sends are settled. By status: {status_line(report)}.{what}"
        )

    def _goal(self) -> Goal:
        from airflow_provider_sendoso.waiting.goal import Goal

        return Goal.parse(self.target_statuses, self.failed_statuses)

    def _read_names(self) -> None:
        """Read what names the sends and tables, once the templates are rendered; wrong ones are refused."""
        for name in ("batch_id", "dedupe_scope", "results_table", "conn_id"):
            setattr(self, name, text(name, getattr(self, name)))

    def _check_arguments(self) -> None:
        self._read_names()
        given = [name for name in ("send_id", "batch_id", "dedupe_scope") if getattr(self, name) is not None]
        if len(given) != 1:
            what = " and ".join(given) or "none (perhaps an XCom that is not there)"
            raise SendosoConfigError(f"Give one of send_id, batch_id and dedupe_scope; got {what}.")
        self._share()
        self._send_ids()
        if self.results_table is not None and self.conn_id is None:
            raise SendosoConfigError("results_table needs conn_id, the connection of its database.")
        self._goal()

    def _share(self) -> float | None:
        if given(self.min_delivered) is None:
            return None
        try:
            share = float(str(self.min_delivered))
        except (TypeError, ValueError):
            share = -1.0
        if not 0 <= share <= 1:
            raise SendosoConfigError(f"min_delivered is {got(self.min_delivered)}; use a share from 0 to 1, like 0.95.")
        return share

    def _send_ids(self) -> list[str] | None:
        if self.send_id is None:
            return None
        several = isinstance(self.send_id, Iterable) and not isinstance(self.send_id, str | bytes | Mapping)
        ids = []
        for send_id in self.send_id if several else (self.send_id,):
            read = None if isinstance(send_id, str) and send_id[:1] in ("[", "{") else text("send_id", send_id)
            if read is None:
                raise SendosoConfigError(
                    f"send_id holds {got(send_id)}, which is no send's id. Pass a task's output, like thank.output, "
                    "rather than a template that renders it as text."
                )
            ids.append(read)
        return ids

    @cached_property
    def _results(self) -> ResultsRefresh | None:
        """The results table that the wait keeps up to date."""
        from airflow_provider_sendoso.runs.results_refresh import ResultsRefresh

        self._read_names()
        if self.results_table is None:
            return None
        return ResultsRefresh(self.hook, self.results_table, str(self.conn_id), self.batch_id, self.dedupe_scope)

    def _refresh_results(self, report: Mapping[str, Any]) -> None:
        if self.this_try is not None:
            self.this_try.check()
        if self._results is not None:
            self._results.write(report)

    def _conclude(self, report: Mapping[str, Any]) -> Any:
        """Return the task's result, or raise the error that fails it."""
        from airflow_provider_sendoso.waiting.goal import good_enough, status_line

        one = isinstance(self.send_id, str | int)
        share = None if one else self._share()
        if not good_enough(report, share):
            wanted = "none may fail" if share is None else f"at least {share:.0%} should"
            raise SendosoStatusError(
                f"{report['failed']} of {report['sends']} sends failed or came back ({status_line(report)}), and "
                f"{wanted}. First ids: {', '.join(report['failed_ids'])}. Look them up in Sendoso; a gift that came "
                "back is not sent again by itself."
            )
        if one:
            return next(iter(report["statuses"].values()))
        if report["statuses"] is not None:
            return dict(report["statuses"])
        return {name: value for name, value in report.items() if name not in _OF_SINGLE_SENDS}
