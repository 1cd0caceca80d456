import asyncio
import contextvars
import subprocess
import sys
import threading

import pytest

from handler.machine.daemon_thread import in_daemon_thread


def test_the_result_comes_back() -> None:
    assert asyncio.run(in_daemon_thread(lambda: 3)) == 3


def test_what_is_raised_comes_back() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(in_daemon_thread(lambda: 1 // 0))


def test_the_call_sees_the_context_of_its_caller() -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")

    async def scene() -> str:
        name.set("job-1")
        return await in_daemon_thread(name.get)

    assert asyncio.run(scene()) == "job-1"


def test_a_cancelled_wait_ends_while_the_call_goes_on() -> None:
    begun, released, ended = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        released.wait(10)
        ended.set()

    async def scene() -> None:
        task = asyncio.create_task(in_daemon_thread(call))
        assert await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())
    assert not ended.is_set()
    # Its loop is gone by now.
    released.set()
    assert ended.wait(10)


def test_a_call_that_hangs_does_not_hold_up_the_end_of_the_process() -> None:
    program = (
        "import asyncio, contextlib, time\n"
        "from handler.machine.daemon_thread import in_daemon_thread\n"
        "with contextlib.suppress(TimeoutError):\n"
        "    asyncio.run(asyncio.wait_for(in_daemon_thread(lambda: time.sleep(300)), 0.1))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 0
