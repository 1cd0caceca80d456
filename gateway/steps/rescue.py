"""Jobs whose worker fell silent go to the next one; jobs that waited too long end."""

from gateway.clock import Clock
from gateway.job import DeadlinePassed
from gateway.store.jobs import JobStore

_MOST = 100


def lose_silent_workers(store: JobStore, clock: Clock) -> int:
    return len(store.lose_silent(clock.now(), _MOST))


def expire(store: JobStore, clock: Clock) -> int:
    return len(store.expire(DeadlinePassed(), clock.now(), _MOST))
