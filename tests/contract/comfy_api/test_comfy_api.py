"""Holds the stand-in for ComfyUI, and what the worker relies on, to the real ComfyUI: every test
runs on both."""

import asyncio
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from handler.comfy.process import ComfyPaths, comfy_argv
from handler.comfy_api.client import ComfyClient
from handler.comfy_api.history import read_execution
from handler.errors import Interrupted, NodeFailed, WorkflowRejected
from handler.settings import child_environment
from tests.fakes.comfy import fake_argv, free_port, graph, node

PROJECT_DIR = Path(__file__).resolve().parents[3]
BOOTSTRAP = PROJECT_DIR / "comfy" / "bootstrap.py"
BOOT_S = 120.0
KEPT_EVENTS = {"execution_start", "executing", "execution_success"}
ENDINGS = {"execution_success", "execution_error", "execution_interrupted"}

Scene = Callable[[ComfyClient], Awaitable[Any]]


@dataclass(frozen=True)
class Subject:
    port: int

    def play(self, scene: Scene) -> Any:
        """Runs a scene with a client, within 60 s."""

        async def whole() -> Any:
            async with asyncio.timeout(60), ComfyClient(self.port) as comfy:
                return await scene(comfy)

        return asyncio.run(whole())


@contextmanager
def running(argv: list[str], port: int, log_path: Path) -> Iterator[Subject]:
    with log_path.open("wb") as log:
        child = subprocess.Popen(
            argv, env=child_environment(), stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_ready(child, port, log_path)
        yield Subject(port)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait(10)


def _wait_ready(child: subprocess.Popen[bytes], port: int, log_path: Path) -> None:
    async def is_answering() -> bool:
        async with ComfyClient(port) as comfy:
            return await comfy.is_answering()

    deadline = time.monotonic() + BOOT_S
    while not asyncio.run(is_answering()):
        assert child.poll() is None, log_path.read_text()[-2000:]
        assert time.monotonic() < deadline, log_path.read_text()[-2000:]
        time.sleep(0.1)


@pytest.fixture(scope="module", params=["fake", "real"])
def subject(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Subject]:
    work_dir = tmp_path_factory.mktemp(request.param)
    port = free_port()
    argv = fake_argv(port) if request.param == "fake" else real_argv(port, work_dir, BOOTSTRAP)
    with running(argv, port, work_dir / "log") as subject:
        yield subject


def real_argv(port: int, work_dir: Path, bootstrap: Path | None) -> list[str]:
    python = PROJECT_DIR / "comfy" / ".venv" / "bin" / "python"
    main = PROJECT_DIR / "comfy" / "ComfyUI" / "main.py"
    if not (python.exists() and main.exists()):
        pytest.fail("ComfyUI is missing: run `make setup` first", pytrace=False)
    paths = ComfyPaths.under(work_dir)
    for folder in paths.folders:
        folder.mkdir()
    # Its nodes are slow or fail on request.
    paths.model_paths.write_bytes(
        (PROJECT_DIR / "tests" / "integration" / "nodes.yaml").read_bytes()
    )
    (work_dir / "nodes").symlink_to(PROJECT_DIR / "tests" / "integration" / "nodes")
    return comfy_argv(python, main.parent, port, paths, cpu=True, extra=[], bootstrap=bootstrap)


@pytest.fixture
def prompt_id() -> str:
    return str(uuid.uuid4())


async def ended(comfy: ComfyClient, prompt_id: str) -> dict[str, Any]:
    while not (entry := await comfy.history(prompt_id)):
        await asyncio.sleep(0.02)
    return entry


async def stop(comfy: ComfyClient, prompt_id: str) -> None:
    """Ends a prompt that runs. Asks again and again: ComfyUI forgets an interruption that comes
    when the prompt is taken from the queue and its execution has not begun."""
    while not await comfy.history(prompt_id):
        await comfy.stop_prompt(prompt_id)
        await asyncio.sleep(0.05)


async def until_running(comfy: ComfyClient, prompt_id: str) -> None:
    while prompt_id not in (await comfy.queue())[0]:
        await asyncio.sleep(0.02)


async def collect(
    events: asyncio.Queue[dict[str, Any]], prompt_id: str, *, last: set[str]
) -> list[dict[str, Any]]:
    """The prompt's events up to `executing` no node, or to one of `last`."""
    found = []
    while True:
        event = await events.get()
        if event["data"].get("prompt_id") == prompt_id:
            found.append(event)
            if event["type"] in last or is_over(event):
                return found


def is_over(event: dict[str, Any]) -> bool:
    return event["type"] == "executing" and event["data"]["node"] is None


def slow(prompt_id: str, seconds: float = 60) -> dict[str, Any]:
    return graph("SlowImage", name=prompt_id, seconds=seconds, obeys=True)


def test_it_says_that_it_is_up(subject: Subject) -> None:
    async def scene(comfy: ComfyClient) -> bool:
        return await comfy.is_answering()

    assert subject.play(scene)


def test_a_prompt_runs_under_the_id_that_the_client_chose(subject: Subject, prompt_id: str) -> None:
    async def scene(comfy: ComfyClient) -> dict[str, Any]:
        await comfy.queue_prompt(graph(name=prompt_id), prompt_id)
        return await ended(comfy, prompt_id)

    entry = subject.play(scene)
    assert entry["prompt"][1] == prompt_id
    assert entry["status"]["status_str"] == "success"


def test_the_history_names_the_saved_file_under_its_subfolder(
    subject: Subject, prompt_id: str
) -> None:
    async def scene(comfy: ComfyClient) -> dict[str, Any]:
        await comfy.queue_prompt(graph(name=f"{prompt_id}/deep/cat"), prompt_id)
        return await ended(comfy, prompt_id)

    execution = read_execution(subject.play(scene), prompt_id)
    [file] = execution.files
    assert (file.node_id, file.filename, file.subfolder, file.folder_type) == (
        "2",
        "cat_00001_.png",
        f"{prompt_id}/deep",
        "output",
    )
    assert execution.started_at_s is not None
    assert execution.ended_at_s is not None
    assert 0 <= execution.ended_at_s - execution.started_at_s < 60


def test_an_unknown_prompt_has_no_history(subject: Subject, prompt_id: str) -> None:
    async def scene(comfy: ComfyClient) -> Any:
        return await comfy.history(prompt_id)

    assert subject.play(scene) is None


def test_a_forgotten_prompt_has_no_history(subject: Subject, prompt_id: str) -> None:
    async def scene(comfy: ComfyClient) -> Any:
        await comfy.queue_prompt(graph(name=prompt_id), prompt_id)
        await ended(comfy, prompt_id)
        await comfy.forget(prompt_id)
        return await comfy.history(prompt_id)

    assert subject.play(scene) is None


def test_forgetting_an_unknown_prompt_is_harmless(subject: Subject, prompt_id: str) -> None:
    async def scene(comfy: ComfyClient) -> None:
        await comfy.forget(prompt_id)

    subject.play(scene)


def test_the_queue_tells_what_runs_from_what_waits(subject: Subject) -> None:
    first, second = (str(uuid.uuid4()) for _ in range(2))

    async def scene(comfy: ComfyClient) -> None:
        await comfy.queue_prompt(slow(first), first)
        await until_running(comfy, first)
        await comfy.queue_prompt(graph(name=second), second)
        assert await comfy.queue() == ({first}, {second})
        assert await comfy.history(first) is None
        await stop(comfy, first)
        await ended(comfy, second)
        assert await comfy.queue() == (set(), set())

    subject.play(scene)


def test_stopping_a_prompt_that_runs_ends_it_as_interrupted(
    subject: Subject, prompt_id: str
) -> None:
    async def scene(comfy: ComfyClient) -> dict[str, Any]:
        async with comfy.events(prompt_id) as events:
            await comfy.queue_prompt(slow(prompt_id), prompt_id)
            await collect(events, prompt_id, last={"executing"})
            await comfy.stop_prompt(prompt_id)
            return await ended(comfy, prompt_id)

    with pytest.raises(Interrupted):
        read_execution(subject.play(scene), prompt_id)


def test_stopping_a_prompt_that_waits_leaves_the_one_that_runs(subject: Subject) -> None:
    first, second = (str(uuid.uuid4()) for _ in range(2))

    async def scene(comfy: ComfyClient) -> None:
        await comfy.queue_prompt(slow(first), first)
        await until_running(comfy, first)
        await comfy.queue_prompt(graph(name=second), second)
        await comfy.stop_prompt(second)
        assert await comfy.queue() == ({first}, set())
        await stop(comfy, first)
        assert await comfy.history(second) is None

    subject.play(scene)


def test_stopping_an_unknown_prompt_leaves_the_one_that_runs(
    subject: Subject, prompt_id: str
) -> None:
    async def scene(comfy: ComfyClient) -> dict[str, Any]:
        await comfy.queue_prompt(slow(prompt_id, seconds=0.5), prompt_id)
        await until_running(comfy, prompt_id)
        await comfy.stop_prompt(str(uuid.uuid4()))
        return await ended(comfy, prompt_id)

    assert subject.play(scene)["status"]["status_str"] == "success"


def test_a_prompt_runs_well_after_one_that_was_interrupted(subject: Subject) -> None:
    first, second = (str(uuid.uuid4()) for _ in range(2))

    async def scene(comfy: ComfyClient) -> dict[str, Any]:
        await comfy.queue_prompt(slow(first), first)
        await until_running(comfy, first)
        await comfy.queue_prompt(graph(name=second), second)
        await stop(comfy, first)
        return await ended(comfy, second)

    assert subject.play(scene)["status"]["status_str"] == "success"


def test_a_node_that_raises_is_named_in_the_history(subject: Subject, prompt_id: str) -> None:
    async def scene(comfy: ComfyClient) -> dict[str, Any]:
        await comfy.queue_prompt(graph("FailingImage", name=prompt_id, kind="error"), prompt_id)
        return await ended(comfy, prompt_id)

    with pytest.raises(NodeFailed) as caught:
        read_execution(subject.play(scene), prompt_id)
    assert caught.value.details == {
        "node_id": "2",
        "class_type": "FailingImage",
        "exception_type": "RuntimeError",
    }


def rejection(subject: Subject, prompt: dict[str, Any], prompt_id: str) -> WorkflowRejected:
    """Why the prompt is rejected; stops what was queued of it."""

    async def scene(comfy: ComfyClient) -> WorkflowRejected:
        with pytest.raises(WorkflowRejected) as caught:
            await comfy.queue_prompt(prompt, prompt_id)
        await comfy.stop_prompt(prompt_id)
        return caught.value

    error: WorkflowRejected = subject.play(scene)
    return error


def test_an_unknown_class_is_rejected_with_the_nearest_name(
    subject: Subject, prompt_id: str
) -> None:
    prompt = graph("FailingImages", name=prompt_id, kind="error")
    error = rejection(subject, prompt, prompt_id)
    assert "there is no node type 'FailingImages'" in error.message
    assert "FailingImage" in error.details["node_errors"]["2"][0]["nearest"]


def test_a_workflow_without_an_output_is_rejected(subject: Subject, prompt_id: str) -> None:
    prompt = {"1": node("EmptyImage", width=8, height=8, batch_size=1, color=0)}
    assert "has no output node" in rejection(subject, prompt, prompt_id).message


def test_a_missing_input_is_rejected_and_nothing_is_queued(
    subject: Subject, prompt_id: str
) -> None:
    async def queue(comfy: ComfyClient) -> Any:
        return await comfy.queue()

    error = rejection(subject, {"1": node("SaveImage", filename_prefix="x")}, prompt_id)
    assert error.message == "node 1 (SaveImage): Required input is missing: images"
    assert error.details["node_errors"]["1"][0]["type"] == "required_input_missing"
    assert subject.play(queue) == (set(), set())


def test_a_workflow_that_is_good_in_part_is_rejected_and_yet_queued(
    subject: Subject, prompt_id: str
) -> None:
    prompt = slow(prompt_id)
    prompt["9"] = node("SaveImage", filename_prefix="x")

    async def scene(comfy: ComfyClient) -> None:
        with pytest.raises(WorkflowRejected) as caught:
            await comfy.queue_prompt(prompt, prompt_id)
        assert list(caught.value.details["node_errors"]) == ["9"]
        await until_running(comfy, prompt_id)
        await stop(comfy, prompt_id)

    subject.play(scene)


def test_the_websocket_tells_a_run_in_order(subject: Subject, prompt_id: str) -> None:
    async def scene(comfy: ComfyClient) -> list[dict[str, Any]]:
        async with comfy.events(prompt_id) as events:
            # Inputs that no run before had: a cached node is not executed.
            await comfy.queue_prompt(slow(prompt_id, seconds=time.time() % 0.1), prompt_id)
            return await collect(events, prompt_id, last=set())

    seen = [
        (event["type"], event["data"].get("node"))
        for event in subject.play(scene)
        if event["type"] in KEPT_EVENTS and event["data"].get("node") != "1"
    ]
    assert seen == [
        ("execution_start", None),
        ("executing", "2"),
        ("executing", "3"),
        ("execution_success", None),
        ("executing", None),
    ]


def test_the_history_is_there_when_the_websocket_says_that_no_node_executes(
    subject: Subject, prompt_id: str
) -> None:
    async def scene(comfy: ComfyClient) -> Any:
        async with comfy.events(prompt_id) as events:
            await comfy.queue_prompt(graph(name=prompt_id), prompt_id)
            found = await collect(events, prompt_id, last=set())
            assert is_over(found[-1])
            return await comfy.history(prompt_id)

    assert subject.play(scene)["status"]["status_str"] == "success"


@pytest.mark.parametrize("kind", ["execution_interrupted", "execution_error"])
def test_the_websocket_tells_of_a_bad_end(subject: Subject, prompt_id: str, kind: str) -> None:
    failing = graph("FailingImage", name=prompt_id, kind="error")
    prompt = failing if kind == "execution_error" else slow(prompt_id)

    async def scene(comfy: ComfyClient) -> str:
        async with comfy.events(prompt_id) as events:
            await comfy.queue_prompt(prompt, prompt_id)
            await until_running_or_ended(comfy, prompt_id)
            await stop(comfy, prompt_id)
            return str((await collect(events, prompt_id, last=ENDINGS))[-1]["type"])

    assert subject.play(scene) == kind


async def until_running_or_ended(comfy: ComfyClient, prompt_id: str) -> None:
    while prompt_id not in (await comfy.queue())[0] and not await comfy.history(prompt_id):
        await asyncio.sleep(0.02)


def test_events_go_to_the_client_of_the_prompt_alone(subject: Subject, prompt_id: str) -> None:
    other = str(uuid.uuid4())

    async def scene(comfy: ComfyClient) -> None:
        async with comfy.events(other) as others, comfy.events(prompt_id) as events:
            await comfy.queue_prompt(graph(name=prompt_id), prompt_id)
            await collect(events, prompt_id, last=set())
        kinds = {others.get_nowait()["type"] for _ in range(others.qsize())}
        assert kinds <= {"status"}

    subject.play(scene)


def test_after_freeing_nothing_is_taken_from_the_cache(subject: Subject, prompt_id: str) -> None:
    async def scene(comfy: ComfyClient) -> None:
        await comfy.queue_prompt(graph(), f"{prompt_id}-1")
        await ended(comfy, f"{prompt_id}-1")
        await comfy.free("freeing")
        await comfy.queue_prompt(graph(), prompt_id)
        messages = dict((await ended(comfy, prompt_id))["status"]["messages"])
        assert messages["execution_cached"]["nodes"] == []

    subject.play(scene)


def test_object_info_lists_the_inputs_of_a_node(subject: Subject) -> None:
    async def scene(comfy: ComfyClient) -> dict[str, Any]:
        return await comfy.object_info()

    assert {"images", "filename_prefix"} <= set(
        subject.play(scene)["SaveImage"]["input"]["required"]
    )
