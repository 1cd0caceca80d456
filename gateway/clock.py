"""Time, as it is passed in everywhere: integers of milliseconds since 1970, UTC."""

import threading
import time
from typing import Protocol

_SLEW = 0.05


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


class SteadyClock:
    """`machine`, without its jumps. Who sets that clock, forward or back, would else end every
    lease and every wait at once, or make each last hours longer. This one goes on at its own pace
    and gains or loses a twentieth until the two agree; so it never goes back either.

    `ahead_ms` is how far true time is ahead of the machine's, as a database tells that several
    processes share. `not_before` is a time that was seen already, before a restart.
    """

    def __init__(self, machine: Clock, ahead_ms: int = 0, not_before: int = 0) -> None:
        self._machine = machine
        self._ahead_ms = ahead_ms
        self._lock = threading.Lock()
        self._seen_at = machine.monotonic()
        self._at = float(max(machine.now() + ahead_ms, not_before))

    def now(self) -> int:
        with self._lock:
            seen_at = self._machine.monotonic()
            passed = (seen_at - self._seen_at) * 1000
            wrong_by = self._machine.now() + self._ahead_ms - (self._at + passed)
            most = passed * _SLEW
            self._at += passed + min(max(wrong_by, -most), most)
            self._seen_at = seen_at
            return int(self._at)

    def monotonic(self) -> float:
        return self._machine.monotonic()

    def agree(self, now: int) -> None:
        """What the shared clock says at this moment."""
        with self._lock:
            self._ahead_ms = now - self._machine.now()
