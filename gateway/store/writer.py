"""SQLite's one writer: what waits to be written is committed together, by one thread."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

_T = TypeVar("_T")

# A commit costs a write to the disk, so it is shared; a reader sees none of them before its end.
_MOST_TOGETHER = 64

_Item = tuple[Callable[[Connection], Any], "Future[Any]"]


class GroupWriter:
    """`run` returns when the function's writes are on the disk; one that raises takes back its own
    writes and nobody else's."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(is_writer=True)
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._is_closed = False

    def run(self, work: Callable[[Connection], _T]) -> _T:
        future: Future[_T] = Future()
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the database is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_all, name="db-writer")
                self._thread.daemon = True
                self._thread.start()
            self._queue.put((work, future))
        return future.result()

    def close(self) -> None:
        """Writes what waits, then ends."""
        with self._lock:
            self._is_closed = True
            thread = self._thread
            self._queue.put(None)
        if thread is not None:
            thread.join()

    def _write_all(self) -> None:
        while True:
            batch = [self._queue.get()]
            while len(batch) < _MOST_TOGETHER and batch[-1] is not None:
                try:
                    batch.append(self._queue.get_nowait())
                except Empty:
                    break
            items = [item for item in batch if item is not None]
            if items:
                self._write(items)
            if batch[-1] is None:
                return

    def _write(self, items: list[_Item]) -> None:
        done: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            with self._engine.begin() as connection:
                for work, future in items:
                    try:
                        with connection.begin_nested():
                            done.append((future, work(connection), None))
                    except Exception as exc:
                        done.append((future, None, exc))
        except BaseException as exc:
            # Nothing of it is written.
            for _, future in items:
                future.set_exception(exc)
            return
        for future, result, error in done:
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)
