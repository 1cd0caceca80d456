"""What every store of objects can do. All of it blocks, so it belongs into threads."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

LINK_S = 3600


class ObjectMissing(Exception):
    """There is no object of that key."""


class ObjectStore(Protocol):
    """Keys are texts with `/` between parts. A second write of a key replaces the object, and a
    reader sees the one or the other whole. Raises StoreUnavailable, and DiskFull on writing."""

    temp_dir: Path
    """For files that become objects: made by the caller, taken by `put_file`."""

    def put(self, key: str, data: bytes) -> None: ...

    def put_file(self, key: str, path: Path) -> None:
        """The file is gone afterwards."""
        ...

    def open(self, key: str) -> BinaryIO:
        """Raises ObjectMissing."""
        ...

    def size(self, key: str) -> int:
        """In bytes. Raises ObjectMissing."""
        ...

    def path(self, key: str) -> Path | None:
        """Where it lies on this machine's disk, if it does. Raises ObjectMissing."""
        ...

    def link(self, key: str, filename: str | None, lasts_s: int = LINK_S) -> str | None:
        """An address that opens the object for `lasts_s` seconds, where the store serves it."""
        ...

    def delete(self, prefix: str) -> None:
        """The object of that key, and all below it."""
        ...

    def folders(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Names right below the prefix, with the time of the latest write, in milliseconds."""
        ...

    def check(self) -> None:
        """Raises StoreUnavailable unless it can be written."""
        ...
