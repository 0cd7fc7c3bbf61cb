"""The base class of the sensors: the hook, one deadline for all tries, and which errors ``soft_fail`` skips."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseOperatorLink,
    BaseSensorOperator,
    conf,
)

from airflow_provider_sendoso import DEFAULT_CONN_ID
from airflow_provider_sendoso.exceptions import (
    SendosoError,
    SendosoLedgerError,
    SendosoStatusError,
    SendosoSupersededError,
)
from airflow_provider_sendoso.last_words import with_last_words
from airflow_provider_sendoso.links.sendoso import SendosoLink
from airflow_provider_sendoso.retries import for_this_airflow
from airflow_provider_sendoso.task_state import first_try, has_store, note, noted
from airflow_provider_sendoso.templates import RendersAuthorsTemplates

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_sendoso.hooks.sendoso import SendosoHook
    from airflow_provider_sendoso.ledger.tries import ThisTry

_GRACE = timedelta(minutes=5)
"""How long the scheduler waits beyond the trigger's own deadline, in case the triggerer is down."""

_FIRST_LOOK = "sendoso_first_look"


class WaitingSensor(RendersAuthorsTemplates, BaseSensorOperator):
    """Base of the sensors, which document the arguments themselves."""

    operator_extra_links: Sequence[BaseOperatorLink] = (SendosoLink(),)
    ui_color = "#e6f1f2"

    def __init__(
        self,
        *,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: timedelta | float = 300,
        sendoso_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **for_this_airflow(kwargs))
        self.deferrable = deferrable
        self.sendoso_conn_id = sendoso_conn_id
        self._until: float | None = None
        self.this_try: ThisTry | None = None
        self._poll_at = 0.0

    @cached_property
    def hook(self) -> SendosoHook:
        """The hook, created at the first use."""
        from airflow_provider_sendoso.hooks.sendoso import SendosoHook

        return SendosoHook(self.sendoso_conn_id)

    @with_last_words
    def execute(self, context: Context) -> Any:
        """Wait in the worker or in the triggerer."""
        with self._skipping():
            self._begin(context)
            self._begin_try(context)
            self._deadline(context)  # from here on, whatever becomes of the first look
            return self._wait_in_triggerer(context) if self.deferrable else super().execute(context)

    @with_last_words
    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume with the trigger's event."""
        with self._skipping():
            self._begin_try(context)
            return super().resume_execution(next_method, next_kwargs, context)

    def _begin_try(self, context: Context) -> None:
        """Supersede earlier tries that may still run; without a connection and a ledger, nothing is superseded."""
        from airflow_provider_sendoso.ledger.tries import ThisTry

        self.this_try = ThisTry()
        try:
            self.hook.begin_try(self.this_try, context.get("ti"))
        except SendosoError as error:
            self.log.warning("An earlier try of this task that may still run is not superseded: %s", error)

    def _begin(self, context: Context) -> None:
        """Check the arguments, and link the task to Sendoso."""
        raise NotImplementedError

    def _wait_in_triggerer(self, context: Context) -> Any:
        """Look once, and defer unless the wait is over."""
        raise NotImplementedError

    # -- webhooks ------------------------------------------------------------------------------------------------------

    def _get_next_poke_interval(self, *arguments: Any, **named: Any) -> float:
        """Return the seconds until the next poke: a few, where webhooks are heard of between two polls."""
        usual: float = super()._get_next_poke_interval(*arguments, **named)
        # In mode "reschedule" each poke is a new process, and with a back-off Airflow counts the pokes.
        if self.reschedule or self.exponential_backoff or not self._hears():
            return usual
        from airflow_provider_sendoso.waiting.wakeups import LOOK_EVERY

        return min(usual, LOOK_EVERY)

    def _hears(self) -> bool:
        """Return whether this sensor can hear of webhooks; of a connection that is wrong the poke tells."""
        try:
            return self.hook.rare_poll is not None
        except SendosoError:
            return False

    def _is_time(self, every: float) -> bool:
        """
        Return whether it is time for a poll, as every poke is where there are no webhooks to hear of.

        :param every: seconds between two polls.
        """
        if not self.reschedule and not self.exponential_backoff and self._hears() and time.monotonic() < self._poll_at:
            return False
        self._poll_at = time.monotonic() + every
        return True

    # -- the deadline --------------------------------------------------------------------------------------------------

    def _deadline(self, context: Context) -> float:
        """Return the end of the wait, in epoch seconds: ``timeout`` after the first look of all tries."""
        if self._until is None:
            self._until = time.time() + self.timeout - self._waited(context)
        return self._until

    def _is_late(self, context: Context) -> bool:
        """Return whether the time is over; Airflow's own check knows this try alone, except in mode ``reschedule``."""
        return time.time() > self._deadline(context)

    def _waited(self, context: Context) -> float:
        """Return the seconds since the first look of all tries since the last clear; 0 at the first look."""
        ti: Any = context.get("ti")
        if has_store(context):
            kept, now = noted(context, _FIRST_LOOK), time.time()
            if isinstance(kept, dict) and kept.get("try") == first_try(context):
                return max(0.0, now - float(kept["at"]))
            note(context, _FIRST_LOOK, {"try": first_try(context), "at": now})
            return 0.0
        if not isinstance(getattr(ti, "run_id", None), str):
            return 0.0
        map_index = ti.map_index if isinstance(ti.map_index, int) else -1
        ids = (ti.dag_id, ti.task_id, ti.run_id, map_index, first_try(context))
        config = self.hook.config
        name = hashlib.sha256(json.dumps([config.account, config.deployment, *ids]).encode()).hexdigest()[:32]
        try:
            return self.hook.waited(name, self.timeout)
        except SendosoLedgerError as error:
            self.log.warning("The timeout counts from now, and not from the first try: %s", error)
            return 0.0

    def _patience(self, context: Context) -> timedelta:
        """Return how long the scheduler waits for the trigger."""
        return timedelta(seconds=max(0.0, self._deadline(context) - time.time())) + _GRACE

    # -- soft_fail and never_fail --------------------------------------------------------------------------------------

    @contextmanager
    def _skipping(self) -> Iterator[None]:
        """Apply ``soft_fail`` and ``never_fail``, which Airflow also applies to what only a person can mend."""
        error: BaseException
        try:
            yield
            return
        except AirflowSkipException as skip:
            if skip.__cause__ is None:
                raise
            error = skip.__cause__
        except AirflowException as failure:
            if type(failure).__name__ == "AirflowRescheduleException":
                raise
            error = failure
        if self._may_skip(error) and not isinstance(error, SendosoSupersededError):
            raise AirflowSkipException(f"Skipped, as soft_fail or never_fail asks: {error}") from error
        raise error

    def _may_skip(self, error: BaseException) -> bool:
        """
        Return whether the task is skipped for an error.

        ``soft_fail`` skips a wait that did not come true; ``never_fail`` also skips what a retry could mend.
        """
        # Airflow 2 has no class for a trigger's timeout.
        untrue = isinstance(error, SendosoStatusError | AirflowSensorTimeout | AirflowTaskTimeout)
        untrue = untrue or str(error) == "Trigger/execution timeout"
        if self.soft_fail:
            return untrue
        return self.never_fail and (untrue or not isinstance(error, AirflowFailException))
