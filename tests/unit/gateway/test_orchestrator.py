import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest
import structlog

from gateway.job import Job
from gateway.orchestrator import Orchestrator, Step

A_JOB = Job(
    id="j", owner="o", request_id=None, body_hash="", kind="edit", due_at=0, created_at=0,
    updated_at=0,
)  # fmt: skip
LIMIT_S = 20.0


def run_with(
    script: Callable[[Orchestrator, asyncio.Event], Awaitable[None]], *steps: Step, **options: float
) -> None:
    async def main() -> None:
        orchestrator, stop = Orchestrator(steps, jitter=lambda: 0.0, **options), asyncio.Event()
        task = asyncio.create_task(orchestrator.run(stop))
        async with asyncio.timeout(LIMIT_S):
            await script(orchestrator, stop)
            stop.set()
            await task

    asyncio.run(main())


def test_a_step_is_run_again_until_it_says_that_nothing_is_left() -> None:
    left, idle = [3, 2, 1, 0], asyncio.Event()

    async def step() -> int:
        rows = left.pop(0) if left else 0
        if rows == 0:
            idle.set()
        return rows

    async def script(_: Orchestrator, __: asyncio.Event) -> None:
        await idle.wait()

    run_with(script, Step(name="s", run=step, idle_s=1000))
    assert left == []


def test_a_change_of_a_job_wakes_who_cares_from_any_thread() -> None:
    calls, again = [0], asyncio.Event()

    async def step() -> int:
        calls[0] += 1
        if calls[0] == 2:
            again.set()
        return 0

    async def script(orchestrator: Orchestrator, _: asyncio.Event) -> None:
        while not calls[0]:
            await asyncio.sleep(0)
        await asyncio.to_thread(orchestrator.hear, A_JOB)
        await again.wait()

    run_with(script, Step(name="s", run=step, idle_s=1000, cares=lambda job: job.id == "j"))


def test_a_change_that_comes_while_the_step_runs_is_not_missed() -> None:
    calls, runs, go, again = [0], asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def step() -> int:
        calls[0] += 1
        if calls[0] == 1:
            runs.set()
            await go.wait()
        else:
            again.set()
        return 0

    async def script(orchestrator: Orchestrator, _: asyncio.Event) -> None:
        await runs.wait()
        orchestrator.hear(A_JOB)
        await asyncio.sleep(0)
        go.set()
        await again.wait()

    run_with(script, Step(name="s", run=step, idle_s=1000, cares=lambda _job: True))


def test_a_step_that_fails_waits_longer_each_time_and_harms_no_other() -> None:
    other, calls, enough = [0], [0], asyncio.Event()

    async def broken() -> int:
        calls[0] += 1
        if calls[0] == 2:
            enough.set()
        raise OSError("no database")

    async def sound() -> int:
        other[0] += 1
        return 0

    async def script(_: Orchestrator, __: asyncio.Event) -> None:
        await enough.wait()

    with structlog.testing.capture_logs() as lines:
        run_with(
            script, Step(name="broken", run=broken), Step(name="sound", run=sound, idle_s=0.01)
        )
    assert [line["wait_s"] for line in lines if line["event"] == "step failed"][:2] == [0.25, 0.5]
    assert other[0] > 2


def test_a_stop_lets_the_step_that_runs_end() -> None:
    began, ended = asyncio.Event(), []

    async def step() -> int:
        began.set()
        await asyncio.sleep(0.05)
        ended.append(True)
        return 1

    async def script(_: Orchestrator, stop: asyncio.Event) -> None:
        await began.wait()
        stop.set()

    run_with(script, Step(name="s", run=step))
    assert ended == [True]


def test_a_step_that_does_not_end_is_cut_off() -> None:
    began = asyncio.Event()

    async def step() -> int:
        began.set()
        await asyncio.Event().wait()
        return 1

    async def script(_: Orchestrator, __: asyncio.Event) -> None:
        await began.wait()

    run_with(script, Step(name="s", run=step), drain_s=0.05)


@pytest.mark.parametrize("at_once", [1, 3])
def test_as_many_runners_as_allowed_work_at_once(at_once: int) -> None:
    runs, most, full, go = [0], [0], asyncio.Event(), asyncio.Event()

    async def step() -> int:
        runs[0] += 1
        most[0] = max(most[0], runs[0])
        if runs[0] == at_once:
            full.set()
        await go.wait()
        runs[0] -= 1
        return 0

    async def script(_: Orchestrator, __: asyncio.Event) -> None:
        await full.wait()
        go.set()

    run_with(script, Step(name="s", run=step, at_once=at_once, idle_s=1000))
    assert most[0] == at_once


def test_hearing_before_and_after_the_run_does_nothing() -> None:
    orchestrator = Orchestrator([Step(name="s", run=_nothing, cares=lambda _job: True)])
    orchestrator.hear(A_JOB)

    async def main() -> None:
        stop = asyncio.Event()
        stop.set()
        await orchestrator.run(stop)

    asyncio.run(main())
    thread = threading.Thread(target=orchestrator.hear, args=[A_JOB])
    thread.start()
    thread.join(LIMIT_S)


async def _nothing() -> int:
    return 0
