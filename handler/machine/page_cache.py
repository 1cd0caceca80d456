"""Reads files into the kernel's page cache ahead of ComfyUI, which loads them by memory map.

Plain reads of large pieces: here one reader had 2.0 GB/s from a local disk, several 1.5 and
posix_fadvise 1.3. A network volume answers each reader slowly, so several read there; that is not
measured.
"""

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from handler.logs import get_logger
from handler.machine.host_memory import free_memory_bytes

_PIECE_BYTES = 8 << 20
# For ComfyUI itself and what it makes of the weights before they are on the GPU.
_RESERVED_BYTES = 4 << 30

log = get_logger()


@dataclass(frozen=True, slots=True)
class AheadFile:
    """`readers` is how many read it at once, each a piece."""

    path: Path
    readers: int


@contextlib.contextmanager
def reading_ahead(
    files: Iterable[AheadFile], free: Callable[[], int | None] = free_memory_bytes
) -> Iterator[threading.Thread]:
    """Read in the background, one file after the other, until the end of the context."""
    stop = threading.Event()
    thread = threading.Thread(
        target=_read_all, args=(list(files), free, stop), name="read-ahead", daemon=True
    )
    thread.start()
    try:
        yield thread
    finally:
        # Not awaited: a volume that hangs must not hold up the end.
        stop.set()


def _read_all(
    files: Sequence[AheadFile], free: Callable[[], int | None], stop: threading.Event
) -> None:
    try:
        room = (free() or 0) - _RESERVED_BYTES
        for file in files:
            size = file.path.stat().st_size
            if size > room:
                log.info("not read ahead", file=file.path.name, bytes=size, room=max(0, room))
                continue
            room -= size
            started = time.monotonic()
            done = _read(file, size, stop)
            if stop.is_set():
                return
            seconds = round(time.monotonic() - started, 2)
            log.info("read ahead", file=file.path.name, bytes=done, cached=size - done, s=seconds)
    except OSError as exc:
        # ComfyUI reads the same files and tells what is wrong with them.
        log.warning("read ahead failed", reason=str(exc))


def _read(file: AheadFile, size: int, stop: threading.Event) -> int:
    """Bytes read; those cached before are left out."""
    pieces: queue.SimpleQueue[int] = queue.SimpleQueue()
    for offset in range(0, size, _PIECE_BYTES):
        pieces.put(offset)
    counts: list[int] = []
    faults: list[OSError] = []

    def read() -> None:
        try:
            counts.append(_read_pieces(file.path, pieces, stop))
        except OSError as exc:
            faults.append(exc)

    # No executor: Python awaits an executor's threads at its end, however long their reads hang.
    readers = [threading.Thread(target=read, daemon=True) for _ in range(file.readers)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    if faults:
        raise faults[0]
    return sum(counts)


def _read_pieces(path: Path, pieces: "queue.SimpleQueue[int]", stop: threading.Event) -> int:
    buffer = bytearray(_PIECE_BYTES)
    count = 0
    with path.open("rb", buffering=0) as file, contextlib.suppress(queue.Empty):
        while not stop.is_set():
            offset = pieces.get_nowait()
            if not _is_cached(file.fileno(), offset):
                count += os.preadv(file.fileno(), [buffer], offset)
    return count


def _is_cached(descriptor: int, offset: int) -> bool:
    """By the first byte of a piece. False where the file system can't tell."""
    try:
        return os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
    except OSError:
        return False
