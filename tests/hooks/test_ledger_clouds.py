"""A ledger on Azure, by Azurite, and on Google's protocol; in ``make test-clouds``, which installs both providers."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseHook
from gcs_front import gcs_front
from moto.server import ThreadedMotoServer
from ports import free_ports

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoLedgerError
from airflow_provider_sendoso.hooks.connections import open_ledger
from airflow_provider_sendoso.ledger import Ledger

CONN_ID = "sendoso_ledger"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The one key that Azurite knows; Microsoft publishes it."""


@pytest.fixture(scope="session")
def azurite() -> Iterator[str]:
    """Azurite, which npm installs beside Python's packages; the URL of its one account."""
    blob = pytest.importorskip("azure.storage.blob", reason="Airflow's provider of Azure is installed by test-clouds")
    folder = Path(sys.prefix) / "azurite"
    program = folder / "node_modules" / ".bin" / "azurite-blob"
    if not program.exists():
        subprocess.run(["npm", "install", "--silent", "--prefix", folder, "azurite"], check=True, timeout=300)
    [port] = free_ports()
    quiet = ["--silent", "--disableTelemetry", "--inMemoryPersistence", "--skipApiVersionCheck"]
    server = subprocess.Popen([program, "--blobPort", str(port), *quiet])
    url = f"http://127.0.0.1:{port}/devstoreaccount1"
    client = blob.BlobServiceClient(url, credential=AZURITE_KEY)
    for attempt in range(100):
        try:
            client.create_container("gifts")
            break
        except Exception:
            assert attempt < 99
            time.sleep(0.1)
    yield url
    server.kill()
    server.wait()


@pytest.fixture(scope="session")
def google() -> Iterator[str]:
    """Google's protocol, in front of moto's S3."""
    pytest.importorskip("airflow.providers.google", reason="Airflow's provider of Google is installed by test-clouds")
    import boto3

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    boto3.client(
        "s3", endpoint_url=url, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
    ).create_bucket(Bucket="gifts")
    with gcs_front(url) as front:
        yield front
    server.stop()


@pytest.fixture(params=["azure key", "azure sas", "google"])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    prefix = tmp_path.name
    if request.param == "google":
        extra = {"endpoint_url": request.getfixturevalue("google"), "is_anonymous": True}
        return {"conn_type": "google_cloud_platform", "extra": extra | {"ledger": f"gs://gifts/{prefix}"}}
    url = request.getfixturevalue("azurite")
    extra = {"ledger": f"abfs://gifts/{prefix}"}
    made = {"conn_type": "wasb", "login": "devstoreaccount1", "host": url, "password": AZURITE_KEY, "extra": extra}
    if request.param == "azure sas":
        from datetime import UTC, datetime, timedelta

        from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

        rights = AccountSasPermissions(read=True, write=True, list=True, create=True)
        until = datetime.now(UTC) + timedelta(hours=1)
        kinds = ResourceTypes(container=True, object=True)
        extra["sas_token"] = generate_account_sas("devstoreaccount1", AZURITE_KEY, kinds, rights, until)
        del made["password"]
    return made


@pytest.fixture
def another(
    connection: dict[str, Any], set_connection: Callable[..., None], forget_ledgers: Callable[[], None]
) -> Callable[[], Ledger]:
    """Opens the ledger as another process does."""

    def open_it() -> Ledger:
        set_connection(CONN_ID, connection)
        forget_ledgers()
        return open_ledger(CONN_ID, BaseHook.get_connection(CONN_ID))

    return open_it


def test_two_processes_have_one_ledger_and_one_order(another: Callable[[], Ledger]) -> None:
    one, two = another(), another()
    assert one.identity == two.identity
    assert one.cursors.write("name", 0, "first")
    assert not two.cursors.write("name", 0, "second"), "the other has written version 1 already"
    assert two.cursors.write("name", 1, "second")
    assert one.cursors.read("name").text == another().cursors.read("name").text == "second"


def test_an_object_is_created_once(another: Callable[[], Ledger]) -> None:
    replica = another()._database._replica
    assert replica is not None
    assert replica._objects.create("log/000000009999", b"one")
    assert not replica._objects.create("log/000000009999", b"two")
    assert replica._objects.read("log/000000009999") == b"one"


def test_a_bucket_that_is_not_there_is_an_error_that_names_no_secret(
    another: Callable[[], Ledger], connection: dict[str, Any]
) -> None:
    connection["extra"]["ledger"] = connection["extra"]["ledger"].replace("gifts", "nobody-made-it")
    with pytest.raises((SendosoConfigError, SendosoLedgerError), match="nobody-made-it") as caught:
        another()
    assert AZURITE_KEY not in str(caught.value)
    assert "sig=" not in str(caught.value)
