"""Wakes the requests of this process that wait for a job. Who misses a ring, as of another process,
looks by itself after a while: a ring saves time and decides nothing."""

import asyncio
import contextlib
from collections.abc import Iterator

from gateway.job import OWN, Job, JobState

QUEUE = "queue"
LOOK_AGAIN_S = 0.5


class Bell:
    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self.is_closed = False

    def open(self) -> None:
        """On the loop that the waiting happens on."""
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """All who wait are woken, and nobody waits any more: the process is to end."""
        self.is_closed = True
        for events in self._waiting.values():
            for event in events:
                event.set()

    def close_soon(self) -> None:
        """From a signal handler."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.close)

    def hear(self, job: Job) -> None:
        """From any thread."""
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._ring, job)

    @contextlib.contextmanager
    def listen(self, topic: str) -> Iterator[asyncio.Event]:
        event = asyncio.Event()
        self._waiting.setdefault(topic, set()).add(event)
        try:
            yield event
        finally:
            self._waiting[topic].discard(event)
            if not self._waiting[topic]:
                del self._waiting[topic]

    async def wait(self, event: asyncio.Event, seconds: float = LOOK_AGAIN_S) -> bool:
        """Until it rings, or so long; whether it rang."""
        if self.is_closed:
            return False
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        event.clear()
        return True

    def _ring(self, job: Job) -> None:
        topics = [job.id]
        if job.state is JobState.QUEUED and job.backend == OWN:
            topics.append(QUEUE)
        if job.cancel_asked_at is not None and job.lease_owner is not None:
            topics.append(stop_topic(job.lease_owner))
        for topic in topics:
            for event in self._waiting.get(topic, ()):
                event.set()


def stop_topic(worker: str) -> str:
    return f"stop:{worker}"
