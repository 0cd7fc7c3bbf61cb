"""The catalogue is read late, once, and no further than needed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_sendoso.batch.catalogue import Catalogue
from airflow_provider_sendoso.exceptions import SendosoConnectionError
from airflow_provider_sendoso.models import Gift


class Pages:
    """What ``list_gifts`` gives, counted."""

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


def test_nothing_is_read_before_the_first_look():
    pages = Pages("a")
    assert not Catalogue(pages).complete
    assert pages.begun == 0


def test_it_is_read_as_far_as_the_gift_and_on_from_there():
    pages = Pages("a", "b", "c")
    catalogue = Catalogue(pages)
    assert catalogue.find("b") == Gift(id="b")
    assert (pages.read, catalogue.complete) == (2, False)
    assert catalogue.find("a") == Gift(id="a")
    assert catalogue.find("c") == Gift(id="c")
    assert (pages.begun, pages.read) == (1, 3)


def test_a_gift_that_is_not_there_is_known_after_one_whole_reading():
    pages = Pages("a", "b")
    catalogue = Catalogue(pages)
    assert [catalogue.find("x"), catalogue.find("y")] == [None, None]
    assert (pages.begun, pages.read, catalogue.complete) == (1, 2, True)


def test_of_two_with_one_id_the_first_counts():
    gifts = [Gift(id="a", name="first"), Gift(id="a", name="second")]
    catalogue = Catalogue(lambda: gifts)
    assert catalogue.find("x") is None
    assert catalogue.find("a") == gifts[0]


def test_a_catalogue_of_nothing_proves_nothing():
    catalogue = Catalogue(list)
    assert catalogue.find("a") is None
    assert not catalogue.complete


@pytest.mark.parametrize("error_after", [0, 1])
def test_an_error_is_no_end(error_after):
    pages = Pages("a", "b", error_after=error_after)
    catalogue = Catalogue(pages)
    for _ in range(2):
        with pytest.raises(SendosoConnectionError):
            catalogue.find("b")
    assert (pages.begun, catalogue.complete) == (1, False)


def test_what_was_read_before_an_error_stays_known():
    catalogue = Catalogue(Pages("a", "b", error_after=1))
    assert catalogue.find("a") == Gift(id="a")
    with pytest.raises(SendosoConnectionError):
        catalogue.find("b")
    assert catalogue.find("a") == Gift(id="a")
