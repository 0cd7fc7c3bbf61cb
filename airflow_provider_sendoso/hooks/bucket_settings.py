"""Reads the settings of a ledger's bucket, where its API tells them: whether what is written there stays there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow_provider_sendoso.hooks.ledger_bucket import read_address

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

_TIMEOUT = 5
"""Seconds to read them; a task is waiting."""

_UNVERSIONED = "It keeps no versions: what somebody deletes is gone, and gifts would be sent again. Switch it on."
_EXPIRES = "A lifecycle rule deletes objects of the ledger ({}): gifts would be sent again. Leave its prefix out."
_PUBLIC = "It can be read by the public. The ledger has the key of its hashes: make the bucket private."
_UNKNOWN = "Its {} could not be read, and may be wrong ({})."


def bad_settings(conn_id: str, connection: Connection) -> list[str]:
    """
    Return what should be changed in the settings of a ledger's bucket.

    :param conn_id: the ledger's connection.
    :param connection: the same, of one of
        :data:`~airflow_provider_sendoso.hooks.ledger_bucket.BUCKET_TYPES`, with an address.
    :return: a sentence for each setting that endangers the ledger, or that could not be read; empty for a folder.
    """
    parts = read_address(conn_id, connection)
    read = {"s3": _s3, "gs": _gcs, "abfs": _azure}.get(parts.scheme)
    if read is None:
        return []
    try:
        return list(read(conn_id, parts.netloc, parts.path.strip("/")))
    except Exception as error:
        return [_UNKNOWN.format("settings", type(error).__name__)]


def _s3(conn_id: str, bucket: str, prefix: str) -> Iterator[str]:
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
    from botocore.exceptions import ClientError  # type: ignore[import-untyped]

    client: Any = AwsGenericHook(aws_conn_id=conn_id, client_type="s3").conn

    def ask(what: str, call: str, none: str = "") -> Any:
        """Return the answer; ``{}`` if nothing is set, or a sentence if it cannot be read."""
        try:
            return getattr(client, call)(Bucket=bucket)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            return {} if code == none else _UNKNOWN.format(what, code)

    versioning = ask("versioning", "get_bucket_versioning")
    if isinstance(versioning, str):
        yield versioning
    elif versioning.get("Status") != "Enabled":
        yield _UNVERSIONED
    lifecycle = ask("lifecycle rules", "get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration")
    if isinstance(lifecycle, str):
        yield lifecycle
    else:
        for rule in lifecycle.get("Rules", ()):
            covered = rule.get("Filter", {}).get("Prefix") or rule.get("Prefix") or ""
            if rule["Status"] == "Enabled" and _meet(covered, prefix) and "Expiration" in rule:
                yield _EXPIRES.format(rule.get("ID") or covered)
    public = ask("policy", "get_bucket_policy_status", "NoSuchBucketPolicy")
    if isinstance(public, str):
        yield public
    elif public.get("PolicyStatus", {}).get("IsPublic"):
        yield _PUBLIC


def _gcs(conn_id: str, name: str, prefix: str) -> Iterator[str]:
    from airflow.providers.google.cloud.hooks.gcs import (  # type: ignore[import-not-found,unused-ignore]
        GCSHook,
    )

    bucket: Any = GCSHook(gcp_conn_id=conn_id).get_conn().get_bucket(name, timeout=_TIMEOUT, retry=None)
    if not bucket.versioning_enabled:
        yield _UNVERSIONED
    for rule in bucket.lifecycle_rules:
        covered = rule.get("condition", {}).get("matchesPrefix", [""])
        if rule.get("action", {}).get("type") == "Delete" and any(_meet(one, prefix) for one in covered):
            yield _EXPIRES.format(", ".join(covered))
    if bucket.iam_configuration.public_access_prevention != "enforced":
        yield "Public access to it is not prevented. Enforce public access prevention."


def _azure(conn_id: str, container: str, prefix: str) -> Iterator[str]:
    from airflow.providers.microsoft.azure.hooks.wasb import (  # type: ignore[import-not-found,unused-ignore]
        WasbHook,
    )

    client: Any = WasbHook(wasb_conn_id=conn_id).get_conn()
    if client.get_container_client(container.partition("@")[0]).get_container_properties().public_access:
        yield _PUBLIC
    yield "Azure tells versioning and lifecycle rules to the account's managers only: see that versioning is on."


def _meet(one: str, other: str) -> bool:
    """Whether a rule for one prefix covers objects below the other."""
    return one.startswith(other) or other.startswith(one.rstrip("/"))
