import asyncio

from handler.machine.shutdown import Shutdown


def test_a_worker_works_until_it_is_told() -> None:
    shutdown = Shutdown()
    assert not shutdown.is_ending
    assert not shutdown.is_leaving


def test_a_worker_that_ends_does_not_leave_yet() -> None:
    shutdown = Shutdown()
    shutdown.begin()
    assert shutdown.is_ending
    assert not shutdown.is_leaving


def test_a_worker_that_leaves_never_goes_back() -> None:
    shutdown = Shutdown()
    shutdown.leave()
    shutdown.begin()
    assert shutdown.is_ending
    assert shutdown.is_leaving


def test_who_waits_is_told_once_and_for_all() -> None:
    async def scene() -> None:
        shutdown = Shutdown()
        waiting = asyncio.create_task(shutdown.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        shutdown.leave()
        async with asyncio.timeout(10):
            await waiting
            await shutdown.wait()

    asyncio.run(scene())
