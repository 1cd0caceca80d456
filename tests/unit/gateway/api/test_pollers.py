"""Who gets the next job, and who is woken for it."""

import asyncio

from gateway.api.bell import QUEUE, Bell, stop_topic
from gateway.api.pollers import Pollers
from gateway.job import RUNPOD, JobState
from tests.jobs import NOW, make_job


def test_a_worker_with_a_job_in_hand_sees_who_has_none() -> None:
    pollers = Pollers()
    with pollers.waiting("idle", is_idle=True), pollers.waiting("busy", is_idle=False):
        assert (pollers.idle_others("busy"), pollers.idle_others("idle")) == (1, 0)
        with pollers.waiting("idle", is_idle=True):
            assert pollers.idle_others("busy") == 1
    assert pollers.idle_others("busy") == 0


async def _heard(bell: Bell, topic: str, **job: object) -> bool:
    with bell.listen(topic) as rung:
        bell.hear(make_job(**job))
        return await bell.wait(rung, 0.2)


def test_a_change_wakes_those_whom_it_concerns() -> None:
    async def run() -> None:
        bell = Bell()
        bell.open()
        job = make_job()
        assert await _heard(bell, QUEUE, id=job.id)
        assert await _heard(bell, job.id, id=job.id)
        assert not await _heard(bell, QUEUE, backend=RUNPOD)
        assert not await _heard(bell, make_job(created_at=NOW + 1).id, id=job.id)
        running = {"state": JobState.RUNNING, "lease_owner": "gpu-1"}
        assert await _heard(bell, stop_topic("gpu-1"), **running, cancel_asked_at=NOW)
        assert not await _heard(bell, stop_topic("gpu-2"), **running, cancel_asked_at=NOW)
        assert not await _heard(bell, stop_topic("gpu-1"), **running)

    asyncio.run(run())


def test_nobody_waits_once_the_end_has_begun() -> None:
    async def run() -> None:
        bell = Bell()
        bell.open()
        with bell.listen(QUEUE) as rung:
            waiting = asyncio.create_task(bell.wait(rung, 60))
            await asyncio.sleep(0)
            bell.close()
            async with asyncio.timeout(10):
                await waiting
                assert not await bell.wait(rung, 60)

    asyncio.run(run())
    Bell().hear(make_job())
