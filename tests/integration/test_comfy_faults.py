"""What can go wrong in ComfyUI while it has a job: each fault ends in the right answer, costs no
other job anything, and leaves the worker as it was."""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.fakes.runpod_api import RunPodApi
from tests.integration.worker_process import (
    WorkerProcess,
    invert_workflow,
    job_input,
    node,
    photo,
    shows_inverse,
    wait_until,
)

RESULT_S = 60
SLOW = {"class_type": "SlowImage", "seconds": 300.0, "obeys": True}
DEAF = SLOW | {"obeys": False}


@pytest.fixture(scope="module")
def worker(api: RunPodApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    env = api.env() | {"COMFY_RESTARTS": "100", "COMFY_INTERRUPT_GRACE_S": "1"}
    with WorkerProcess(tmp_path_factory.mktemp("worker"), env) as worker:
        worker.wait_for_log("comfyui ready")
        yield worker


@pytest.fixture(autouse=True)
def _all_is_well_afterwards(api: RunPodApi, worker: WorkerProcess) -> Iterator[None]:
    yield
    check_good(api, submit(api, 99), 99)
    wait_until(lambda: worker.job_files() == [], "the jobs' files are gone", 5)
    assert worker.ask_comfy("/queue") == {"queue_running": [], "queue_pending": []}
    wait_until(lambda: worker.ask_comfy("/history") == {}, "ComfyUI has forgotten the prompts", 5)
    # The worker, ComfyUI and the SDK's heartbeat.
    assert len(worker.family()) - len(worker.checkers()) == 3


def submit(api: RunPodApi, seed: int, **job: Any) -> str:
    """A job on the picture of that seed. `between` is a node more, the rest is the job's."""
    workflow = invert_workflow(**job.pop("between", {}))
    return api.submit(job_input(job.pop("workflow", workflow), photo(seed), **job))


def check_good(api: RunPodApi, job_id: str, seed: int) -> None:
    body = api.result(job_id, RESULT_S)
    assert "error" not in body, body
    assert shows_inverse(body["output"]["image_base64"], photo(seed))


def check_failed(api: RunPodApi, job_id: str, code: str, *, retryable: bool) -> dict[str, Any]:
    body = api.result(job_id, RESULT_S)
    assert (body["output"]["code"], body["output"]["retryable"]) == (code, retryable), body
    return body


def wait_until_it_runs(worker: WorkerProcess, job_id: str) -> None:
    queued = worker.wait_for_log("prompt queued", job_id=job_id)

    def runs() -> bool:
        running = worker.ask_comfy("/queue")["queue_running"]
        return any(item[1] == queued["prompt_id"] for item in running)

    wait_until(runs, f"{job_id} runs on ComfyUI", RESULT_S, worker.tail)


def is_dead(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def times_queued(worker: WorkerProcess, job_id: str) -> int:
    return sum(
        entry["event"] == "prompt queued" and entry.get("job_id") == job_id
        for entry in worker.logs()
    )


# Killed.


def test_comfyui_killed_while_it_boots_fails_the_job_that_waits_for_it(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    first = worker.comfy_pid()
    os.kill(first, signal.SIGKILL)
    victim = submit(api, 1)
    wait_until(lambda: worker.comfy_pid() != first, "the next ComfyUI boots", 30)
    os.kill(worker.comfy_pid(), signal.SIGKILL)
    body = check_failed(api, victim, "comfy_unavailable", retryable=True)
    assert "ended while it was starting (killed by SIGKILL" in body["error"]


def test_comfyui_killed_while_it_saves_leaves_no_file(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    workflow = invert_workflow() | {
        "4": node("SlowSaveImage", images=["3", 0], filename_prefix="result")
    }
    victim = submit(api, 2, workflow=workflow)
    wait_until(
        lambda: any(path.name.startswith("result_") for path in worker.job_files()),
        "the picture is saved", RESULT_S, worker.tail,
    )  # fmt: skip
    # Else the prompt would be tried again.
    api.wait_for(
        lambda: any(update["phase"] == "execute" for update in api.progress(victim)),
        "the worker knows that the prompt has begun", RESULT_S,
    )  # fmt: skip
    os.kill(worker.comfy_pid(), signal.SIGKILL)
    check_failed(api, victim, "comfy_exited", retryable=True)


def test_comfyui_killed_while_the_pictures_are_collected_costs_nothing(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    before = worker.comfy_pid()
    # The worker has the result when it asks ComfyUI to forget the prompt.
    worker.ask_comfy("/faults", {"die_at": ["/history"]})
    check_good(api, submit(api, 3), 3)
    wait_until(lambda: is_dead(before), "ComfyUI has been killed", 5)


# Hanging.


@pytest.mark.parametrize("kind", ["stopped", "holding its interpreter"])
def test_comfyui_that_hangs_costs_the_job_its_time_and_no_other_job(
    api: RunPodApi, worker: WorkerProcess, kind: str
) -> None:
    before = worker.comfy_pid()
    holder = {"class_type": "HoldInterpreter", "seconds": 300}
    between = SLOW if kind == "stopped" else holder
    victim = submit(api, 4, between=between, timeout_s=3)
    worker.wait_for_log("prompt queued", job_id=victim)
    if kind == "stopped":
        wait_until_it_runs(worker, victim)
        os.kill(before, signal.SIGSTOP)
    neighbour = submit(api, 5)
    check_failed(api, victim, "job_timeout", retryable=False)
    check_good(api, neighbour, 5)
    assert worker.comfy_pid() != before
    assert not psutil.pid_exists(before)


def test_a_node_that_holds_the_interpreter_for_a_while_is_waited_for(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    check_good(api, submit(api, 6, between={"class_type": "HoldInterpreter", "seconds": 2}), 6)


@pytest.mark.parametrize("kind", ["closed", "silent"])
def test_a_websocket_that_is_lost_costs_nothing(
    api: RunPodApi, worker: WorkerProcess, kind: str
) -> None:
    check_good(api, submit(api, 7, between={"class_type": "LoseSocket", "kind": kind}), 7)


def test_a_slow_history_is_waited_for(api: RunPodApi, worker: WorkerProcess) -> None:
    worker.ask_comfy("/faults", {"delay_s": {"history": 1.0}})
    check_good(api, submit(api, 8), 8)
    worker.ask_comfy("/faults", {})


# Memory, GPU, disk.


def test_when_memory_runs_out_the_models_are_freed_and_the_prompt_runs_again(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    # What fills the memory is what ComfyUI itself keeps.
    job_id, neighbour = submit(api, 9, between={"class_type": "HungryImage"}), submit(api, 10)
    check_good(api, job_id, 9)
    check_good(api, neighbour, 10)
    worker.wait_for_log("prompt queued again", job_id=job_id, reason="out of memory")
    assert (times_queued(worker, job_id), times_queued(worker, neighbour)) == (2, 1)


def test_memory_that_runs_out_twice_fails_the_job_and_asks_for_a_new_worker(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    # The preview is saved before the node fails, at both attempts.
    workflow = {"0": node("PreviewImage", images=["1", 0])} | invert_workflow(
        class_type="FailingImage", kind="out_of_memory"
    )
    job_id = submit(api, 11, workflow=workflow)
    assert check_failed(api, job_id, "out_of_memory", retryable=False)["stopPod"] is True
    assert times_queued(worker, job_id) == 2


def test_after_a_gpu_fault_no_prompt_runs_in_the_same_process(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    before = worker.comfy_pid()
    # Both are in the queue before the fault: the neighbour begins at once after it.
    opening = {"class_type": "SlowImage", "seconds": 2.0, "obeys": True}
    workflow = invert_workflow(**opening)
    workflow["3"] = node("FailingImage", image=["2", 0], kind="illegal_memory_access")
    victim = submit(api, 12, workflow=workflow)
    worker.wait_for_log("prompt queued", job_id=victim)
    neighbour = submit(api, 13, between=opening)
    worker.wait_for_log("prompt queued", job_id=neighbour)
    body = check_failed(api, victim, "node_failed", retryable=False)
    assert "illegal memory access" in body["error"]
    check_good(api, neighbour, 13)
    assert worker.comfy_pid() != before
    assert times_queued(worker, neighbour) == 2


def test_a_plain_error_of_a_node_restarts_nothing(api: RunPodApi, worker: WorkerProcess) -> None:
    before = worker.comfy_pid()
    failing = {"class_type": "FailingImage", "kind": "error"}
    check_failed(api, submit(api, 14, between=failing), "node_failed", retryable=False)
    check_good(api, submit(api, 15), 15)
    assert worker.comfy_pid() == before


def test_a_full_disk_is_told_as_such(api: RunPodApi, worker: WorkerProcess) -> None:
    failing = {"class_type": "FailingImage", "kind": "disk_full"}
    body = check_failed(api, submit(api, 16, between=failing), "disk_full", retryable=True)
    assert "larger container disk" in body["error"]


# Cancelled and out of time.


@pytest.mark.parametrize("reason", ["cancelled", "out of time"])
@pytest.mark.parametrize("place", ["waits", "executes"])
def test_a_job_that_is_ended_leaves_comfyui_and_its_neighbour_alone(
    api: RunPodApi, worker: WorkerProcess, reason: str, place: str
) -> None:
    before = worker.comfy_pid()
    limit = {"timeout_s": 4} if reason == "out of time" else {}
    quick = {"class_type": "SlowImage", "seconds": 6.0, "obeys": True}
    if place == "waits":
        neighbour = submit(api, 17, between=quick)
        wait_until_it_runs(worker, neighbour)
        victim = submit(api, 18, **limit)
        worker.wait_for_log("prompt queued", job_id=victim)
    else:
        victim = submit(api, 18, between=SLOW, **limit)
        wait_until_it_runs(worker, victim)
        neighbour = submit(api, 17)
        worker.wait_for_log("prompt queued", job_id=neighbour)
    if reason == "cancelled":
        api.cancel(victim)
        worker.wait_for_log("job cancelled", job_id=victim)
    else:
        check_failed(api, victim, "job_timeout", retryable=False)
    check_good(api, neighbour, 17)
    assert times_queued(worker, neighbour) == 1
    assert worker.comfy_pid() == before


def test_a_node_that_ignores_its_interruption_costs_a_restart_and_no_other_job(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    before = worker.comfy_pid()
    victim = submit(api, 19, between=DEAF)
    wait_until_it_runs(worker, victim)
    neighbour = submit(api, 20)
    worker.wait_for_log("prompt queued", job_id=neighbour)
    api.cancel(victim)
    worker.wait_for_log("comfyui restarts", reason="a prompt does not stop")
    check_good(api, neighbour, 20)
    assert not psutil.pid_exists(before)
