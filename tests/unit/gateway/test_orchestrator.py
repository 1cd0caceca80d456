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
    script: Callable[[Orchestrator], Awaitable[None]], *steps: Step, drain_s: float = LIMIT_S
) -> None:
    async def main() -> None:
        orchestrator = Orchestrator(steps, jitter=lambda: 0.0)
        async with asyncio.timeout(LIMIT_S):
            orchestrator.start()
            await script(orchestrator)
            await orchestrator.stop(drain_s)

    asyncio.run(main())


def test_a_step_is_run_again_until_it_says_that_nothing_is_left() -> None:
    left, idle = [3, 2, 1, 0], asyncio.Event()

    async def step() -> int:
        rows = left.pop(0) if left else 0
        if rows == 0:
            idle.set()
        return rows

    async def script(_: Orchestrator) -> None:
        await idle.wait()

    run_with(script, Step("s", 1000, step))
    assert left == []


def test_a_change_of_a_job_wakes_who_cares_from_any_thread() -> None:
    calls, again = [0], asyncio.Event()

    async def step() -> int:
        calls[0] += 1
        if calls[0] == 2:
            again.set()
        return 0

    async def script(orchestrator: Orchestrator) -> None:
        while not calls[0]:
            await asyncio.sleep(0)
        await asyncio.to_thread(orchestrator.hear, A_JOB)
        await again.wait()

    run_with(script, Step("s", 1000, step, cares=lambda job: job.id == "j"))


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

    async def script(orchestrator: Orchestrator) -> None:
        await runs.wait()
        orchestrator.hear(A_JOB)
        await asyncio.sleep(0)
        go.set()
        await again.wait()

    run_with(script, Step("s", 1000, step, cares=lambda _job: True))


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

    async def script(_: Orchestrator) -> None:
        await enough.wait()

    with structlog.testing.capture_logs() as lines:
        run_with(script, Step("broken", 0.5, broken), Step("sound", 0.01, sound))
    assert [line["wait_s"] for line in lines if line["event"] == "step failed"][:2] == [0.25, 0.5]
    assert other[0] > 2


def test_a_stop_lets_the_step_that_runs_end() -> None:
    began, ended = asyncio.Event(), []

    async def step() -> int:
        began.set()
        await asyncio.sleep(0.05)
        ended.append(True)
        return 1

    async def script(_: Orchestrator) -> None:
        await began.wait()

    run_with(script, Step("s", 0.5, step))
    assert ended == [True]


def test_a_step_that_does_not_end_is_cut_off() -> None:
    began = asyncio.Event()

    async def step() -> int:
        began.set()
        await asyncio.Event().wait()
        return 1

    async def script(_: Orchestrator) -> None:
        await began.wait()

    run_with(script, Step("s", 0.5, step), drain_s=0.05)


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

    async def script(_: Orchestrator) -> None:
        await full.wait()
        go.set()

    run_with(script, Step("s", 1000, step, at_once=at_once))
    assert most[0] == at_once


def test_hearing_before_and_after_the_run_does_nothing() -> None:
    orchestrator = Orchestrator([Step("s", 0.5, _nothing, cares=lambda _job: True)])
    orchestrator.hear(A_JOB)

    async def main() -> None:
        orchestrator.start()
        await orchestrator.stop(LIMIT_S)

    asyncio.run(main())
    thread = threading.Thread(target=orchestrator.hear, args=[A_JOB])
    thread.start()
    thread.join(LIMIT_S)


async def _nothing() -> int:
    return 0
