"""Time, as it is passed in everywhere: integers of milliseconds since 1970, UTC."""

import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> int:
        """Milliseconds since 1970, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, for waits inside one process."""
        ...


class SystemClock:
    """The machine's."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()
