"""
What the processes of the tests have imported before they are forked: the fixture ``forkserver`` starts with it.

A task imports much of Airflow only when it looks up a connection, or reports its lineage. What each of many processes
would do by itself takes a quarter of a processor's second and more.
"""

from __future__ import annotations

import gc
import importlib
from contextlib import suppress

import obstore.store  # noqa: F401
import psycopg  # noqa: F401
import pymysql  # noqa: F401
import pytest  # noqa: F401
from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

import airflow_provider_sendoso.hooks.sendoso
import airflow_provider_sendoso.operators.sendoso
import airflow_provider_sendoso.runs.batch
import airflow_provider_sendoso.runs.egift_links
import airflow_provider_sendoso.sandbox
import airflow_provider_sendoso.sensors.sendoso  # noqa: F401

for name in (
    "airflow.providers.postgres.hooks.postgres",
    "airflow.providers.sqlite.hooks.sqlite",
    "airflow.sdk.execution_time.supervisor",
    "airflow_provider_sendoso.ledger.bucket.engine",
    "sqlalchemy.dialects.mysql.pymysql",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.postgresql.psycopg2",
    "sqlalchemy.dialects.sqlite.pysqlite",
):
    with suppress(ImportError):  # not every Airflow and SQLAlchemy has them all
        importlib.import_module(name)
get_hook_lineage_collector()
# What is here stays, and no child need look through it.
gc.collect()
gc.freeze()
