"""The clock that a serving gateway goes by: steady, and the database's where several share that."""

from gateway.clock import SteadyClock, SystemClock
from gateway.orchestrator import Step
from gateway.store.database import Database
from gateway.store.times import Times

_AGREE_S = 10


def steady_clock(database: Database) -> SteadyClock:
    machine, times = SystemClock(), Times(database)
    now = times.now()
    return SteadyClock(machine, 0 if now is None else now - machine.now(), times.latest())


def clock_steps(clock: object, database: Database) -> list[Step]:
    if not isinstance(clock, SteadyClock) or database.is_sqlite:
        return []
    times = Times(database)

    def agree() -> int:
        if (now := times.now()) is not None:
            clock.agree(now)
        return 0

    return [Step("clock", _AGREE_S, agree)]
