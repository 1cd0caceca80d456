import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handler.comfy.process import ComfyProcess
from handler.comfy.supervisor import Supervisor
from handler.comfy_api.client import ComfyClient
from handler.errors import ComfyExited, ComfyUnavailable
from handler.machine.shutdown import Shutdown
from handler.settings import child_environment
from tests.fakes.comfy import free_port

PROJECT_DIR = Path(__file__).resolve().parents[3]
CHILDREN = PROJECT_DIR / "tests" / "children"

MakeSupervisor = Callable[..., Supervisor]


def child_argv(name: str, *arguments: object) -> list[str]:
    return [sys.executable, str(CHILDREN / f"{name}.py"), *map(str, arguments)]


def answering_argv(port: int) -> list[str]:
    """Of a child that answers as soon as it is up."""
    return child_argv("answers_after", port, __file__)


@pytest.fixture
def process() -> Iterator[list[ComfyProcess]]:
    """Processes that a test has made; they are stopped at the end."""
    made: list[ComfyProcess] = []
    yield made
    for process in made:
        process.stop()


@pytest.fixture
def make(process: list[ComfyProcess]) -> MakeSupervisor:
    def make(
        argv: Callable[[int], list[str]], *, boot_timeout_s: float = 20, restarts: int = 3
    ) -> Supervisor:
        port = free_port()
        process.append(
            ComfyProcess(
                argv(port),
                launcher=PROJECT_DIR / "comfy" / "launch.py",
                port=port,
                env=child_environment(),
                on_line=lambda line: None,
            )
        )

        async def is_answering() -> bool:
            async with ComfyClient(port) as comfy:
                return await comfy.is_answering()

        return Supervisor(
            process[-1], is_answering, Shutdown(), boot_timeout_s=boot_timeout_s, restarts=restarts
        )

    return make


@pytest.fixture
def ready(make: MakeSupervisor) -> Supervisor:
    """Of a child that is up."""
    supervisor = make(answering_argv)
    supervisor.start()
    asyncio.run(supervisor.ensure_ready())
    return supervisor


def kill_child(process: ComfyProcess) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while process.exit() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def unavailable(ready: Awaitable[Any]) -> ComfyUnavailable:
    async def wait() -> None:
        await ready

    with pytest.raises(ComfyUnavailable) as caught:
        asyncio.run(wait())
    return caught.value


def test_a_child_is_ready_when_it_answers(ready: Supervisor, process: list[ComfyProcess]) -> None:
    assert process[0].exit() is None
    assert ready.generation == 1


def test_a_child_that_is_ready_stays_the_same(
    ready: Supervisor, process: list[ComfyProcess]
) -> None:
    pid = process[0].pid
    asyncio.run(ready.ensure_ready())
    assert process[0].pid == pid


def test_a_child_that_was_not_started_is_started(make: MakeSupervisor) -> None:
    supervisor = make(answering_argv)
    asyncio.run(supervisor.ensure_ready())
    assert supervisor.generation == 1


def test_a_child_that_dies_at_boot_ends_the_wait_with_its_last_lines(
    make: MakeSupervisor,
) -> None:
    supervisor = make(lambda port: child_argv("exits_at_boot"), boot_timeout_s=60)
    began = time.monotonic()
    supervisor.start()
    error = unavailable(supervisor.ensure_ready())
    assert time.monotonic() - began < 10
    assert error.message == "ComfyUI ended while it was starting (exit code 3)"
    assert error.details["exit_code"] == 3
    assert "ImportError: no module named wool" in error.details["log_tail"]


def test_a_child_that_does_not_answer_in_time_is_stopped(
    make: MakeSupervisor, process: list[ComfyProcess]
) -> None:
    supervisor = make(lambda port: child_argv("never_ready"), boot_timeout_s=0.5)
    supervisor.start()
    error = unavailable(supervisor.ensure_ready())
    assert error.message == "ComfyUI did not answer within 0.5 s of its start"
    assert process[0].pid is None


def test_a_child_that_does_not_answer_in_time_leaves_its_last_lines(
    make: MakeSupervisor,
) -> None:
    supervisor = make(lambda port: child_argv("never_ready"), boot_timeout_s=0.5)
    supervisor.start()
    error = unavailable(supervisor.ensure_ready())
    assert error.details["log_tail"] == ["starting, for ever"]


def test_a_spent_budget_asks_for_another_worker(make: MakeSupervisor) -> None:
    supervisor = make(lambda port: child_argv("exits_at_boot"), restarts=1)
    supervisor.start()
    errors = [unavailable(supervisor.ensure_ready()) for _ in range(3)]
    assert [error.refresh_worker for error in errors] == [False, False, True]
    assert supervisor.generation == 2
    assert "ended 2 times within 10 minutes, last with exit code 3" in errors[2].message
    assert "ImportError: no module named wool" in errors[2].details["log_tail"]


def test_a_spent_budget_starts_no_further_child(
    make: MakeSupervisor, process: list[ComfyProcess]
) -> None:
    supervisor = make(lambda port: child_argv("exits_at_boot"), restarts=0)
    supervisor.start()
    unavailable(supervisor.ensure_ready())
    pid = process[0].pid
    with pytest.raises(ComfyUnavailable, match="giving up"):
        supervisor.start()
    assert process[0].pid == pid


def test_a_boot_timeout_is_what_a_spent_budget_tells(make: MakeSupervisor) -> None:
    supervisor = make(lambda port: child_argv("never_ready"), boot_timeout_s=0.3, restarts=0)
    supervisor.start()
    unavailable(supervisor.ensure_ready())
    error = unavailable(supervisor.ensure_ready())
    assert "exit code 0" not in error.message
    assert error.details["log_tail"] == ["starting, for ever"]


def test_a_child_that_lives_passes_the_check(ready: Supervisor) -> None:
    ready.check_alive(ready.generation)


def test_the_death_of_a_child_is_told_with_its_reason(
    ready: Supervisor, process: list[ComfyProcess]
) -> None:
    kill_child(process[0])
    with pytest.raises(ComfyExited, match="SIGKILL, likely for lack of memory") as caught:
        ready.check_alive(1)
    # Its last lines are in the log alone: they may be of another caller's job.
    assert caught.value.details == {"exit_code": -signal.SIGKILL}


def test_a_spent_budget_tells_no_lines_of_a_child_that_has_had_jobs(
    make: MakeSupervisor, process: list[ComfyProcess]
) -> None:
    supervisor = make(answering_argv, restarts=0)
    asyncio.run(supervisor.ensure_ready())
    kill_child(process[0])
    error = unavailable(supervisor.ensure_ready())
    assert (error.details["log_tail"], error.refresh_worker) == ([], True)


def test_the_death_of_a_child_has_the_next_one_booting(
    ready: Supervisor, process: list[ComfyProcess]
) -> None:
    kill_child(process[0])
    with pytest.raises(ComfyExited):
        ready.check_alive(1)
    assert ready.generation == 2
    assert process[0].exit() is None
    asyncio.run(ready.ensure_ready())
    ready.check_alive(2)


def test_all_who_held_the_dead_child_hear_of_it_and_one_child_is_started(
    ready: Supervisor, process: list[ComfyProcess]
) -> None:
    kill_child(process[0])
    for _ in range(2):
        with pytest.raises(ComfyExited, match="SIGKILL"):
            ready.check_alive(1)
    assert ready.generation == 2


def test_the_check_tells_of_the_death_even_when_the_budget_is_spent(
    make: MakeSupervisor, process: list[ComfyProcess]
) -> None:
    supervisor = make(answering_argv, restarts=0)
    asyncio.run(supervisor.ensure_ready())
    kill_child(process[0])
    with pytest.raises(ComfyExited):
        supervisor.check_alive(1)
    assert unavailable(supervisor.ensure_ready()).refresh_worker


def test_a_ready_child_that_died_is_replaced_by_ensure_ready(
    ready: Supervisor, process: list[ComfyProcess]
) -> None:
    kill_child(process[0])
    asyncio.run(ready.ensure_ready())
    assert ready.generation == 2
    assert process[0].exit() is None


def test_concurrent_waits_share_one_boot(make: MakeSupervisor, process: list[ComfyProcess]) -> None:
    supervisor = make(answering_argv)

    async def wait() -> None:
        await asyncio.gather(*(supervisor.ensure_ready() for _ in range(3)))

    asyncio.run(wait())
    assert supervisor.generation == 1


def test_concurrent_waits_all_hear_of_a_failed_boot(make: MakeSupervisor) -> None:
    supervisor = make(lambda port: child_argv("exits_at_boot"))

    async def wait() -> list[Any]:
        waits = (supervisor.ensure_ready() for _ in range(3))
        return await asyncio.gather(*waits, return_exceptions=True)

    assert {type(result) for result in asyncio.run(wait())} == {ComfyUnavailable}
    assert supervisor.generation == 1


def test_a_cancelled_wait_does_not_cancel_the_boot(make: MakeSupervisor, tmp_path: Path) -> None:
    opens = tmp_path / "opens"
    supervisor = make(lambda port: child_argv("answers_after", port, opens))

    async def scene() -> None:
        cancelled, other = (asyncio.create_task(supervisor.ensure_ready()) for _ in range(2))
        await asyncio.wait({cancelled}, timeout=0.2)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        opens.touch()
        async with asyncio.timeout(10):
            await other

    asyncio.run(scene())
    assert supervisor.generation == 1


def test_a_boot_that_nobody_waits_for_any_more_serves_the_next_job(
    make: MakeSupervisor, tmp_path: Path
) -> None:
    opens = tmp_path / "opens"
    supervisor = make(lambda port: child_argv("answers_after", port, opens))

    async def scene() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await supervisor.ensure_ready()
        opens.touch()
        async with asyncio.timeout(10):
            await supervisor.ensure_ready()

    asyncio.run(scene())
    assert supervisor.generation == 1


def test_a_boot_cut_off_with_its_event_loop_is_taken_up_by_the_next(
    make: MakeSupervisor, tmp_path: Path
) -> None:
    opens = tmp_path / "opens"
    supervisor = make(lambda port: child_argv("answers_after", port, opens))

    async def start() -> None:
        await asyncio.wait({asyncio.create_task(supervisor.ensure_ready())}, timeout=0.2)

    asyncio.run(start())
    opens.touch()
    asyncio.run(supervisor.ensure_ready())
    assert supervisor.generation == 1


def test_a_restart_replaces_the_child(ready: Supervisor, process: list[ComfyProcess]) -> None:
    before = process[0].pid
    ready.restart("a test")
    assert process[0].pid != before
    asyncio.run(ready.ensure_ready())
    ready.check_alive(2)


def test_after_a_restart_the_old_childs_prompts_are_lost(ready: Supervisor) -> None:
    ready.restart("a test")
    with pytest.raises(ComfyExited):
        ready.check_alive(1)


def test_a_deliberate_restart_does_not_draw_on_the_budget(make: MakeSupervisor) -> None:
    supervisor = make(answering_argv, restarts=0)
    asyncio.run(supervisor.ensure_ready())
    supervisor.restart("a test")
    asyncio.run(supervisor.ensure_ready())


def test_a_restart_for_a_broken_gpu_draws_on_the_budget(make: MakeSupervisor) -> None:
    supervisor = make(answering_argv, restarts=0)
    asyncio.run(supervisor.ensure_ready())
    supervisor.restart("a test", is_deliberate=False)
    assert unavailable(supervisor.ensure_ready()).refresh_worker


def test_prompts_of_a_child_that_the_worker_stopped_can_tell(
    ready: Supervisor, process: list[ComfyProcess]
) -> None:
    ready.restart("a test")
    with pytest.raises(ComfyExited) as caught:
        ready.check_alive(1)
    assert caught.value.was_stopped
    kill_child(process[0])
    with pytest.raises(ComfyExited) as caught:
        ready.check_alive(2)
    assert not caught.value.was_stopped


class Undying(ComfyProcess):
    """Its child does not end."""

    is_stuck = False

    def stop(self, grace_s: float = 0) -> None:
        if self.pid is not None:
            self.is_stuck = True
            error = ComfyUnavailable("it does not end")
            error.refresh_worker = True
            raise error


def test_a_child_that_does_not_end_is_reported_by_each_job_and_has_no_successor(
    ready: Supervisor, process: list[ComfyProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = process[0].pid
    with monkeypatch.context() as patch:
        patch.setattr(process[0], "__class__", Undying)
        ready.restart("a test")
        with pytest.raises(ComfyExited):
            ready.check_alive(1)
        for _ in range(2):
            error = unavailable(ready.ensure_ready())
            assert (error.message, error.refresh_worker) == ("it does not end", True)
        assert process[0].pid == pid


def test_a_worker_that_leaves_at_once_starts_no_other_child(
    ready: Supervisor, process: list[ComfyProcess]
) -> None:
    pid = process[0].pid
    ready.leave_at_once()
    deadline = time.monotonic() + 10
    while process[0].exit() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(ComfyExited):
        ready.check_alive(1)
    ready.restart("a test")
    assert unavailable(ready.ensure_ready()).message == "the worker is shutting down"
    assert process[0].pid in (None, pid)


def test_stop_ends_the_child(ready: Supervisor, process: list[ComfyProcess]) -> None:
    pid = process[0].pid
    ready.stop()
    assert not Path(f"/proc/{pid}").exists()
