"""Sends of unknown outcome while Sendoso cannot be asked what became of them: they are held and fail the task."""

from __future__ import annotations

import pytest

from airflow_provider_sendoso.client.answers import Exchange, Phase
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.exceptions import SendHeldError, SendOutcomeUnknownError

SENDS = "/api/v3/sends"


def test_a_gift_of_unknown_outcome_fails_the_task_while_the_list_of_sends_fails(sendoso, ledger, gift, execute):
    sendoso.fault("drop_after", method="POST", path=SENDS)
    sendoso.fault("error_before", times=100, method="GET")
    with pytest.raises(SendOutcomeUnknownError):
        execute(gift())


def test_a_gift_of_unknown_outcome_fails_the_task_when_sendoso_goes_down_after_the_post(
    sendoso, ledger, gift, execute, monkeypatch
):
    exchange = SendosoSession._exchange

    def lose_the_answer(self, request, token, over_at):
        answer = exchange(self, request, token, over_at)
        if request.path == SENDS:
            sendoso.stop()
            return Exchange(Phase.LOST, error="ReadTimeout")
        return answer

    monkeypatch.setattr(SendosoSession, "_exchange", lose_the_answer)
    with pytest.raises(SendOutcomeUnknownError):
        execute(gift())


def test_a_batch_whose_last_send_is_unknown_fails_with_it_held_while_the_list_of_sends_fails(
    sendoso, ledger, batch, execute, people
):
    sendoso.fault("drop_after", method="POST", path=SENDS)
    sendoso.fault("error_before", times=100, method="GET")
    with pytest.raises(SendHeldError):
        execute(batch(recipients=people(1)))


def test_a_batch_whose_last_five_sends_are_unknown_holds_all_five(sendoso, ledger, batch, execute, people):
    sendoso.fault("drop_before", times=5, method="POST", path=SENDS)
    assert execute(batch(recipients=people(5), on_held="continue"))["held"] == 5


@pytest.mark.parametrize("body", [{"id": ["x"]}, {"send": {"id": {}}}])
def test_an_accepted_send_whose_id_is_not_text_is_held(sendoso, ledger, batch, execute, body):
    sendoso.fault("status", method="POST", path=SENDS, status=201, body=body)
    summary = execute(batch(on_held="continue"))
    assert (summary["held"], summary["sent"]) == (1, 2)


def test_a_batch_goes_on_after_an_unknown_send_though_the_catalogue_answers_403(sendoso, ledger, batch, execute):
    sendoso.fault("drop_before", method="POST", path=SENDS)
    sendoso.fault("status", times=100, method="GET", path="/api/v3/gifts", status=403)
    assert execute(batch(on_held="continue"))["sent"] == 2
