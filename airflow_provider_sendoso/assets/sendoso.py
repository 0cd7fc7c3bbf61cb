"""``sendoso://`` assets: the sends of an account, or of one ``dedupe_scope`` of it."""

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
    Write the URI of an account's sends, or of one scope's: ``sendoso://app.sendoso.com/champions-2026-q4``.

    :param account: as in the connection; by default its host.
    :param dedupe_scope: as the batch has it; what a URI cannot hold is percent-encoded.
    """
    return f"{SCHEME}://{quote(account, safe=':')}/{quote((dedupe_scope or '').strip('/'), safe='/')}"


def create_asset(*, account: str, dedupe_scope: str | None = None, extra: dict[str, Any] | None = None) -> Asset:
    """
    Make the asset of an account's sends, or of one scope's.

    :param account: as in the connection; by default its host.
    :param dedupe_scope: as the batch has it.
    :param extra: of the asset.
    """
    return Asset(uri=asset_uri(account, dedupe_scope), extra=extra)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """
    Bring a ``sendoso://`` URI into the one form that Airflow compares; called by Airflow for every such asset.

    :param uri: in parts.
    :raises ValueError: for a URI without an account, or with a query, a user or a password.
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

    :param asset: with a ``sendoso://`` URI.
    :param lineage_context: the hook; not looked at.
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset as OpenLineageDataset

    return OpenLineageDataset(*openlineage_name(str(asset.uri)))


def openlineage_name(uri: str) -> tuple[str, str]:
    """
    Return namespace and name by which OpenLineage knows the sends of an account or of a scope.

    :param uri: of the asset.
    """
    parts = urlsplit(uri)
    return f"{SCHEME}://{parts.netloc}", unquote(parts.path.strip("/")) or "sends"
