"""How much of what is large is in memory at a time: bodies, and the pictures in them."""

import asyncio
from contextlib import AbstractAsyncContextManager

SMALL_BYTES = 1_000_000
# Of one that is large there are the body, its text, its pictures and one of them decoded.
_LARGE = 2
_SMALL = 32


class Slots:
    def __init__(self) -> None:
        self._small = asyncio.Semaphore(_SMALL)
        self._large = asyncio.Semaphore(_LARGE)

    def of(self, size: int) -> AbstractAsyncContextManager[None]:
        """To be held while so many bytes are worked on."""
        return self._large if size > SMALL_BYTES else self._small
