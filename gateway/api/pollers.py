"""Workers whose polls are held by this process, and which of them have nothing to do."""

import contextlib
from collections import Counter
from collections.abc import Iterator


class Pollers:
    def __init__(self) -> None:
        self._idle: Counter[str] = Counter()

    @contextlib.contextmanager
    def waiting(self, worker: str, is_idle: bool) -> Iterator[None]:
        if not is_idle:
            yield
            return
        self._idle[worker] += 1
        try:
            yield
        finally:
            self._idle[worker] -= 1
            if not self._idle[worker]:
                del self._idle[worker]

    def idle_others(self, worker: str) -> int:
        return sum(1 for other in self._idle if other != worker)
