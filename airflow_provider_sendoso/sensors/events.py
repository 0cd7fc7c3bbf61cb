"""The sensor that waits until Sendoso has something new; the polls are in ``events/polling.py``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, PokeReturnValue

from airflow_provider_sendoso.arguments.values import given, text
from airflow_provider_sendoso.exceptions import TRANSIENT_ERRORS, SendosoConfigError, SendosoError
from airflow_provider_sendoso.links.sendoso import SendosoLink
from airflow_provider_sendoso.sensors.base import WaitingSensor

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_sendoso.events.differences import Question
    from airflow_provider_sendoso.events.polling import EventWait
    from airflow_provider_sendoso.waiting.wakeups import Ear

# Heavy imports are in the methods that need them, because Airflow parses a DAG file every few seconds.


class SendosoEventSensor(WaitingSensor):
    """
    Wait until Sendoso has something new: a campaign, a group, a send, or a new status of a send.

    Objects that existed before the first poll are not events. From then on, a cursor in the ledger records what was
    seen: each event ends the wait of one run, and the next run resumes where the last one ended, however much later it
    starts. The retry of a killed try returns the same events again; so does a cleared run, unless more than four other
    runs of its cursor have received events since.

    Runs that wait at the same time share the events of their cursor: each event goes to one of them.

    :param object: ``touches``, ``groups``, ``return-addresses``, ``users``, ``sends`` (gift sends) or
        ``campaign_sends`` (the Send Tracker's) (templated).
    :param events: ``created``, and for sends ``status_changed`` (templated).
    :param statuses: the new statuses that count as an event; ``None``: all of them (templated).
    :param since: a moment; objects created since then are events even if they existed before the first poll
        (templated).
    :param cursor_name: name of the cursor; by default each task has its own. A new name starts a new cursor
        (templated).
    :param deferrable: wait in the triggerer; default: ``[operators] default_deferrable``.
    :param poke_interval: seconds or timedelta between two polls.
    :param sendoso_conn_id: the connection, which needs a ledger (templated).
    :return: ``object``, ``events`` (at most 100, each with ``object``, ``id``, ``event``, ``occurred_at`` and for sends
        ``status`` and ``previous_status``), ``counts`` of them, and ``left``, the number of events left for the next
        run.
    :raises SendosoConfigError: if an argument is wrong or there is no ledger.
    """

    template_fields: Sequence[str] = ("object", "events", "statuses", "since", "cursor_name", "sendoso_conn_id")

    def __init__(
        self,
        *,
        object: str,
        events: Sequence[str] = ("created",),
        statuses: Sequence[str] | None = None,
        since: datetime | str | float | None = None,
        cursor_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.object = object
        self.events = events
        self.statuses = statuses
        self.since = since
        self.cursor_name = cursor_name
        self._failures = 0
        self._ear: Ear | None = None
        self._woken = False
        self._rest_until = 0.0

    def _begin(self, context: Context) -> None:
        from airflow_provider_sendoso.events.polling import check_host

        check_host(self._question(), self.hook.config.base_url)
        SendosoLink().push(context, self.hook.config.base_url)

    def _wait_in_triggerer(self, context: Context) -> Any:
        from airflow_provider_sendoso.triggers.events import SendosoEventWaitTrigger

        question = self._question()
        deadline = self._deadline(context)
        report = self._wait(context).recall()
        if report is not None:
            return report
        self.defer(
            trigger=SendosoEventWaitTrigger(
                object=question.object,
                events=sorted(question.events),
                statuses=sorted(question.statuses),
                since=question.since,
                cursor_name=self._cursor_name(context),
                run=_run(context),
                poke_interval=self.poke_interval,
                deadline=deadline,
                sendoso_conn_id=self.sendoso_conn_id,
            ),
            method_name="execute_complete",
            timeout=self._patience(context),
        )

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once, if it is time for it or a webhook has named a send."""
        from airflow_provider_sendoso.waiting.watch import TRANSIENT_FAILURES, walk_pause

        if not self._calls_for_poll():
            return self._nothing_yet(context)
        began = time.monotonic()

        wait = self._wait(context)
        until = time.monotonic() + self.timeout

        def check() -> None:
            if time.monotonic() > until:
                raise AirflowSensorTimeout(f"After {self.timeout:g} s the list of {self.object} is not read yet.")

        try:
            report = wait.recall()
            if report is None:
                reading = self.hook.session.walk(wait.begin(), check)
                self._rest_until = began + walk_pause(reading.pages)
                report = wait.conclude(reading)
        except TRANSIENT_ERRORS as error:
            # In mode "reschedule" every poll is a new process and cannot count; only the timeout ends that wait.
            self._failures += 1
            if self._failures > TRANSIENT_FAILURES:
                raise
            self.log.warning("Could not poll for events, %d times in a row: %s", self._failures, error)
            return PokeReturnValue(is_done=False)
        self._failures = 0
        if report is None:
            return self._nothing_yet(context)
        self._say(report)
        return PokeReturnValue(is_done=True, xcom_value=report)

    def _nothing_yet(self, context: Context) -> PokeReturnValue:
        if self._is_late(context):
            raise AirflowSensorTimeout(f"After {self.timeout:g} s there is nothing new of {self.object}.")
        return PokeReturnValue(is_done=False)

    def _calls_for_poll(self) -> bool:
        """Return whether to poll now: the time has come, or a send has changed and the list was not read just now."""
        from airflow_provider_sendoso.events.words import SENDS
        from airflow_provider_sendoso.waiting.wakeups import Ear

        rare = self.hook.rare_poll if self.object in SENDS else None
        every = max(float(self.poke_interval), rare or 0.0)
        is_time = self._is_time(every)
        if rare is None:
            return is_time
        try:
            self._ear = self._ear or Ear(self.hook.ledger, self.hook.config.account)
            self._woken |= bool(self._ear.listen())
        except TRANSIENT_ERRORS as error:
            self.log.warning("Could not look for webhooks; the next poll does without: %s", error)
        if is_time or (self._woken and not self._failures and time.monotonic() >= self._rest_until):
            self._woken = False
            self._poll_at = time.monotonic() + every
            return True
        return False

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """
        Finish with the trigger's event; an unknown event fails the task.

        :param event: see ``SendosoEventWaitTrigger``.
        """
        match event:
            case {"status": "events", "report": Mapping() as report}:
                self._say(report)
                return dict(report)
            case {"status": "timeout"}:
                raise AirflowSensorTimeout(f"After {self.timeout:g} s there is nothing new of {self.object}.")
            case {"status": "error", "message": str(message), "retryable": True}:
                raise SendosoError(message)
            case {"status": "error", "message": str(message)}:
                raise SendosoConfigError(message)
            case _:
                raise SendosoError(f"The trigger sent an event that says nothing about {self.object}: {event!r}.")

    def _say(self, report: Mapping[str, Any]) -> None:
        self.log.info("New of %s: %s; %d left for the next run.", report["object"], report["counts"], report["left"])

    def _question(self) -> Question:
        from airflow_provider_sendoso.events.differences import Question

        return Question.parse(self.object, self.events, given(self.statuses), self.since)

    def _wait(self, context: Context) -> EventWait:
        from airflow_provider_sendoso.events.polling import EventWait

        return EventWait(self.hook, self._question(), self._cursor_name(context), _run(context))

    def _cursor_name(self, context: Context) -> str:
        name = text("cursor_name", self.cursor_name)
        if name is not None:
            return name
        ti = context["ti"]
        mapped = f"/{ti.map_index}" if isinstance(ti.map_index, int) and ti.map_index >= 0 else ""
        return f"{ti.dag_id}/{ti.task_id}{mapped}"


def _run(context: Context) -> str:
    """Name the task's run; all its tries have the same name, also after a clear."""
    ti = context["ti"]
    return "/".join(map(str, (ti.dag_id, ti.task_id, ti.run_id, ti.map_index)))
