"""Two spellings of a scope that a person takes for one are one scope, or the second is refused."""

from __future__ import annotations

import pytest

from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.runs.base import make_batch

CONFIG = ClientConfig(base_url="https://app.sendoso.com", client_id="one", client_secret="secret", account="acme")


def scope(given: str) -> str:
    return make_batch(CONFIG, given, "email", "dag", "task", "run").dedupe_scope


@pytest.mark.parametrize("given", [" q4-café", "q4-café\n", "\tq4-café ", "q4-cafe\u0301"])
def test_a_scope_with_blanks_around_it_or_decomposed_letters_is_the_same_scope(given: str) -> None:
    assert scope(given) == scope("q4-café")


@pytest.mark.parametrize("given", ["q4\u3164", "q4\u2800gifts", "q4\ufe0f", "q\u17b44"])
def test_a_scope_that_looks_like_another_one_is_refused(given: str) -> None:
    with pytest.raises(SendosoConfigError, match="another scope than it looks"):
        scope(given)
