"""The errors: which Airflow retries, and that they survive a process boundary."""

from __future__ import annotations

import copy
import inspect
import json
import pickle

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from airflow.serialization.serialized_objects import BaseSerialization

from airflow_provider_sendoso import exceptions
from airflow_provider_sendoso.exceptions import (
    TRANSIENT_ERRORS,
    SendHeldError,
    SendosoApiError,
    SendosoAuthError,
    SendosoBadRequestError,
    SendosoConfigError,
    SendosoConnectionError,
    SendosoError,
    SendosoLedgerError,
    SendosoLimitError,
    SendosoNotFoundError,
    SendosoNotReachedError,
    SendosoRateLimitError,
    SendosoResultsError,
    SendosoRowsError,
    SendosoServerError,
    SendosoSpoolError,
    SendosoStatusError,
    SendosoSupersededError,
    SendosoUnprocessableError,
    SendOutcomeUnknownError,
)

NOT_RETRIED = {
    SendosoConfigError,
    SendosoRowsError,
    SendosoLimitError,
    SendosoStatusError,
    SendOutcomeUnknownError,
    SendHeldError,
    SendosoBadRequestError,
    SendosoAuthError,
    SendosoNotFoundError,
    SendosoUnprocessableError,
}
RETRIED = {
    SendosoError,
    SendosoNotReachedError,
    SendosoLedgerError,
    SendosoResultsError,
    SendosoSpoolError,
    SendosoSupersededError,
    SendosoConnectionError,
    SendosoApiError,
    SendosoRateLimitError,
    SendosoServerError,
}
ALL = {kind for _, kind in inspect.getmembers(exceptions, inspect.isclass) if kind.__module__ == exceptions.__name__}


def make(kind: type[SendosoError]) -> SendosoError:
    if issubclass(kind, SendosoRateLimitError):
        return kind(429, "too fast", "r-1", 7.0)
    return kind(418, "what was said", "r-1") if issubclass(kind, SendosoApiError) else kind("what was said")


def airflow(error: SendosoError) -> SendosoError:
    """Serialise it as Airflow does, between a triggerer and a worker."""
    text = json.dumps(BaseSerialization.serialize(error))
    return BaseSerialization.deserialize(json.loads(text))


def test_every_error_is_listed_as_retried_or_not():
    assert ALL == NOT_RETRIED | RETRIED


@pytest.mark.parametrize("kind", sorted(ALL, key=lambda kind: kind.__name__))
class TestEach:
    def test_every_error_is_an_airflow_exception_of_this_provider(self, kind):
        assert issubclass(kind, SendosoError)
        assert issubclass(kind, AirflowException)

    def test_an_error_is_retried_only_where_that_may_help(self, kind):
        assert issubclass(kind, AirflowFailException) is (kind in NOT_RETRIED)

    @pytest.mark.parametrize(
        "again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy, airflow]
    )
    def test_an_error_survives_copying_pickling_and_airflows_serialisation(self, kind, again):
        error = make(kind)
        twin = again(error)
        assert type(twin) is kind
        assert (str(twin), vars(twin), twin.args) == (str(error), vars(error), error.args)


def test_a_wait_survives_exactly_the_transient_errors():
    assert set(TRANSIENT_ERRORS) == {
        SendosoConnectionError,
        SendosoServerError,
        SendosoRateLimitError,
        SendosoLedgerError,
    }
    assert not any(issubclass(kind, AirflowFailException) for kind in TRANSIENT_ERRORS)


class TestApiError:
    def test_an_api_error_has_status_message_and_request_id(self):
        error = SendosoNotFoundError(404, "GET /x answered 404")
        assert (str(error), error.status_code, error.message, error.request_id) == (
            "GET /x answered 404",
            404,
            "GET /x answered 404",
            None,
        )

    def test_an_api_error_with_a_request_id_says_it(self):
        assert str(SendosoServerError(500, "No", "r-1")) == "No (request id r-1)"

    @pytest.mark.parametrize("seconds", [None, 0.0, 7.5])
    def test_a_rate_limit_error_has_the_seconds_to_wait(self, seconds):
        assert SendosoRateLimitError(429, "No", None, seconds).retry_after == seconds
