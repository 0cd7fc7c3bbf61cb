"""The errors that a DAG author can catch; each says whether a gift may have gone out.

An error that a retry cannot fix is also an ``AirflowFailException``, so that Airflow does not retry the task.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException


class SendosoError(AirflowException):
    """Base class of all errors that this provider raises."""

    so_far = ""
    """What a task had sent when this error ended it; the part that raises does not know that, and the task adds it."""

    report: tuple[str, ...] = ()
    """The lines with which the log of a failed batch ends."""

    def __str__(self) -> str:
        said = self._said()
        if not self.so_far:
            return said
        return f"{said}{'' if said.endswith(('.', '!', '?')) else '.'} {self.so_far}"

    def _said(self) -> str:
        return super().__str__()


class SendosoConfigError(SendosoError, AirflowFailException):
    """The connection, the ledger's connection or an argument is wrong; nothing was sent."""


class SendosoRowsError(SendosoError, AirflowFailException):
    """The rows of a batch do not allow it to start or to count as a success; the message says what was sent."""


class SendosoLimitError(SendosoError, AirflowFailException):
    """
    A batch or a single gift exceeds a limit, or a batch differs from the approved one.

    The message says what this try has sent: nothing, or where the ledger keeps the limit, all that fits in it.
    """

    limit: str | None = None
    """The argument or the field of the connection, where the ledger keeps the limit."""

    may_fit_soon = False
    """Whether the send fits if those that other threads and processes are posting at this moment are refused."""


class SendosoStatusError(SendosoError, AirflowFailException):
    """Sends that a sensor waited for have failed or came back."""


class SendosoNotReachedError(SendosoError):
    """Some rows were not reached, and no gift went out for them; a retry continues with them."""


class SendosoSupersededError(SendosoError):
    """A newer try of the same task has begun, so this one has stopped and changes nothing more; nothing is lost."""


class SendosoLedgerError(SendosoError):
    """The ledger database did not answer or refused a statement; retrying may help."""


class SendosoResultsError(SendosoError):
    """
    A results table, links table or landing table could not be written; retrying may help.

    The ledger holds what was sent.
    """


class SendosoSpoolError(SendosoError):
    """
    The worker's temporary disk could not store the rows of a task; retrying may help.

    The ledger holds what was sent.
    """


class SendosoConnectionError(SendosoError):
    """Sendoso could not be reached; nothing was sent."""


class SendOutcomeUnknownError(SendosoError, AirflowFailException):
    """
    A send was posted and its outcome is not known: the gift may have gone out.

    Airflow does not retry this error, because Sendoso processes every duplicate it is sent (published).
    """


class SendHeldError(SendosoError, AirflowFailException):
    """Sends are held: their outcome is not known, and they are not sent again on a guess."""


class SendosoApiError(SendosoError):
    """
    Sendoso answered a request with an error.

    :param status_code: the HTTP status of the answer.
    :param message: the request and the API's words, with the request's own values replaced by ``<field>``.
    :param request_id: the answer's ``X-Request-Id``, if it had one.
    """

    def __init__(self, status_code: int, message: str, request_id: str | None = None) -> None:
        super().__init__(status_code, message, request_id)
        self.status_code: int = status_code  # type: ignore[assignment]  # Airflow declares it for its own API
        self.message = message
        self.request_id = request_id

    def serialize(self) -> tuple[str, Any, dict[str, Any]]:
        """Return the arguments that rebuild the error; Airflow's own method would only keep a message."""
        return f"{type(self).__module__}.{type(self).__qualname__}", self.args, {}

    def _said(self) -> str:
        return self.message if self.request_id is None else f"{self.message} (request id {self.request_id})"


class SendosoBadRequestError(SendosoApiError, AirflowFailException):
    """400: an invalid address or a missing required field (seed)."""


class SendosoAuthError(SendosoApiError, AirflowFailException):
    """401 after the token was renewed, or 403."""


class SendosoNotFoundError(SendosoApiError, AirflowFailException):
    """404: no such gift or send (seed)."""


class SendosoUnprocessableError(SendosoApiError, AirflowFailException):
    """422: an eGift to an invalid e-mail, a gift not eligible in that country (seed)."""


class SendosoRateLimitError(SendosoApiError):
    """
    429: more requests than the account's rate allows.

    :param retry_after: seconds that the answer asked to wait; ``None`` if it did not say.
    """

    def __init__(
        self,
        status_code: int,
        message: str,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(status_code, message, request_id)
        self.args = (status_code, message, request_id, retry_after)
        self.retry_after = retry_after


class SendosoServerError(SendosoApiError):
    """5xx, or an answer that is not the API's: Sendoso or a proxy in front of it has a fault."""


TRANSIENT_ERRORS = (SendosoConnectionError, SendosoServerError, SendosoRateLimitError, SendosoLedgerError)
"""Errors that may disappear by themselves; a wait tolerates a few of them in a row."""
