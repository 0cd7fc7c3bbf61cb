"""The errors a DAG author can catch; each says whether a gift may have gone out.

What retrying cannot mend is also an ``AirflowFailException``, so that Airflow does not spend retries on it.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException


class SendosoError(AirflowException):
    """Anything this provider raises."""


class SendosoConfigError(SendosoError, AirflowFailException):
    """The connection, the ledger's connection or an argument is wrong; nothing was sent."""


class SendosoRowsError(SendosoError, AirflowFailException):
    """The rows of a batch are not such that it may go ahead or count as a success; the message says what was sent."""


class SendosoLimitError(SendosoError, AirflowFailException):
    """A batch would send more, cost more, or be another one than was allowed; nothing of it was sent by this try."""


class SendosoStatusError(SendosoError, AirflowFailException):
    """Sends that were waited for have failed or came back."""


class SendosoNotReachedError(SendosoError):
    """Some rows were not reached, and no gift went out for them; a retry goes on with them."""


class SendosoLedgerError(SendosoError):
    """The ledger database did not answer or refused a statement; retrying may help."""


class SendosoResultsError(SendosoError):
    """
    A table of the author's could not be written, of results or of what was landed; retrying may help.

    What was sent is in the ledger.
    """


class SendosoSpoolError(SendosoError):
    """
    The worker's temporary disk could not keep the rows of a task; retrying may help.

    What was sent is in the ledger.
    """


class SendosoConnectionError(SendosoError):
    """Sendoso could not be reached; nothing was sent."""


class SendOutcomeUnknownError(SendosoError, AirflowFailException):
    """
    A send was posted and its outcome is not known: the gift may have gone out.

    Never retried, because Sendoso processes every duplicate it is sent (published).
    """


class SendHeldError(SendosoError, AirflowFailException):
    """Sends are held: their outcome is not known, and nothing is sent again on a guess."""


class SendosoApiError(SendosoError):
    """
    Sendoso answered a request with an error.

    :param status_code: the HTTP status of the answer.
    :param message: what was asked and the API's words, the request's own values replaced by ``<field>``.
    :param request_id: the answer's ``X-Request-Id``, where it had one.
    """

    def __init__(self, status_code: int, message: str, request_id: str | None = None) -> None:
        super().__init__(status_code, message, request_id)
        self.status_code: int = status_code  # type: ignore[assignment]  # AirflowException's is its own API's
        self.message = message
        self.request_id = request_id

    def serialize(self) -> tuple[str, Any, dict[str, Any]]:
        """Return what the error is made again from; Airflow's own takes a message only."""
        return f"{type(self).__module__}.{type(self).__qualname__}", self.args, {}

    def __str__(self) -> str:
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

    :param retry_after: seconds that the answer asked to wait; ``None`` where it did not say.
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
    """5xx, or an answer that is not the API's: the far side, or a proxy before it, is not well."""


TRANSIENT_ERRORS = (SendosoConnectionError, SendosoServerError, SendosoRateLimitError, SendosoLedgerError)
"""What may pass by itself, and what a wait survives a few times in a row."""
