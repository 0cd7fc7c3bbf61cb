"""The connection's limit on sends, which applies to a batch, a single gift and a hook's raw calls alike."""

from __future__ import annotations

from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.exceptions import SendosoLimitError


def too_many(sends: int, limit: str) -> str:
    """
    Return the message of a limit on the number of sends that is exceeded.

    :param sends: the number of sends that exceeds the limit.
    :param limit: the name and value of the limit.
    """
    made = "1 send" if sends == 1 else f"{sends} sends"
    return f"It would make {made}, more than {limit}."


def limit_error(refusal: str) -> SendosoLimitError:
    """
    Return the error for an exceeded limit; Airflow does not retry it.

    :param refusal: the message, which names the limit.
    """
    return SendosoLimitError(f"{refusal} Nothing was sent by this try.")


def check_ceiling(config: ClientConfig, sends: int) -> None:
    """
    Raise an error if so many sends may not go through a connection; see :func:`over_ceiling`.

    :raises SendosoLimitError: naming the ceiling; nothing was sent.
    """
    refused = over_ceiling(config, sends)
    if refused is not None:
        raise refused


def check_uncounted(config: ClientConfig, sends: int) -> None:
    """
    Raise an error if so many sends may not go through a connection beside the ledger, which does not count them.

    :raises SendosoLimitError: naming the ceiling, or the limit that cannot be kept; nothing was sent.
    """
    check_ceiling(config, sends)
    limited = [name for name, most in vars(config.spending).items() if most is not None]
    if limited:
        raise SendosoLimitError(
            f"The connection sets {', '.join(limited)}, and this call does not go through the ledger, which keeps such "
            "limits. Use SendGiftOperator, BatchSendOperator or EgiftLinksOperator. Nothing was sent."
        )


def over_ceiling(config: ClientConfig, sends: int) -> SendosoLimitError | None:
    """
    Return why so many sends may not go through a connection; ``None`` if they may.

    :param config: the connection; its ``max_sends_per_batch`` is the ceiling, and with 0 nothing may be sent.
    :param sends: the number of sends of one batch in all its tries, 1 for a single gift; 0 if this try would post
        nothing.
    """
    ceiling = config.max_sends_per_batch
    if ceiling is None or sends <= ceiling:
        return None
    return limit_error(too_many(sends, f"the connection's max_sends_per_batch={ceiling}"))
