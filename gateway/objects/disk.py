"""Objects as files in the data folder: whole or not at all, also after the power was cut."""

import errno
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from gateway.errors import DiskFull, StoreUnavailable
from gateway.objects.port import LINK_S, ObjectMissing

_COUNT_AGAIN_S = 600
# Files of requests that a crash has cut off.
_ABANDONED_S = 24 * 3600


class DiskObjects:
    """`most_bytes` bounds what all objects take together; 0 is no bound."""

    def __init__(self, folder: Path, most_bytes: int = 0) -> None:
        self._root = folder / "objects"
        self.temp_dir = folder / "tmp"
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._used = 0
        self._counted_at = -float(_COUNT_AGAIN_S)
        with _errors():
            self._root.mkdir(parents=True, exist_ok=True)
            self.temp_dir.mkdir(parents=True, exist_ok=True)

    def put(self, key: str, data: bytes) -> None:
        temp = self.temp_dir / uuid.uuid4().hex
        try:
            with _errors(), temp.open("wb") as file:
                file.write(data)
            self.put_file(key, temp)
        finally:
            temp.unlink(missing_ok=True)

    def put_file(self, key: str, path: Path) -> None:
        size = path.stat().st_size
        self._check_room(size)
        target = self._path(key)
        try:
            with _errors():
                _sync(path)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)
                _sync(target.parent)
        except ObjectMissing as exc:
            raise StoreUnavailable("the folder of pictures can't be written") from exc
        with self._lock:
            self._used += size

    def open(self, key: str) -> BinaryIO:
        with _errors():
            return self._path(key).open("rb")

    def size(self, key: str) -> int:
        with _errors():
            return self._path(key).stat().st_size

    def path(self, key: str) -> Path:
        self.size(key)
        return self._path(key)

    def link(self, key: str, filename: str | None, lasts_s: int = LINK_S) -> None:
        return None

    def delete(self, prefix: str) -> None:
        path = self._path(prefix.rstrip("/"))
        with _errors(), suppress(FileNotFoundError):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        with self._lock:
            self._counted_at = -float(_COUNT_AGAIN_S)

    def folders(self, prefix: str) -> Iterator[tuple[str, int]]:
        with suppress(FileNotFoundError), os.scandir(self._path(prefix.rstrip("/"))) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    yield entry.name, entry.stat().st_mtime_ns // 1_000_000

    def check(self) -> None:
        self._check_room(0)
        probe = self.temp_dir / f"check-{uuid.uuid4().hex}"
        with _errors():
            probe.touch()
            probe.unlink()

    def drop_abandoned(self, now_ms: int) -> None:
        """Temporary files that nobody has written to for a day."""
        for path in self.temp_dir.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < now_ms / 1000 - _ABANDONED_S:
                    path.unlink()

    def used_bytes(self) -> int:
        with self._lock:
            if time.monotonic() - self._counted_at > _COUNT_AGAIN_S:
                # Path.rglob fails at a folder that is deleted meanwhile; this leaves it out.
                self._used = sum(
                    _size_of(Path(folder, name))
                    for folder, _, names in os.walk(self._root)
                    for name in names
                )
                self._counted_at = time.monotonic()
            return self._used

    def _check_room(self, size: int) -> None:
        if self._most_bytes and self.used_bytes() + size > self._most_bytes:
            raise DiskFull(
                f"pictures fill the {self._most_bytes} bytes that they may have "
                "(GATEWAY_DISK_BYTES); delete jobs, or try again later"
            )

    def _path(self, key: str) -> Path:
        """Keys are made or checked before, and yet: none leads out of the folder."""
        parts = key.split("/")
        if not all(parts) or {".", ".."} & set(parts) or "\0" in key:
            raise ObjectMissing(key)
        return self._root.joinpath(*parts)


def _size_of(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size if path.is_file() else 0
    return 0


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as exc:
        raise ObjectMissing(exc.filename) from exc
    except OSError as exc:
        if exc.errno == errno.ENAMETOOLONG:
            raise ObjectMissing(exc.filename) from exc
        if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull("no space is left on the gateway's disk; try again later") from exc
        raise StoreUnavailable(f"the store of pictures fails: {exc.strerror}") from exc
