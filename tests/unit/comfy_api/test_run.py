import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog

from handler.comfy.process import ComfyProcess
from handler.comfy.supervisor import Supervisor
from handler.comfy_api.client import ComfyClient
from handler.comfy_api.run import PromptRun
from handler.errors import ComfyExited, ComfyUnavailable, PromptLost, WorkflowRejected
from handler.machine.shutdown import Shutdown
from handler.settings import child_environment
from tests.fakes.comfy import fake_argv, free_port, graph, node

LAUNCHER = Path(__file__).resolve().parents[3] / "comfy" / "launch.py"


class Stage:
    """A fake ComfyUI in a child process, its supervisor, and prompt runs on it."""

    def __init__(self, restarts: int = 100) -> None:
        self.updates: list[dict[str, Any]] = []
        self.port = free_port()
        self.process = ComfyProcess(
            fake_argv(self.port),
            launcher=LAUNCHER,
            port=self.port,
            env=child_environment(),
            on_line=print,
        )
        self.supervisor = Supervisor(
            self.process, self.is_answering, Shutdown(), boot_timeout_s=30, restarts=restarts
        )

    async def is_answering(self) -> bool:
        async with ComfyClient(self.port) as comfy:
            return await comfy.is_answering()

    def play(self, scene: Callable[[ComfyClient], Awaitable[Any]]) -> Any:
        """Runs a scene on a fresh event loop, with a client, within 30 s."""

        async def whole() -> Any:
            async with asyncio.timeout(30), ComfyClient(self.port) as comfy:
                return await scene(comfy)

        return asyncio.run(whole())

    async def execute(
        self, prompt: dict[str, Any], prompt_id: str = "p1", grace_s: float = 5
    ) -> dict[str, Any]:
        """As the runner does it: one client for one run."""
        async with ComfyClient(self.port) as comfy:
            return await PromptRun(
                comfy,
                self.supervisor,
                prompt,
                prompt_id,
                interrupt_grace_s=grace_s,
                on_wait=lambda: self.updates.append({"phase": "wait"}),
                on_progress=self.updates.append,
            ).execute()

    def start(self, *arguments: Any, **options: Any) -> asyncio.Task[dict[str, Any]]:
        return asyncio.create_task(self.execute(*arguments, **options))

    def kill_child(self) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)


async def until(is_met: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(10):
        while not await is_met():
            await asyncio.sleep(0.01)


async def until_running(comfy: ComfyClient, prompt_id: str) -> None:
    async def is_running() -> bool:
        return prompt_id in (await comfy.queue())[0]

    await until(is_running)


async def until_pending(comfy: ComfyClient, prompt_id: str) -> None:
    async def is_pending() -> bool:
        return prompt_id in (await comfy.queue())[1]

    await until(is_pending)


async def is_unknown(comfy: ComfyClient, prompt_id: str) -> bool:
    running, pending = await comfy.queue()
    return prompt_id not in running | pending and await comfy.history(prompt_id) is None


async def cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def slow(seconds: float, *, obeys: bool = True) -> dict[str, Any]:
    return graph("SlowImage", seconds=seconds, obeys=obeys)


def status_of(entry: dict[str, Any]) -> str:
    return str(entry["status"]["status_str"])


Logged = list[structlog.typing.EventDict]


@pytest.fixture
def logged() -> Iterator[Logged]:
    """What the worker logs during the test: the only outer sign of what it knows."""
    structlog.reset_defaults()
    with structlog.testing.capture_logs() as logged:
        yield logged


async def until_seen_to_run(logged: Logged) -> None:
    """A prompt has begun, and its run has noticed."""

    async def is_seen() -> bool:
        return any(line["event"] == "progress" for line in logged)

    await until(is_seen)


@pytest.fixture(scope="module")
def shared_stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.process.stop()


@pytest.fixture
def stage(shared_stage: Stage) -> Iterator[Stage]:
    """Of all tests here, since each child costs a second; no test may leave a prompt behind."""
    yield shared_stage
    if shared_stage.process.exit() is None:
        shared_stage.play(_check_is_idle)


async def _check_is_idle(comfy: ComfyClient) -> None:
    # A child that is still booting holds nothing.
    with contextlib.suppress(ComfyUnavailable):
        assert await comfy.queue() == (set(), set()), "a prompt was left behind"


def test_a_good_prompt_ends_with_its_history_entry(stage: Stage) -> None:
    entry = asyncio.run(stage.execute(graph(name="job/cat")))
    assert status_of(entry) == "success"
    assert entry["outputs"]["2"]["images"] == [
        {"filename": "cat_00001_.png", "subfolder": "job", "type": "output"}
    ]


def test_a_finished_prompt_is_forgotten_by_comfyui(stage: Stage) -> None:
    async def scene(comfy: ComfyClient) -> None:
        await stage.execute(graph(), "p1")
        assert await is_unknown(comfy, "p1")

    stage.play(scene)


def test_a_failed_node_is_a_history_entry_too(stage: Stage) -> None:
    entry = asyncio.run(stage.execute(graph("FailingImage", kind="error")))
    assert status_of(entry) == "error"


def test_a_silent_websocket_does_not_hold_up_the_end(stage: Stage) -> None:
    began = time.monotonic()
    entry = asyncio.run(stage.execute(graph("SilentSocket", "SlowImage", seconds=0.2, obeys=True)))
    assert status_of(entry) == "success"
    assert time.monotonic() - began < 5


def test_a_websocket_that_is_cut_does_not_hold_up_the_end(stage: Stage) -> None:
    entry = asyncio.run(stage.execute(graph("CutSocket", "SlowImage", seconds=0.2, obeys=True)))
    assert status_of(entry) == "success"


def test_a_node_that_holds_the_interpreter_is_waited_for(stage: Stage) -> None:
    entry = asyncio.run(stage.execute(graph("Block", seconds=0.8)))
    assert status_of(entry) == "success"


def test_prompts_of_two_jobs_both_end(stage: Stage) -> None:
    async def scene(_: ComfyClient) -> None:
        entries = await asyncio.gather(stage.execute(slow(0.3), "p1"), stage.execute(graph(), "p2"))
        assert [status_of(entry) for entry in entries] == ["success", "success"]

    stage.play(scene)


def test_a_child_killed_while_it_executes_ends_the_run_at_once(
    stage: Stage, logged: Logged
) -> None:
    async def scene(_: ComfyClient) -> None:
        await stage.supervisor.ensure_ready()
        run = stage.start(slow(60))
        await until_seen_to_run(logged)
        began = time.monotonic()
        stage.kill_child()
        with pytest.raises(ComfyExited) as caught:
            await run
        assert time.monotonic() - began < 2
        assert caught.value.details["exit_code"] == -signal.SIGKILL

    stage.play(scene)


def test_a_child_that_kills_itself_is_not_given_the_prompt_again(stage: Stage) -> None:
    asyncio.run(stage.supervisor.ensure_ready())
    generation = stage.supervisor.generation
    with pytest.raises(ComfyExited):
        asyncio.run(stage.execute(graph("SlowImage", "Die", seconds=1, obeys=True)))
    assert stage.supervisor.generation == generation + 1


def test_a_prompt_that_kills_every_child_is_tried_twice_at_most(stage: Stage) -> None:
    """Without the websocket the worker can't tell that it had begun."""
    asyncio.run(stage.supervisor.ensure_ready())
    generation = stage.supervisor.generation
    with pytest.raises(ComfyExited):
        asyncio.run(stage.execute(graph("SilentSocket", "Die")))
    assert stage.supervisor.generation == generation + 2


def test_a_child_that_dies_after_the_end_does_not_take_the_result(stage: Stage) -> None:
    assert status_of(asyncio.run(stage.execute(graph("DieForgotten")))) == "success"


def test_the_job_after_a_killed_child_runs(stage: Stage) -> None:
    with pytest.raises(ComfyExited):
        asyncio.run(stage.execute(graph("Die")))
    assert status_of(asyncio.run(stage.execute(graph()))) == "success"


def test_a_prompt_that_waited_when_the_child_was_killed_is_queued_again(
    stage: Stage, logged: Logged
) -> None:
    async def scene(comfy: ComfyClient) -> None:
        await stage.supervisor.ensure_ready()
        first = stage.start(slow(60), "p1")
        await until_seen_to_run(logged)
        second = stage.start(graph(), "p2")
        await until_pending(comfy, "p2")
        stage.kill_child()
        with pytest.raises(ComfyExited):
            await first
        assert status_of(await second) == "success"

    stage.play(scene)


def test_a_child_that_died_unseen_before_the_prompt_is_replaced(stage: Stage) -> None:
    asyncio.run(stage.supervisor.ensure_ready())
    stage.kill_child()
    assert status_of(asyncio.run(stage.execute(graph()))) == "success"


def test_cancelling_a_pending_prompt_takes_it_out_of_the_queue(stage: Stage) -> None:
    async def scene(comfy: ComfyClient) -> None:
        first = stage.start(slow(60), "p1")
        await until_running(comfy, "p1")
        second = stage.start(graph(), "p2")
        await until_pending(comfy, "p2")
        await cancel(second)
        assert await is_unknown(comfy, "p2")
        assert "p1" in (await comfy.queue())[0]
        await cancel(first)

    asyncio.run(stage.supervisor.ensure_ready())
    stage.play(scene)


def test_cancelling_a_running_prompt_interrupts_it(stage: Stage) -> None:
    async def scene(comfy: ComfyClient) -> None:
        run = stage.start(slow(60))
        await until_running(comfy, "p1")
        began = time.monotonic()
        await cancel(run)
        assert time.monotonic() - began < 3
        assert await is_unknown(comfy, "p1")

    asyncio.run(stage.supervisor.ensure_ready())
    generation = stage.supervisor.generation
    stage.play(scene)
    assert stage.supervisor.generation == generation


def test_a_second_cancellation_does_not_leave_the_prompt_behind(stage: Stage) -> None:
    async def scene(comfy: ComfyClient) -> None:
        run = stage.start(slow(1, obeys=False))
        await until_running(comfy, "p1")
        run.cancel()
        await asyncio.wait({run}, timeout=0.2)
        await cancel(run)
        assert await is_unknown(comfy, "p1")

    asyncio.run(stage.supervisor.ensure_ready())
    stage.play(scene)


def test_a_cancellation_during_the_stop_of_a_rejected_prompt_is_not_lost(stage: Stage) -> None:
    prompt = slow(1, obeys=False)
    prompt["9"] = node("SaveImage", filename_prefix="x")

    async def scene(comfy: ComfyClient) -> None:
        run = stage.start(prompt)
        await until_running(comfy, "p1")
        await cancel(run)
        assert await is_unknown(comfy, "p1")

    asyncio.run(stage.supervisor.ensure_ready())
    stage.play(scene)


def test_an_interruption_that_comfyui_loses_is_sent_again(stage: Stage) -> None:
    async def scene(comfy: ComfyClient) -> None:
        run = stage.start(graph("DeafOnce", "SlowImage", seconds=60, obeys=True))
        await until_running(comfy, "p1")
        await cancel(run)
        assert await is_unknown(comfy, "p1")

    asyncio.run(stage.supervisor.ensure_ready())
    generation = stage.supervisor.generation
    stage.play(scene)
    assert stage.supervisor.generation == generation


def test_a_node_that_ignores_the_interruption_costs_the_child(stage: Stage) -> None:
    async def scene(comfy: ComfyClient) -> None:
        run = stage.start(slow(60, obeys=False), grace_s=0.5)
        await until_running(comfy, "p1")
        began = time.monotonic()
        await cancel(run)
        assert time.monotonic() - began < 3

    asyncio.run(stage.supervisor.ensure_ready())
    generation, pid = stage.supervisor.generation, stage.process.pid
    stage.play(scene)
    assert stage.supervisor.generation == generation + 1
    assert stage.process.pid != pid


def test_a_prompt_that_waited_behind_a_stubborn_one_survives_the_restart(stage: Stage) -> None:
    async def scene(comfy: ComfyClient) -> None:
        first = stage.start(slow(60, obeys=False), "p1", grace_s=0.3)
        await until_running(comfy, "p1")
        second = stage.start(graph(), "p2")
        await until_pending(comfy, "p2")
        await cancel(first)
        assert status_of(await second) == "success"

    asyncio.run(stage.supervisor.ensure_ready())
    stage.play(scene)


def test_a_prompt_that_comfyui_has_lost_ends_the_run(stage: Stage) -> None:
    began = time.monotonic()
    with pytest.raises(PromptLost):
        asyncio.run(stage.execute(graph("Vanish")))
    assert time.monotonic() - began < 5


def test_a_prompt_over_its_time_is_stopped(stage: Stage) -> None:
    async def scene(comfy: ComfyClient) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await stage.execute(slow(60))
        assert await is_unknown(comfy, "p1")

    asyncio.run(stage.supervisor.ensure_ready())
    stage.play(scene)


def test_a_prompt_over_its_time_on_a_stubborn_node_costs_the_child(stage: Stage) -> None:
    async def scene(_: ComfyClient) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await stage.execute(slow(60, obeys=False), grace_s=0.3)

    asyncio.run(stage.supervisor.ensure_ready())
    generation = stage.supervisor.generation
    stage.play(scene)
    assert stage.supervisor.generation == generation + 1


def test_a_workflow_that_is_rejected_leaves_nothing(stage: Stage) -> None:
    async def scene(comfy: ComfyClient) -> None:
        with pytest.raises(WorkflowRejected, match="no node type 'SaveImages'; nearest"):
            await stage.execute({"1": node("SaveImages")})
        assert await is_unknown(comfy, "p1")

    stage.play(scene)


def test_a_workflow_that_is_good_in_part_is_rejected_and_does_not_run(stage: Stage) -> None:
    prompt = slow(60)
    prompt["9"] = node("SaveImage", filename_prefix="x")

    async def scene(comfy: ComfyClient) -> None:
        with pytest.raises(WorkflowRejected, match="node 9 \\(SaveImage\\)"):
            await stage.execute(prompt)
        assert await is_unknown(comfy, "p1")

    stage.play(scene)


def test_a_cancelled_prompt_does_not_cost_the_one_that_holds_the_interpreter(stage: Stage) -> None:
    async def scene(comfy: ComfyClient) -> tuple[int, int, str]:
        await stage.supervisor.ensure_ready()
        before = stage.supervisor.generation
        holder = stage.start(graph("SlowImage", "Block", seconds=2, obeys=True), "holder")
        await until(lambda: _is_running(stage, "holder"))
        waiting = stage.start(slow(0.1), "waiting", grace_s=0.3)
        # No sign of the fake tells that it has begun to hold the interpreter.
        await asyncio.sleep(2.2)
        await cancel(waiting)
        return before, stage.supervisor.generation, status_of(await holder)

    before, after, status = stage.play(scene)
    assert (after, status) == (before, "success")


async def _is_running(stage: Stage, prompt_id: str) -> bool:
    return prompt_id in stage.supervisor.running


def test_a_prompt_interrupted_in_anothers_place_runs_again(stage: Stage) -> None:
    async def scene(comfy: ComfyClient) -> str:
        task = stage.start(slow(1), "victim")
        await until(lambda: _is_running(stage, "victim"))
        await comfy.stop_prompt("victim")
        return status_of(await task)

    assert stage.play(scene) == "success"


@pytest.fixture
def posts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of prompts posted, by a client that waits for each answer for half a second."""
    monkeypatch.setattr(
        "handler.comfy_api.client._ANSWER_TIMEOUT", aiohttp.ClientTimeout(total=0.5)
    )
    posted: list[str] = []
    queue_prompt = ComfyClient.queue_prompt

    async def count(comfy: ComfyClient, prompt: Any, prompt_id: str, *rest: Any) -> None:
        posted.append(prompt_id)
        await queue_prompt(comfy, prompt, prompt_id, *rest)

    monkeypatch.setattr(ComfyClient, "queue_prompt", count)
    return posted


def test_a_comfyui_that_is_silent_about_a_prompt_it_took_is_not_given_it_again(
    stage: Stage, posts: list[str]
) -> None:
    async def scene(comfy: ComfyClient) -> str:
        await stage.supervisor.ensure_ready()
        return status_of(await stage.execute(graph("BlockPost"), "silent"))

    assert stage.play(scene) == "success"
    assert posts == ["silent"]


def test_a_prompt_that_comfyui_took_twice_is_gone_with_its_result(
    stage: Stage, posts: list[str]
) -> None:
    prompt = graph("LatePost", "SlowImage", seconds=2, obeys=True)

    async def scene(comfy: ComfyClient) -> str:
        await stage.supervisor.ensure_ready()
        status = status_of(await stage.execute(prompt, "late"))
        assert await is_unknown(comfy, "late")
        return status

    assert stage.play(scene) == "success"
    assert posts == ["late", "late"]


def test_a_prompt_without_memory_runs_again_and_what_freed_it_is_forgotten(stage: Stage) -> None:
    async def scene(comfy: ComfyClient) -> str:
        status = status_of(await stage.execute(graph("HungryOnce"), "hungry"))
        assert await is_unknown(comfy, "hungry-free")
        return status

    assert stage.play(scene) == "success"


def test_what_freed_memory_is_forgotten_when_the_second_try_is_cancelled(
    stage: Stage, logged: Logged
) -> None:
    async def scene(comfy: ComfyClient) -> None:
        prompt = graph("HungryOnce", "SlowImage", seconds=60, obeys=True)
        run = stage.start(prompt, "cancelled")
        await until_seen_to_run(logged)
        assert await comfy.history("cancelled-free")
        await cancel(run)
        assert await is_unknown(comfy, "cancelled")
        assert await is_unknown(comfy, "cancelled-free")

    asyncio.run(stage.supervisor.ensure_ready())
    stage.play(scene)


def test_what_frees_memory_is_forgotten_when_it_is_cancelled_itself(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = ComfyClient.free

    async def scene(comfy: ComfyClient) -> None:
        is_freeing = asyncio.Event()

        async def free_for_ever(comfy: ComfyClient, prompt_id: str) -> None:
            await free(comfy, prompt_id)
            is_freeing.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(ComfyClient, "free", free_for_ever)
        run = stage.start(graph("HungryOnce"), "freeing")
        await is_freeing.wait()
        await cancel(run)
        assert await is_unknown(comfy, "freeing")
        assert await is_unknown(comfy, "freeing-free")

    asyncio.run(stage.supervisor.ensure_ready())
    stage.play(scene)
