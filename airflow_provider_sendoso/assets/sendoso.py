"""``sendoso://`` assets: all sends of an account, or those of one ``dedupe_scope``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from airflow.providers.common.compat.sdk import Asset

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from airflow.providers.common.compat.openlineage.facet import Dataset as OpenLineageDataset

SCHEME = "sendoso"


def asset_uri(account: str, dedupe_scope: str | None = None) -> str:
    """
    Return the URI of an account's sends, or of one scope's: ``sendoso://app.sendoso.com/champions-2026-q4``.

    :param account: the connection's ``account``, which defaults to its host.
    :param dedupe_scope: the batch's scope; characters that a URI cannot hold are percent-encoded.
    """
    return f"{SCHEME}://{quote(account, safe=':')}/{quote((dedupe_scope or '').strip('/'), safe='/')}"


def create_asset(*, account: str, dedupe_scope: str | None = None, extra: dict[str, Any] | None = None) -> Asset:
    """
    Create the asset of an account's sends, or of one scope's.

    :param account: the connection's ``account``, which defaults to its host.
    :param dedupe_scope: the batch's scope.
    :param extra: the asset's ``extra``.
    """
    return Asset(uri=asset_uri(account, dedupe_scope), extra=extra)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """
    Normalise a ``sendoso://`` URI, because Airflow compares URIs as text; Airflow calls this for every such asset.

    :param uri: the URI, split into parts.
    :raises ValueError: if the URI has no account, or has a query, a user or a password.
    """
    account, scope = unquote(uri.netloc), unquote(uri.path)
    if not account or "@" in uri.netloc or uri.query:
        raise ValueError(
            "A sendoso:// URI is sendoso://<account>/<dedupe_scope>, with what a URI cannot hold percent-encoded."
        )
    clean = urlsplit(asset_uri(account, scope))
    return uri._replace(scheme=SCHEME, netloc=clean.netloc, path=clean.path)


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> OpenLineageDataset:
    """
    Translate an asset for OpenLineage: the account is the namespace, the scope the name.

    :param asset: an asset with a ``sendoso://`` URI.
    :param lineage_context: the hook; not used.
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset as OpenLineageDataset

    return OpenLineageDataset(*openlineage_name(str(asset.uri)))


def openlineage_name(uri: str) -> tuple[str, str]:
    """
    Return OpenLineage's namespace and name for the sends of an account or of a scope.

    :param uri: the asset's URI.
    """
    parts = urlsplit(uri)
    return f"{SCHEME}://{parts.netloc}", unquote(parts.path.strip("/")) or "sends"
