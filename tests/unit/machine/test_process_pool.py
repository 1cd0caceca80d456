import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from handler.machine.process_pool import ProcessEnded, ProcessPool

PROJECT_DIR = Path(__file__).resolve().parents[3]
CHILD = str(PROJECT_DIR / "tests" / "children" / "works_on_messages.py")
ENV = {"PYTHONPATH": str(PROJECT_DIR), "PATH": os.environ["PATH"]}
OWN = psutil.Process()


def with_pool(work: Callable[[ProcessPool], Awaitable[Any]], most: int = 2) -> Any:
    async def run() -> Any:
        pool = ProcessPool([sys.executable, CHILD], ENV, PROJECT_DIR, most)
        try:
            async with asyncio.timeout(60):
                return await work(pool)
        finally:
            pool.close()

    return asyncio.run(run())


def children() -> list[int]:
    return [
        child.pid for child in OWN.children()
        if child.status() != psutil.STATUS_ZOMBIE and CHILD in child.cmdline()
    ]  # fmt: skip


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.01)


async def pid_of(pool: ProcessPool) -> int:
    return int((await pool.ask({"do": "echo"}))[0]["pid"])


def test_bytes_of_any_size_come_back_and_one_process_answers_all() -> None:
    pieces = (b"", b"x", os.urandom(3_000_000))

    async def work(pool: ProcessPool) -> None:
        answers = [await pool.ask({"do": "echo"}, *pieces) for _ in range(3)]
        assert all(tuple(back) == pieces for _, back in answers)
        assert len({head["pid"] for head, _ in answers}) == 1

    with_pool(work)


def test_no_process_is_made_before_it_is_needed_and_a_warm_one_is_used() -> None:
    async def work(pool: ProcessPool) -> None:
        assert children() == []
        pool.warm_up()
        pool.warm_up()
        [pid] = children()
        assert await pid_of(pool) == pid

    with_pool(work)


def test_what_is_given_up_is_killed_and_another_answers() -> None:
    async def work(pool: ProcessPool) -> None:
        before = await pid_of(pool)
        hanging = asyncio.create_task(pool.ask({"do": "hang"}))
        await asyncio.sleep(0.05)
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        await until(lambda: before not in children())
        assert await pid_of(pool) != before

    with_pool(work)


def test_those_that_hang_leave_no_place_taken_once_they_are_given_up() -> None:
    async def work(pool: ProcessPool) -> None:
        for _ in range(3):
            hanging = [asyncio.create_task(pool.ask({"do": "hang"})) for _ in range(4)]
            await asyncio.sleep(0.05)
            assert len(children()) <= 2
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)
        assert await pid_of(pool)

    with_pool(work)


def test_the_end_of_a_process_is_told_by_its_signal_and_the_next_is_answered() -> None:
    async def work(pool: ProcessPool) -> None:
        with pytest.raises(ProcessEnded) as caught:
            await pool.ask({"do": "end", "signal": signal.SIGKILL})
        assert caught.value.exit_code == -signal.SIGKILL
        assert await pid_of(pool)

    with_pool(work)


def test_one_that_ended_while_it_was_idle_is_replaced() -> None:
    async def work(pool: ProcessPool) -> None:
        before = await pid_of(pool)
        os.kill(before, signal.SIGKILL)
        await until(lambda: psutil.Process(before).status() == psutil.STATUS_ZOMBIE)
        assert await pid_of(pool) != before

    with_pool(work)


def test_none_is_left_when_the_pool_is_closed() -> None:
    with_pool(pid_of)
    assert children() == []


def test_they_end_with_a_worker_that_is_killed() -> None:
    code = (
        "import asyncio, sys; from pathlib import Path\n"
        "from handler.machine.process_pool import ProcessPool\n"
        "async def main():\n"
        "    pool = ProcessPool([sys.executable, sys.argv[1]], {'PYTHONPATH': sys.argv[2]},"
        " Path(), 1)\n"
        "    print((await pool.ask({'do': 'echo'}))[0]['pid'], flush=True)\n"
        "    await pool.ask({'do': 'hang'})\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", code, CHILD, str(PROJECT_DIR)]
    with subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        process = psutil.Process(int(worker.stdout.readline()))
        worker.kill()
    deadline = time.monotonic() + 20
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
