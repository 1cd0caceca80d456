"""Calls kept under a rate, however many want to make one."""

from collections.abc import Awaitable, Callable


class Pace:
    """At most `per_s` turns a second, evenly; a pause holds all of them."""

    def __init__(
        self,
        per_s: float,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._gap_s = 1 / per_s
        self._monotonic = monotonic
        self._sleep = sleep
        self._next = 0.0

    async def turn(self) -> None:
        now = self._monotonic()
        at = max(now, self._next)
        self._next = at + self._gap_s
        if at > now:
            await self._sleep(at - now)

    def pause(self, seconds: float) -> None:
        self._next = max(self._next, self._monotonic() + seconds)
