"""How far the worker's end has come."""

import asyncio
from enum import IntEnum


class _Phase(IntEnum):
    WORKING = 0
    ENDING = 1
    LEAVING = 2


class Shutdown:
    """The one state that all who must know of the end look at; it never goes back.

    When it `is_ending`, no more jobs are taken and those in hand may end well. When it
    `is_leaving`, ComfyUI is about to be killed: no prompt needs to be stopped by itself, and no
    other child is started.
    """

    def __init__(self) -> None:
        self._phase = _Phase.WORKING
        self._has_begun = asyncio.Event()

    @property
    def is_ending(self) -> bool:
        return self._phase >= _Phase.ENDING

    @property
    def is_leaving(self) -> bool:
        return self._phase is _Phase.LEAVING

    def begin(self) -> None:
        self._reach(_Phase.ENDING)

    def leave(self) -> None:
        self._reach(_Phase.LEAVING)

    async def wait(self) -> None:
        """Until it begins. On one event loop only, on which it is to begin as well."""
        await self._has_begun.wait()

    def _reach(self, phase: _Phase) -> None:
        self._phase = max(self._phase, phase)
        self._has_begun.set()
