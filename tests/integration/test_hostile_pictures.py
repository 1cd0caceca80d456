"""The real worker, given pictures that were made to take its time and its memory."""

import base64
import re
from pathlib import Path
from typing import Any

import psutil

from tests.fakes import hostile_pictures as hostile
from tests.fakes.runpod_api import RunPodApi
from tests.integration.worker_process import (
    WorkerProcess,
    invert_workflow,
    job_input,
    photo,
    wait_until,
)


def job_with(data: bytes, **more: Any) -> dict[str, Any]:
    text = base64.b64encode(data).decode()
    return job_input(invert_workflow(), **more) | {"images": [{"name": "photo.png", "image": text}]}


# Within every limit, and seconds of work: 64 million pixels of 16 bits, in 125 kB.
COSTLY = hostile.empty_png((8000, 8000), depth=16)


def peak_bytes(pid: int) -> int:
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def checks_of(worker: WorkerProcess) -> list[int]:
    return [process.pid for process in worker.checkers()]


def test_a_jpeg_of_thousands_of_scans_is_refused_at_once(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    job_id = api.submit(job_with(hostile.jpeg_of_many_scans(60_000), timeout_s=5))
    output = api.result(job_id, 60)["output"]
    assert output["code"] == "invalid_image"
    assert "scans" in output["message"]


def test_a_picture_that_was_an_mpo_is_read_by_its_first_frame(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    body = api.result(api.submit(job_with(hostile.mpo_with_a_huge_second((60_000, 60_000)))), 120)
    image = body["output"]["images"][0]
    assert (image["width"], image["height"]) == (64, 48)
    assert peak_bytes(worker.child.pid) < 600e6


def test_the_jobs_time_limit_covers_its_check(api: RunPodApi, worker: WorkerProcess) -> None:
    body = api.result(api.submit(job_with(COSTLY, timeout_s=0.2)), 60)
    assert body["output"]["code"] == "job_timeout"


def test_an_innocent_job_is_answered_behind_costly_ones_that_were_cancelled(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    for _ in range(3):
        hostile_ids = [api.submit(job_with(COSTLY)) for _ in range(2)]
        for job_id in hostile_ids:
            worker.wait_for_log("job started", job_id=job_id)
            api.cancel(job_id)
        for job_id in hostile_ids:
            worker.wait_for_log("job cancelled", job_id=job_id)
    body = api.result(api.submit(job_input(invert_workflow(), photo(1))), 60)
    assert body["output"]["ok"] is True
    assert len(checks_of(worker)) <= 2


def test_the_worker_ends_soon_on_sigterm_during_a_check_and_leaves_no_process(
    tmp_path: Path,
) -> None:
    with (
        RunPodApi() as api,
        WorkerProcess(tmp_path, api.env() | {"WORKER_SHUTDOWN_GRACE_S": "0.1"}) as worker,
    ):
        worker.wait_for_log("comfyui ready")
        job_id = api.submit(job_with(COSTLY))
        worker.wait_for_log("job started", job_id=job_id)
        family = worker.family()
        worker.child.terminate()
        assert worker.child.wait(timeout=60) == 0
        wait_until(lambda: not any(map(_lives, family)), "the worker's processes are gone", 20)
        assert api.result(job_id, 20)["output"]["code"] == "interrupted"


def test_a_check_ends_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    with RunPodApi() as own, WorkerProcess(tmp_path, own.env()) as worker:
        worker.wait_for_log("comfyui ready")
        wait_until(lambda: checks_of(worker), "a process for checks", 20)
        family = worker.family()
        worker.child.kill()
        wait_until(lambda: not any(map(_lives, family)), "the worker's processes are gone", 20)


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
