"""Which try of a task began last: a try that was taken for dead can wake up while the next one runs, or after it."""

from __future__ import annotations

import logging
import uuid

from airflow_provider_sendoso.exceptions import SendosoLedgerError, SendosoSupersededError
from airflow_provider_sendoso.ledger.cursors import Cursors

log = logging.getLogger(__name__)


class Tries:
    """
    Stores for each task instance the try that began last.

    :param cursors: where it is stored, under a name that no event sensor's cursor has.
    """

    def __init__(self, cursors: Cursors) -> None:
        self._cursors = cursors

    def begin(self, task: str, try_id: str) -> None:
        """
        Store that a try has begun, which supersedes all earlier tries of the task instance.

        A try that was frozen before it came here may come after the next one: that one stays the newest.

        :param task: a hash that names the task instance; of a batch, its id.
        :param try_id: another one for each process that works on the task instance; it begins with the try's number.
        """
        name = f"try:{task}"
        while True:
            newest = self._cursors.read(name)
            if _number(newest.text) > _number(try_id) or self._cursors.write(name, newest.version, try_id):
                return

    def newest(self, task: str) -> str | None:
        """Return the id of the try that began last; ``None`` if none has begun."""
        return self._cursors.read(f"try:{task}").text


class ThisTry:
    """
    The try that this process runs, and whether a newer one of the same task instance has begun.

    Airflow begins the next try beside a process that it takes for dead. If that process goes on, it must not overwrite
    what the next try says about the same sends. Until :meth:`begin` is called, nothing supersedes this try.
    """

    def __init__(self) -> None:
        self._id = uuid.uuid4().hex
        self._tries: Tries | None = None
        self._task = ""
        self._superseded = False

    def begin(self, tries: Tries, task: str, number: int = 0) -> None:
        """
        Supersede all earlier tries.

        :param tries: of the ledger.
        :param task: a hash that names the task instance.
        :param number: Airflow's number of this try; a try that is resumed or rescheduled keeps it.
        :raises SendosoSupersededError: if a try of a higher number has begun.
        """
        self._id = f"{number}:{self._id}"
        tries.begin(task, self._id)
        self._tries, self._task = tries, task
        self.check()

    @property
    def begun(self) -> bool:
        """Whether this try has superseded all earlier ones."""
        return self._tries is not None

    def superseded(self) -> bool:
        """Return whether a newer try has begun; ``False`` if the ledger does not answer."""
        if self._tries is not None and not self._superseded:
            try:
                self._superseded = self._tries.newest(self._task) != self._id
            except SendosoLedgerError as error:
                log.warning("Whether a newer try of this task has begun is not known: %s", error)
        return self._superseded

    def check(self) -> None:
        """
        End this try if it is superseded.

        :raises SendosoSupersededError: if a newer try has begun.
        """
        if self.superseded():
            raise SendosoSupersededError(
                "A newer try of this task has begun: this one was frozen, or taken for dead. It posts nothing more and "
                "pushes and writes no results; those of the newer try stand. Nobody is sent a second gift."
            )


def _number(try_id: str | None) -> int:
    """Return the number of a try; 0 for one that a release before numbers has stored."""
    number, colon, _ = (try_id or "").partition(":")
    return int(number) if colon and number.isdecimal() else 0
