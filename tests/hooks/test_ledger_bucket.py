"""Connections to a ledger in a bucket: what they need, what is refused, and S3's settings, by moto's server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from airflow.providers.common.compat.sdk import BaseHook
from botocore.credentials import RefreshableCredentials
from moto.server import ThreadedMotoServer

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoLedgerError
from airflow_provider_sendoso.hooks.bucket_settings import bad_settings
from airflow_provider_sendoso.hooks.connections import open_ledger
from airflow_provider_sendoso.hooks.ledger_bucket import open_bucket

CONN_ID = "sendoso_ledger"


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A client of an S3 server of this machine."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    server.stop()


@pytest.fixture
def bucket(s3: Any, request: pytest.FixtureRequest) -> str:
    name = f"gifts-{abs(hash(request.node.name))}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def connect(s3: Any, set_connection: Callable[..., None]) -> Callable[..., Any]:
    """Makes the ledger's connection as Airflow's users do, and returns it."""

    def make(address: str, conn_type: str = "aws", **extra: Any) -> Any:
        extra = {"ledger": address, "endpoint_url": s3.meta.endpoint_url, "region_name": "us-east-1"} | extra
        connection = {"conn_type": conn_type, "login": "key", "password": "secret-of-aws", "extra": extra}
        set_connection(CONN_ID, connection)
        return BaseHook.get_connection(CONN_ID)

    return make


def test_a_ledger_is_below_its_prefix_and_two_prefixes_are_two_ledgers(
    s3: Any, bucket: str, connect: Callable[..., Any]
) -> None:
    first = open_ledger(CONN_ID, connect(f"s3://{bucket}/airflow/one"))
    second = open_ledger(CONN_ID, connect(f"s3://{bucket}/airflow/two/"))
    assert first.identity != second.identity
    assert first.cursors.write("name", 0, "text")
    names = [found["Key"] for found in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert all(name.startswith(("airflow/one/", "airflow/two/")) for name in names)
    assert len(names) >= 3


def test_an_opened_ledger_is_found_again_by_the_next_process(
    bucket: str, connect: Callable[..., Any], forget_ledgers: Callable[[], None]
) -> None:
    first = open_ledger(CONN_ID, connect(f"s3://{bucket}"))
    first.cursors.write("name", 0, "text")
    forget_ledgers()
    again = open_ledger(CONN_ID, connect(f"s3://{bucket}"))
    assert again is not first
    assert again.identity == first.identity
    assert again.cursors.read("name").text == "text"


@pytest.mark.parametrize(
    ("conn_type", "address"),
    [
        ("aws", ""),
        ("aws", "gs://gifts/prefix"),
        ("aws", "gifts/prefix"),
        ("aws", "s3:///prefix"),
        ("aws", "s3://key:secret@gifts/prefix"),
        ("aws", "s3://gifts/prefix?versionId=1"),
        ("google_cloud_platform", "s3://gifts/prefix"),
        ("wasb", "wasbs://gifts/prefix"),
        ("generic", "s3://gifts/prefix"),
        ("generic", "file://gifts/prefix"),
        ("generic", "file:///"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused_with_an_example(
    connect: Callable[..., Any], conn_type: str, address: str
) -> None:
    with pytest.raises(SendosoConfigError, match=r"like .*://.*Nothing was sent") as caught:
        open_ledger(CONN_ID, connect(address, conn_type))
    assert "secret" not in str(caught.value)


def test_a_package_that_is_not_installed_is_named(connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "obstore.store", None)
    with pytest.raises(SendosoConfigError, match=r"airflow-provider-sendoso\[bucket,amazon\]"):
        open_ledger(CONN_ID, connect("s3://gifts/prefix"))


def test_a_bucket_that_is_not_there_is_an_error_that_names_it(connect: Callable[..., Any]) -> None:
    with pytest.raises(SendosoLedgerError, match="s3://nobody-made-it/prefix") as caught:
        open_ledger(CONN_ID, connect("s3://nobody-made-it/prefix"))
    assert "secret-of-aws" not in str(caught.value)


def test_a_new_ledger_warns_of_settings_that_endanger_it(
    s3: Any, bucket: str, connect: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    rule = {"ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": "airflow/"}, "Expiration": {"Days": 30}}
    other = rule | {"ID": "other", "Filter": {"Prefix": "logs/"}}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule, other]})
    with caplog.at_level(logging.WARNING):
        open_ledger(CONN_ID, connect(f"s3://{bucket}/airflow/ledger"))
    assert "It keeps no versions" in caplog.text
    assert "(tidy)" in caplog.text
    assert "(other)" not in caplog.text


def test_a_bucket_that_is_set_up_as_it_should_be_has_no_bad_settings(
    s3: Any, bucket: str, connect: Callable[..., Any]
) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    found = bad_settings(CONN_ID, connect(f"s3://{bucket}/airflow"))
    assert [sentence for sentence in found if "policy could not be read" not in sentence] == []


def test_a_folder_needs_no_credentials(connect: Callable[..., Any], tmp_path: Path) -> None:
    ledger = open_ledger(CONN_ID, connect(f"file://{tmp_path}/new/ledger", "generic"))
    assert ledger.identity.ledger_uuid
    assert (tmp_path / "new" / "ledger" / "log").is_dir()
    assert (tmp_path / "new" / "ledger").stat().st_mode & 0o077 == 0


def test_a_copy_with_the_same_address_elsewhere_is_another_place(
    s3: Any, connect: Callable[..., Any], tmp_path: Path
) -> None:
    """Or the processes of a machine would take entries of the copy for the ledger's own, which begins as it does."""

    def place(address: str, conn_type: str = "aws", **extra: Any) -> str:
        return open_bucket(CONN_ID, connect(address, conn_type, **extra)).place

    assert place("s3://gifts/ledger") == place("s3://gifts/ledger")
    assert place("s3://gifts/ledger") != place("s3://gifts/ledger", endpoint_url="http://127.0.0.1:1")
    folder = f"file://{tmp_path}/ledger"
    first = place(folder, "generic")
    assert place(folder, "generic") == first
    (tmp_path / "ledger").rename(tmp_path / "elsewhere")
    assert place(folder, "generic") != first


def test_a_store_that_overwrites_is_refused_before_it_has_a_ledger(
    bucket: str, connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import obstore

    put = obstore.put
    monkeypatch.setattr(obstore, "put", lambda store, name, body, **_: put(store, name, body))
    with pytest.raises(SendosoConfigError, match="overwrites objects"):
        open_ledger(CONN_ID, connect(f"s3://{bucket}"))


@pytest.mark.parametrize("minutes", [9, 10.5, 14, 16, 20, 29, 31, 59, 360])
def test_credentials_are_never_taken_for_valid_for_longer_than_they_are(
    connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, minutes: float
) -> None:
    """Those of a machine's role are handed out with whatever time they have left."""
    now, given = datetime.now(UTC), []

    def give(lasts: float) -> dict[str, str]:
        given.append(now + timedelta(minutes=lasts))
        names = {"access_key": "key", "secret_key": "secret", "token": "token"}
        return names | {"expiry_time": given[-1].isoformat()}

    credentials = RefreshableCredentials.create_from_metadata(give(minutes), lambda: give(60), "sts-assume-role")
    monkeypatch.setattr(boto3.Session, "get_credentials", lambda _: credentials)
    made: list[Any] = []
    monkeypatch.setattr("obstore.store.S3Store", lambda *_, credential_provider, **__: made.append(credential_provider))
    open_bucket(CONN_ID, connect("s3://gifts/prefix"))
    assert made[0]()["expires_at"] <= given[-1]
