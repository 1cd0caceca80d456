"""Hundreds of jobs, good and bad, on one worker: it ends as it was after its first hundred."""

from collections.abc import Iterator
from dataclasses import dataclass
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

WAVE_S = 60
WAVES, WARM_UP_WAVES = 30, 10
SLOW = {"class_type": "SlowImage", "seconds": 300.0, "obeys": True}
# What every wave holds beside good jobs: the job's fault, and the code of its answer.
BAD_JOBS: list[tuple[dict[str, Any], str]] = [
    ({"3": node("ImageInvrt", image=["1", 0])}, "workflow_rejected"),
    ({"9": node("SaveImage", filename_prefix="x")}, "workflow_rejected"),
    ({"3": node("FailingImage", image=["1", 0], kind="error")}, "node_failed"),
    ({"1": node("LoadImage", image="other.png")}, "missing_image"),
]


@dataclass(frozen=True)
class Holding:
    """What one process holds; `memory` is resident, in bytes."""

    memory: int
    files: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> "Holding":
        process = psutil.Process(pid)
        return cls(process.memory_info().rss, process.num_fds(), process.num_threads())


@pytest.fixture(scope="module")
def worker(api: RunPodApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    # More jobs in hand than usual: the SDK's pauses would take most of the time.
    env = api.env() | {"WORKER_CONCURRENCY": "8"}
    with WorkerProcess(tmp_path_factory.mktemp("worker"), env) as worker:
        worker.wait_for_log("comfyui ready")
        yield worker


def run_wave(api: RunPodApi, worker: WorkerProcess, wave: int) -> None:
    """Ten jobs: five good, four bad, and one that is cancelled or runs out of its time."""
    slow = invert_workflow(**SLOW)
    runs_out = wave % 3 == 0
    ended = api.submit(job_input(slow, photo(0), **({"timeout_s": 2} if runs_out else {})))
    bad = [
        (api.submit(job_input(invert_workflow() | change, photo(1))), code)
        for change, code in BAD_JOBS
    ]
    good = [api.submit(job_input(invert_workflow(), photo(wave * 10 + n))) for n in range(5)]
    if runs_out:
        bad.append((ended, "job_timeout"))
    else:
        worker.wait_for_log("prompt queued", job_id=ended)
        api.cancel(ended)
    for job_id, code in bad:
        assert api.result(job_id, WAVE_S)["output"]["code"] == code
    for n, job_id in enumerate(good):
        output = api.result(job_id, WAVE_S)["output"]
        assert output["ok"], output
        assert shows_inverse(output["image_base64"], photo(wave * 10 + n))


def run_out_of_memory_once(api: RunPodApi) -> None:
    hungry = invert_workflow(class_type="HungryImage")
    assert api.result(api.submit(job_input(hungry, photo(2))), WAVE_S)["output"]["ok"] is True


def test_three_hundred_jobs_leave_nothing(api: RunPodApi, worker: WorkerProcess) -> None:
    pids = {"worker": worker.child.pid, "comfyui": worker.comfy_pid()}
    run_out_of_memory_once(api)
    for wave in range(WARM_UP_WAVES):
        run_wave(api, worker, wave)
    before = {name: Holding.of(pid) for name, pid in pids.items()}
    for wave in range(WARM_UP_WAVES, WAVES):
        run_wave(api, worker, wave)
    wait_until(lambda: worker.job_files() == [], "the jobs' files are gone", 5)
    assert worker.comfy_pid() == pids["comfyui"]
    assert worker.ask_comfy("/history") == {}
    for name, most_growth in (("worker", 20_000_000), ("comfyui", 60_000_000)):
        then, pid = before[name], pids[name]

        def has_let_go(then: Holding = then, pid: int = pid) -> bool:
            now = Holding.of(pid)
            return now.files <= then.files and now.threads <= then.threads

        # The SDK keeps its connections for a few seconds more.
        wait_until(has_let_go, f"{name} holds no more than {then}", 20)
        growth = Holding.of(pid).memory - then.memory
        print(f"{name} has grown by {growth} bytes")
        assert growth < most_growth, name
