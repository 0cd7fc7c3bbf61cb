"""
A local stand-in for Sendoso's HTTP API: for trying a DAG, for the demo, and for the tests.

Nothing is sent to anyone. Run it with ``python -m airflow_provider_sendoso.sandbox``, or inside a test::

    with Sandbox(step=0.2) as sandbox:
        ...  # point the connection's host at sandbox.url
"""

from __future__ import annotations

from airflow_provider_sendoso.sandbox.server import Sandbox

__all__ = ["Sandbox"]
