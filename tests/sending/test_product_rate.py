"""The limit of the marketplace and of SmartSend, as the server counts it: several processes share it, and it alone."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from typing import Any

import pytest
from trying import go, people, read_on, sendoso_connection

from airflow_provider_sendoso.sandbox import Sandbox

PRODUCTS = "/api/v3/marketplace/products/send"
SMART = "/api/v3/smartsend/recommendations/send"
OWN = ("/api/v3/marketplace/", "/api/v3/smartsend/")
EACH = 32
GIFTS = 60


@pytest.mark.slow  # a minute has to pass
@pytest.mark.parametrize("ledger_connection", ["postgresql"], indirect=True)
def test_processes_share_a_hundred_requests_a_minute_and_neither_reads_nor_waits_starve_sends(
    ledger: dict[str, Any], set_connection: Callable[..., None], forkserver: ForkServerContext
) -> None:
    with Sandbox(step=0.1, rate=10, marketplace_rate=100) as sandbox:
        connection = sendoso_connection(sandbox, timeout=60, scope="public write marketplace smartsend")
        set_connection("sendoso_default", connection)
        everybody, results = people(3 * EACH + GIFTS), forkserver.Queue()
        kinds = [{"marketplace_variant_id": "var-tea"}, {"marketplace_variant_id": "var-pen"}, {"smart_send": True}]
        batches = [{"recipients": everybody[n * EACH : (n + 1) * EACH], "gift_id": None, **kinds[n]} for n in range(3)]
        batches.append({"recipients": everybody[3 * EACH :]})
        connections = {"sendoso_default": connection, "sendoso_ledger": ledger}
        processes = [
            forkserver.Process(target=go, args=(connections, results, f"run-{n}", changes | {"max_in_flight": 4}))
            for n, changes in enumerate(batches)
        ]

        readers = [forkserver.Process(target=read_on, args=(connections,)) for _ in range(3)]
        for process in (*processes, *readers):
            process.start()
        try:
            ends = sorted(results.get(timeout=400) for _ in processes)
        finally:
            for process in (*readers, *processes):
                process.kill()
                process.join()
        requests = sandbox.requests
    assert ends == [*((f"run-{n}", "", {"sent": EACH}) for n in range(3)), ("run-3", "", {"sent": GIFTS})]
    own = [request for request in requests if request.path.startswith(OWN)]
    at = [request.received_at for request in own]
    assert [request.path for request in own if request.status == 429] == []
    most = max(sum(begin <= one < begin + 60.0 for one in at) for begin in at)
    sends = [request.received_at for request in own if request.path in (PRODUCTS, SMART)]
    assert most <= 100
    assert len(sends) == 3 * EACH
    assert most >= 80, "the limit was not reached, so that it was kept says nothing"
    # While sends wait, reads have one slot in five; first come, first served would be one for each send.
    reads = sum(request.method == "GET" and sends[0] < request.received_at < sends[-1] for request in own)
    assert reads <= 0.5 * len(sends)
    # Gifts of the catalogue do not wait behind products.
    gifts = [
        request.received_at for request in requests if request.path == "/api/v3/sends" and request.method == "POST"
    ]
    assert sum(one < gifts[-1] for one in sends) < 2 * EACH
