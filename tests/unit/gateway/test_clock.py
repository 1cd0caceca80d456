"""The gateway's clock: set forward or back, the machine's moves no lease and no wait."""

import pytest

from gateway.clock import SteadyClock
from gateway.store.database import Database
from gateway.store.jobs import JobStore
from gateway.store.times import Times
from tests.jobs import NOW, make_job

HOUR_MS = 3_600_000


class Machine:
    def __init__(self) -> None:
        self.wall, self.seconds = NOW, 0.0

    def now(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds

    def run(self, seconds: float) -> None:
        self.seconds += seconds
        self.wall += int(seconds * 1000)


def test_it_goes_with_the_machines() -> None:
    machine = Machine()
    clock = SteadyClock(machine)
    machine.run(10)
    assert clock.now() == NOW + 10_000


@pytest.mark.parametrize("jump", [HOUR_MS, -HOUR_MS, 10**12, -(10**12)])
def test_a_jump_moves_it_by_a_twentieth_of_what_passes(jump: int) -> None:
    machine = Machine()
    clock = SteadyClock(machine)
    machine.wall += jump
    assert clock.now() == NOW
    machine.run(10)
    assert abs(clock.now() - NOW - 10_000) <= 500


@pytest.mark.parametrize("jump", [20_000, -20_000])
def test_after_a_while_it_agrees_again_and_never_goes_back(jump: int) -> None:
    machine = Machine()
    clock = SteadyClock(machine)
    machine.wall += jump
    seen = [clock.now()]
    for _ in range(500):
        machine.run(1)
        seen.append(clock.now())
    assert seen == sorted(seen)
    assert seen[-1] == machine.wall


def test_set_back_over_a_restart_it_goes_on_where_it_was() -> None:
    machine = Machine()
    clock = SteadyClock(machine, not_before=NOW + HOUR_MS)
    assert clock.now() == NOW + HOUR_MS
    machine.run(100)
    assert NOW + HOUR_MS + 95_000 <= clock.now() < NOW + HOUR_MS + 100_000


def test_two_machines_that_disagree_share_the_databases_time() -> None:
    ahead, behind = Machine(), Machine()
    ahead.wall += HOUR_MS
    clocks = [SteadyClock(one, NOW - one.now()) for one in (ahead, behind)]
    assert [clock.now() for clock in clocks] == [NOW, NOW]
    for one, clock in zip((ahead, behind), clocks, strict=True):
        one.wall -= 5 * HOUR_MS
        one.run(5)
        clock.agree(NOW + 5_000)
        one.run(5)
        assert clock.now() == NOW + 10_000


def test_the_database_tells_the_latest_change_of_an_open_job(database: Database) -> None:
    times, store = Times(database), JobStore(database)
    assert times.latest() == 0
    job = store.create(make_job(updated_at=NOW + 5))[0]
    assert times.latest() == NOW + 5
    store.cancel(job.id, NOW + 9)
    assert times.latest() == 0


def test_of_the_two_databases_one_has_a_clock(database: Database) -> None:
    assert (Times(database).now() is None) == database.is_sqlite
