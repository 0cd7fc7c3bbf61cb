"""Opens the store of a ledger in a bucket, with the credentials that Airflow's own hook has for the connection."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.ledger.bucket.objects import Bucket

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection
    from obstore.store import ObjectStore

ADDRESS = "ledger"
"""The key of the connection's extra that has the address."""

_RETRIES: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
_TAKEN_FOR_VALID = timedelta(minutes=6)
"""What obstore is told about AWS's credentials. It asks for others in the last five minutes, so once a minute; and
botocore, which it asks and which does not tell when they expire, renews them in the last ten minutes at the latest."""

_EXAMPLES = {
    "aws": "s3://bucket/prefix",
    "google_cloud_platform": "gs://bucket/prefix",
    "wasb": "abfs://container/prefix",
    "generic": "file:///var/lib/airflow/sendoso-ledger",
}

BUCKET_TYPES = tuple(_EXAMPLES)
"""The types of connections that a ledger in a bucket may have."""


def read_address(conn_id: str, connection: Connection) -> SplitResult:
    """
    Read where the ledger is.

    :param conn_id: the connection's id.
    :param connection: a connection of one of :data:`BUCKET_TYPES`, whose extra can be read.
    :raises SendosoConfigError: if the extra has no address, or one of another type.
    """
    parts = urlsplit(str(connection.extra_dejson.get(ADDRESS) or "").strip())
    example = _EXAMPLES[str(connection.conn_type)]
    if parts.scheme != urlsplit(example).scheme or parts.query or parts.fragment or parts.password:
        raise SendosoConfigError(
            f"The ledger's connection {conn_id!r} is of type {connection.conn_type!r}, so its extra has to say where "
            f'the ledger is, like {{"{ADDRESS}": "{example}"}}. Nothing was sent.'
        )
    if not (parts.netloc if parts.scheme != "file" else parts.path.strip("/") and not parts.netloc):
        raise SendosoConfigError(
            f"The ledger's connection {conn_id!r} has {ADDRESS!r} without a bucket, or without a path, in its extra; "
            f"write it like {example}. Nothing was sent."
        )
    return parts


def open_bucket(conn_id: str, connection: Connection) -> Bucket:
    """
    Open the store of a ledger's connection; nothing is asked of it yet.

    :param conn_id: the connection's id.
    :param connection: as for :func:`read_address`.
    :raises SendosoConfigError: as :func:`read_address`, or if a package is not installed.
    """
    parts = read_address(conn_id, connection)
    try:
        store = _OPEN[parts.scheme](conn_id, connection, parts.netloc, parts.path.strip("/"))
    except ImportError as error:
        raise SendosoConfigError(
            f"The ledger's connection {conn_id!r} is for a bucket, and {error.name or error} is not installed. Install "
            f"{_PACKAGES[parts.scheme]} wherever the provider runs. Nothing was sent."
        ) from None
    return Bucket(store, parts.geturl())


def _s3(conn_id: str, connection: Connection, bucket: str, prefix: str) -> ObjectStore:
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import S3Store

    hook: Any = AwsGenericHook(aws_conn_id=conn_id, client_type="s3")
    session = hook.get_session()
    endpoint = hook.conn_config.get_service_endpoint_url("s3") or ""
    options: Any = {"region": session.region_name or "us-east-1"}
    if endpoint:
        options |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
    return S3Store(
        bucket,
        prefix=prefix or None,
        config=options,
        client_options=_client_options(endpoint, hook.verify),
        retry_config=_RETRIES,
        credential_provider=Boto3CredentialProvider(session, ttl=_TAKEN_FOR_VALID),
    )


def _gcs(conn_id: str, connection: Connection, bucket: str, prefix: str) -> ObjectStore:
    from airflow.providers.google.common.hooks.base_google import GoogleBaseHook  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from google.auth.credentials import AnonymousCredentials  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from obstore.auth.google import GoogleCredentialProvider
    from obstore.store import GCSStore

    credentials = GoogleBaseHook(gcp_conn_id=conn_id).get_credentials()
    endpoint = str(connection.extra_dejson.get("endpoint_url") or "")
    anonymous = isinstance(credentials, AnonymousCredentials)  # of an emulator
    return GCSStore(
        bucket,
        prefix=prefix or None,
        config={"base_url": endpoint} if endpoint else None,
        client_options=_client_options(endpoint),
        retry_config=_RETRIES,
        credential_provider=_no_credentials if anonymous else GoogleCredentialProvider(credentials),
    )


def _no_credentials() -> Any:
    return {"token": "anonymous", "expires_at": None}


def _azure(conn_id: str, connection: Connection, container: str, prefix: str) -> ObjectStore:
    from airflow.providers.microsoft.azure.hooks.wasb import WasbHook  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from obstore.store import AzureStore

    client: Any = WasbHook(wasb_conn_id=conn_id).get_conn()
    endpoint = str(client.primary_endpoint).partition("?")[0].rstrip("/")
    config: Any = {"account_name": client.account_name, "endpoint": endpoint}
    credential, provider = client.credential, None
    if hasattr(credential, "account_key"):
        config["account_key"] = credential.account_key
    elif sas := getattr(credential, "signature", None) or urlsplit(client.url).query:
        config["sas_key"] = sas.lstrip("?")
    else:
        from obstore.auth.azure import AzureCredentialProvider

        provider = AzureCredentialProvider(credential)
    return AzureStore(
        container.partition("@")[0],
        prefix=prefix or None,
        config=config,
        client_options=_client_options(endpoint),
        retry_config=_RETRIES,
        credential_provider=provider,
    )


def _file(conn_id: str, connection: Connection, host: str, path: str) -> ObjectStore:
    from obstore.store import LocalStore

    # Others of this machine may not read it: the first object has the key of the hashes.
    folder = Path("/", path)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return LocalStore(folder)


def _client_options(endpoint: str, verify: bool | str | None = None) -> Any:
    """Return the options of the HTTP client: time limits, and what the connection says about certificates."""
    options: dict[str, Any] = {"timeout": "10s", "connect_timeout": "5s"}
    if endpoint.startswith("http://"):
        options["allow_http"] = True
    if verify is False:
        options["allow_invalid_certificates"] = True
    elif isinstance(verify, str):
        with open(verify, "rb") as file:
            options["root_certificate"] = file.read()
    return options


_OPEN: dict[str, Callable[[str, Any, str, str], Any]] = {"s3": _s3, "gs": _gcs, "abfs": _azure, "file": _file}
_PACKAGES = {
    "s3": "airflow-provider-sendoso[bucket,amazon]",
    "gs": "airflow-provider-sendoso[bucket,google]",
    "abfs": "airflow-provider-sendoso[bucket,microsoft-azure]",
    "file": "airflow-provider-sendoso[bucket]",
}
