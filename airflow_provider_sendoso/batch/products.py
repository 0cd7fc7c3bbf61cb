"""Finds the rows of a batch, before the first send, whose product there is not or does not ship there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from airflow_provider_sendoso.batch.catalogue import Catalogue
from airflow_provider_sendoso.batch.spool import BatchSpool
from airflow_provider_sendoso.models import Item, Product, Variant


def variants_of(products: Iterable[Product]) -> Iterator[Variant]:
    """
    Return the variants of products, each with its product's name.

    :param products: the products.
    """
    for product in products:
        for variant in product.variants:
            yield variant.model_copy(update={"name": product.name})


def marketplace(read: Callable[[], Iterable[Product]]) -> Catalogue[Variant]:
    """
    Return the marketplace, which finds variants by their ids.

    :param read: begins to read the products, like ``SendosoHook.list_marketplace_products``.
    """
    return Catalogue(lambda: variants_of(read()), "marketplace")


def check_products(
    spool: BatchSpool,
    products: Catalogue[Variant],
    shipping_to: Callable[[Sequence[str]], Iterable[Product]],
    *,
    own_variant: bool,
) -> str | None:
    """
    Find the rows whose variant is not in the marketplace, or does not ship to their country.

    The API does not say to which countries a product ships, but it filters by country (published): the products are
    read once more for each country of the rows, as far as necessary.

    :param spool: the filled spool.
    :param products: the marketplace.
    :param shipping_to: reads the products that ship to some countries, like ``SendosoHook.list_marketplace_products``.
    :param own_variant: whether all rows have the batch's own variant; if that one is unknown, no row is invalid.
    :return: the problem with the batch's own variant, if there is one.
    :raises SendosoError: if the marketplace could not be read.
    """
    rejected = 0
    for variant_id in spool.marketplace_variants():
        missing = products.missing(variant_id)
        if missing is not None and own_variant:
            return f"marketplace_variant_id {variant_id!r} {missing}"
        if missing is not None:
            rejected += spool.reject(Item(marketplace_variant_id=variant_id), f"marketplace_variant_id {missing}")
    for country in spool.marketplace_countries():
        there = variants_of(shipping_to([country]))
        wanted = set(spool.marketplace_variants(country=country))
        while wanted and (variant := next(there, None)) is not None:
            wanted.discard(variant.id)
        for variant_id in sorted(wanted):
            reason = f"address_country is {country}, to which the product does not ship"
            rejected += spool.reject_country(Item(marketplace_variant_id=variant_id), country, reason)
    if rejected:
        spool.mark_duplicates()
    return None
