"""A model file while it is fetched: who fetches it, and what an earlier try left of it.

RunPod's volumes are network file systems, on which `flock` may hold within one machine only, or
not at all. So it decides who goes first, and nothing rests on it: every try writes to a file of
its own name, and takes over another's by renaming it, which succeeds for one.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from handler.models import ModelFile


class InUse(Exception):
    """Another process writes a part of this file, or did until a moment ago."""


class PartialFile:
    """One unfinished download of `model`, beside the place where it belongs.

    `stale_s`: for how long nothing may have been written to another machine's part before it counts
    as left behind.
    """

    def __init__(self, model: ModelFile, folder: Path, stale_s: float) -> None:
        self._folder = folder
        self._stale_s = stale_s
        self._prefix = f".{model.file}.{model.sha256[:12]}."
        self._others = f".{model.file}.*.part"
        # Without the machine's name one could not tell its own dead from another's living.
        self._machine = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
        self.path = folder / f"{self._prefix}{self._machine}.{secrets.token_hex(4)}.part"

    def claim(self) -> int:
        """Take over what a dead try left, else begin; the bytes that are there already.

        Call it within `turn`, which proves that no live process of this machine has one. Raises
        InUse, OSError.
        """
        now = self._now()
        left = [(path, stat) for path in self._folder.glob(self._others) if (stat := _stat(path))]
        ours = [entry for entry in left if entry[0].name.startswith(self._prefix)]
        if any(not self._is_left(path, stat, now) for path, stat in ours):
            raise InUse
        for path, _ in sorted(ours, key=lambda entry: entry[1].st_size, reverse=True):
            with contextlib.suppress(FileNotFoundError):
                if not self.path.exists():
                    path.rename(self.path)
                else:
                    path.unlink()
        for path, stat in left:
            # Another version's: only its age tells whether somebody still wants it.
            if (path, stat) not in ours and now - stat.st_mtime > self._stale_s:
                path.unlink(missing_ok=True)
        self.path.touch()
        return self.path.stat().st_size

    def open(self) -> BinaryIO:
        """Not for appending: a second writer of the same bytes at the same places does no harm."""
        return self.path.open("r+b")

    def check_ours(self, file: BinaryIO) -> None:
        """Raises InUse if another process has taken it over, as it may where locks don't hold."""
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), self.path.stat()):
                return
        raise InUse

    def keep_alive(self) -> None:
        """To be called now and then while nothing is written, so that it does not look stale."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.path)

    def put(self, place: Path) -> None:
        """Atomically, once it is on the disk. Raises InUse, OSError."""
        try:
            self.path.replace(place)
        except FileNotFoundError as exc:
            raise InUse from exc
        with contextlib.suppress(OSError):
            _flush_folder(place.parent)

    def _is_left(self, path: Path, stat: os.stat_result, now: float) -> bool:
        machine = path.name.removeprefix(self._prefix).split(".")[0]
        return machine == self._machine or now - stat.st_mtime > self._stale_s

    def _now(self) -> float:
        """By the clock that dates the files, which is the file server's."""
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".clock-") as file:
            return os.fstat(file.fileno()).st_mtime


def kept_bytes(model: ModelFile, folder: Path) -> int:
    """What earlier tries left of `model`, as far as it need not be fetched again."""
    parts = folder.glob(f".{model.file}.{model.sha256[:12]}.*.part")
    sizes = [stat.st_size for path in parts if (stat := _stat(path))]
    return min(max(sizes, default=0), model.bytes)


@contextlib.contextmanager
def turn(path: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file `path`; while another process holds it, call `wait`, which sleeps or
    raises. Where the file system has no locks, it is always our turn.

    The file stays: removing it would let two hold it at once. Raises OSError.
    """
    with path.open("ab") as lock:
        while not _try_lock(lock):
            wait()
        yield


def _try_lock(lock: BinaryIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as exc:
        if exc.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
            raise
    return True


def _stat(path: Path) -> os.stat_result | None:
    with contextlib.suppress(FileNotFoundError):
        return path.stat()
    return None


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush(file: BinaryIO) -> None:
    """A power cut after the rename must not leave a file of the right size and no content."""
    file.flush()
    os.fsync(file.fileno())
