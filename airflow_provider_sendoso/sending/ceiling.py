"""The connection's ceiling on sends, for all that goes through it: a batch, a single gift, a hook's raw calls."""

from __future__ import annotations

from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.exceptions import SendosoLimitError


def too_many(sends: int, limit: str) -> str:
    """
    Say that a limit on the number of sends is exceeded.

    :param sends: how many it would be.
    :param limit: its name and value.
    """
    made = "1 send" if sends == 1 else f"{sends} sends"
    return f"It would make {made}, more than {limit}."


def limit_error(refusal: str) -> SendosoLimitError:
    """
    Make the error of an exceeded limit; Airflow does not retry it.

    :param refusal: which limit, and by what.
    """
    return SendosoLimitError(f"{refusal} Nothing was sent by this try.")


def check_ceiling(config: ClientConfig, sends: int) -> None:
    """
    Refuse what may not be sent through a connection; see :func:`over_ceiling`.

    :raises SendosoLimitError: naming the ceiling; nothing was sent.
    """
    refused = over_ceiling(config, sends)
    if refused is not None:
        raise refused


def over_ceiling(config: ClientConfig, sends: int) -> SendosoLimitError | None:
    """
    Say why so much may not be sent through a connection; ``None`` if it may.

    :param config: the connection; its ``max_sends_per_batch`` is the ceiling, and with 0 nothing may be sent.
    :param sends: those of one batch in all its tries, where 1 is a single gift; 0 if this try would post nothing.
    """
    ceiling = config.max_sends_per_batch
    if ceiling is None or sends <= ceiling:
        return None
    return limit_error(too_many(sends, f"the connection's max_sends_per_batch={ceiling}"))
