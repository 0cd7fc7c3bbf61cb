"""A batch reads the catalogue only when it needs it, once, and no further than it needs it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_sendoso.batch.catalogue import Catalogue
from airflow_provider_sendoso.exceptions import SendosoConnectionError
from airflow_provider_sendoso.models import Gift


class Pages:
    """Counts the pages that ``list_gifts`` returns."""

    def __init__(self, *ids: str, error_after: int | None = None) -> None:
        self.ids, self.error_after = ids, error_after
        self.begun = self.read = 0

    def __call__(self) -> Iterator[Gift]:
        self.begun += 1
        for gift_id in self.ids:
            if self.read == self.error_after:
                raise SendosoConnectionError("gone")
            self.read += 1
            yield Gift(id=gift_id)


def test_the_catalogue_is_not_read_before_a_gift_is_looked_up():
    pages = Pages("a")
    assert not Catalogue(pages).complete
    assert pages.begun == 0


def test_the_catalogue_is_read_up_to_the_gift_and_later_on_from_there():
    pages = Pages("a", "b", "c")
    catalogue = Catalogue(pages)
    assert catalogue.find("b") == Gift(id="b")
    assert (pages.read, catalogue.complete) == (2, False)
    assert catalogue.find("a") == Gift(id="a")
    assert catalogue.find("c") == Gift(id="c")
    assert (pages.begun, pages.read) == (1, 3)


def test_a_missing_gift_is_known_after_one_reading_of_the_whole_catalogue():
    pages = Pages("a", "b")
    catalogue = Catalogue(pages)
    assert [catalogue.find("x"), catalogue.find("y")] == [None, None]
    assert (pages.begun, pages.read, catalogue.complete) == (1, 2, True)


def test_of_two_gifts_with_one_id_the_first_counts():
    gifts = [Gift(id="a", name="first"), Gift(id="a", name="second")]
    catalogue = Catalogue(lambda: gifts)
    assert catalogue.find("x") is None
    assert catalogue.find("a") == gifts[0]


def test_an_empty_catalogue_does_not_count_as_complete():
    catalogue = Catalogue(list)
    assert catalogue.find("a") is None
    assert not catalogue.complete


@pytest.mark.parametrize("error_after", [0, 1])
def test_a_catalogue_that_broke_off_with_an_error_does_not_count_as_complete(error_after):
    pages = Pages("a", "b", error_after=error_after)
    catalogue = Catalogue(pages)
    for _ in range(2):
        with pytest.raises(SendosoConnectionError):
            catalogue.find("b")
    assert (pages.begun, catalogue.complete) == (1, False)


def test_gifts_that_were_read_before_an_error_stay_known():
    catalogue = Catalogue(Pages("a", "b", error_after=1))
    assert catalogue.find("a") == Gift(id="a")
    with pytest.raises(SendosoConnectionError):
        catalogue.find("b")
    assert catalogue.find("a") == Gift(id="a")
