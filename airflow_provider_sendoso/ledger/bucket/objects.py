"""The few things that the ledger asks of a store of objects, and how obstore does them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_sendoso.exceptions import SendosoLedgerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from obstore.store import ObjectStore

_AT_ONCE = 16
"""Objects that are read at the same time."""

_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")
"""What S3, Google and Azure answer if the whole bucket is missing; they do so with the status of a missing object."""


_PROVIDER = "credential provider: "
"""What obstore says if it has asked for credentials, and has got an error."""


class NotAnswered(Exception):
    """The store did not answer, or asked to come again later; what was to be written may be there or not."""


@dataclass(frozen=True)
class Modified:
    """
    When an object was created, by the store's clock.

    :param at: epoch seconds; the true moment is this one, or up to ``within`` seconds later.
    :param within: 1 for stores that tell whole seconds, as HTTP does.
    """

    at: float
    within: float


class Objects(Protocol):
    """Objects below a prefix, each created once. Reads see what was created before them; lists may be late."""

    def create(self, name: str, body: bytes) -> bool:
        """
        Create an object.

        :return: ``True`` if it was created now. ``False`` proves nothing: a client may have repeated its own request.
        :raises NotAnswered: if the object may be there or not.
        """

    def read(self, name: str) -> bytes | None:
        """
        Read an object; ``None`` if there is none.

        :raises NotAnswered: if the store does not say.
        """

    def read_all(self, names: Sequence[str]) -> list[bytes | None]:
        """Read several objects at the same time, as :meth:`read` does."""

    def names(self, folder: str, after: str = "") -> list[str]:
        """Return the names in a folder that come after one, sorted; those of new objects may be missing."""

    def modified(self, name: str) -> Modified:
        """Return when an object was created."""


class Bucket:
    """
    Objects by obstore: Amazon S3 and what speaks its protocol, Google Cloud Storage, Azure, or a local folder.

    :param store: obstore's store, whose root is the ledger's prefix.
    :param where: the address of the ledger for messages, without credentials.
    """

    def __init__(self, store: ObjectStore, where: str) -> None:
        self._store = store
        self.where = where

    @property
    def place(self) -> str:
        """What tells the store from all others: the same address may be at another endpoint, account or disk, too."""
        store: Any = self._store
        if hasattr(store, "config"):
            at = [str(store.config.get(name, "")) for name in ("endpoint", "base_url", "account_name")]
        else:
            folder = Path(store.prefix).stat()
            at = [str(folder.st_dev), str(folder.st_ino)]
        return " ".join([self.where, *at])

    def create(self, name: str, body: bytes) -> bool:
        """Create an object; see :class:`Objects`."""
        import obstore

        try:
            self._call(obstore.put, name, body, mode="create", use_multipart=False)
        except obstore.exceptions.AlreadyExistsError:
            return False
        return True

    def read(self, name: str) -> bytes | None:
        """Read an object; see :class:`Objects`."""
        try:
            return bytes(self._call(_get, name))
        except FileNotFoundError:
            return None  # the bucket is there, or it would not have answered so

    def read_all(self, names: Sequence[str]) -> list[bytes | None]:
        """Read several objects at the same time; see :class:`Objects`."""
        if len(names) < 2:
            return [self.read(name) for name in names]
        with ThreadPoolExecutor(min(_AT_ONCE, len(names))) as pool:
            return list(pool.map(self.read, names))

    def names(self, folder: str, after: str = "") -> list[str]:
        """Return the names in a folder; see :class:`Objects`."""
        import obstore

        pages = self._call(obstore.list, prefix=folder, offset=after or None)
        # Not every store obeys the offset: Azure begins with the first name.
        return sorted(found["path"] for page in self._pages(pages) for found in page if found["path"] > after)

    def modified(self, name: str) -> Modified:
        """Return when an object was created; see :class:`Objects`."""
        import obstore

        at = self._call(obstore.head, name)["last_modified"].timestamp()
        return Modified(at, within=0.001 if at % 1 else 1.0)

    def _pages(self, pages: Any) -> Any:
        while page := self._call(lambda _: next(pages, None)):
            yield page

    def _call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        import obstore

        kinds = obstore.exceptions
        try:
            return function(self._store, *arguments, **options)
        except (kinds.PermissionDeniedError, kinds.UnauthenticatedError) as error:
            _, asked_for_new, why = _first_line(error).partition(_PROVIDER)
            if asked_for_new:
                raise NotAnswered(
                    f"{self.where}: Airflow's connection gives no credentials that are valid now ({why}). They are "
                    "asked for again; see that its role may be assumed, and that who gives them can be reached"
                ) from None
            raise SendosoLedgerError(
                f"The ledger's bucket ({self.where}) refuses the connection's credentials: {_first_line(error)}. "
                "Nothing is sent without it. It needs the rights to read, list and create objects (docs/bucket.md)."
            ) from None
        except kinds.AlreadyExistsError:
            raise
        except (kinds.BaseError, OSError) as error:
            if any(code in str(error) for code in _NO_BUCKET):
                raise NotAnswered(f"{self.where}: there is no such bucket") from None
            if isinstance(error, FileNotFoundError) and function is _get:
                raise
            raise NotAnswered(f"{self.where}: {_first_line(error)}") from None


def _get(store: ObjectStore, name: str) -> Any:
    """Read an object to its end: its body may break off."""
    import obstore

    return obstore.get(store, name).bytes()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
