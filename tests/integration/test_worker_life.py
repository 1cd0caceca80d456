"""How the worker starts and ends: nothing is left behind, and the log says why."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.fakes.runpod_api import RunPodApi
from tests.integration.worker_process import (
    PROJECT_DIR,
    WorkerProcess,
    free_port,
    invert_workflow,
    job_input,
    photo,
    shows_inverse,
    wait_until,
)

SLOW = {"class_type": "SlowImage", "seconds": 300.0, "obeys": True}


def is_gone(family: list[psutil.Process]) -> bool:
    return not any(
        process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family
    )


def test_sigterm_ends_an_idle_worker_and_its_children_within_seconds(tmp_path: Path) -> None:
    with RunPodApi(poll_s=60) as api, WorkerProcess(tmp_path, api.env()) as worker:
        worker.wait_for_log("comfyui ready")
        wait_until(lambda: api.calls("job-take", "job-take-batch"), "the worker asks for a job", 30)
        family = worker.family()
        # The worker, ComfyUI and the SDK's heartbeat.
        assert len(family) >= 3
        started = time.monotonic()
        worker.child.send_signal(signal.SIGTERM)
        assert worker.child.wait(timeout=15) == 0
        assert time.monotonic() - started < 15
        wait_until(lambda: is_gone(family), "every process is gone", 5)
        assert not list(worker.run_dir.glob("*/input/*-*"))


@pytest.mark.parametrize("obeys", [True, False])
def test_sigterm_answers_the_jobs_in_hand_before_the_end(tmp_path: Path, obeys: bool) -> None:
    with RunPodApi(poll_s=60) as api:
        env = api.env() | {"WORKER_SHUTDOWN_GRACE_S": "1"}
        with WorkerProcess(tmp_path, env) as worker:
            slow = SLOW | {"obeys": obeys}
            # One executes, one waits for it.
            job_ids = [api.submit(job_input(invert_workflow(**slow), photo(1))) for _ in range(2)]
            for job_id in job_ids:
                worker.wait_for_log("prompt queued", job_id=job_id)
            started = time.monotonic()
            worker.child.send_signal(signal.SIGTERM)
            for job_id in job_ids:
                output = api.result(job_id, 20)["output"]
                assert (output["code"], output["retryable"]) == ("interrupted", True)
            assert worker.child.wait(timeout=15) == 0
            # Docker kills 10 s after SIGTERM.
            assert time.monotonic() - started < 8
            assert worker.job_files() == []


def test_a_second_sigterm_ends_the_worker_without_waiting_for_a_prompt(tmp_path: Path) -> None:
    with RunPodApi(poll_s=60) as api:
        env = api.env() | {"WORKER_SHUTDOWN_GRACE_S": "60"}
        with WorkerProcess(tmp_path, env) as worker:
            api.submit(job_input(invert_workflow(**SLOW | {"obeys": False}), photo(1)))
            worker.wait_for_log("prompt queued")
            family = worker.family()
            worker.child.send_signal(signal.SIGTERM)
            worker.wait_for_log("jobs in hand")
            worker.child.send_signal(signal.SIGTERM)
            assert worker.child.wait(timeout=15) == 128 + signal.SIGTERM
            events = [line["event"] for line in worker.logs()]
            assert events.count("comfyui started") == 1
            assert "comfyui restarts" not in events
            wait_until(lambda: is_gone(family), "every process is gone", 5)
            assert worker.job_files() == []


def test_a_job_that_ends_within_the_grace_time_is_answered_in_full(tmp_path: Path) -> None:
    with RunPodApi(poll_s=60) as api:
        env = api.env() | {"WORKER_SHUTDOWN_GRACE_S": "60"}
        with WorkerProcess(tmp_path, env) as worker:
            quick = SLOW | {"seconds": 2.0}
            job_id = api.submit(job_input(invert_workflow(**quick), photo(1)))
            worker.wait_for_log("prompt queued")
            worker.child.send_signal(signal.SIGTERM)
            late = api.submit(job_input(invert_workflow(), photo(2)))
            assert api.result(job_id, 20)["output"]["ok"] is True
            assert worker.child.wait(timeout=15) == 0
            # It may have been on its way to the worker: then it is answered.
            assert api.status(late) == "IN_QUEUE" or api.result(late)


def test_kill_9_of_the_worker_leaves_no_process(tmp_path: Path) -> None:
    with RunPodApi() as api, WorkerProcess(tmp_path, api.env()) as worker:
        worker.wait_for_log("comfyui ready")
        wait_until(lambda: api.calls("ping"), "the heartbeat beats", 30)
        family = worker.family()
        assert len(family) >= 3
        worker.child.kill()
        worker.child.wait()
        wait_until(lambda: is_gone(family), "every process is gone", 10)


def test_sigterm_while_comfyui_boots_ends_both(tmp_path: Path) -> None:
    with RunPodApi() as api, WorkerProcess(tmp_path, api.env()) as worker:
        worker.wait_for_log("comfyui started")
        family = worker.family()
        worker.child.send_signal(signal.SIGTERM)
        assert worker.child.wait(timeout=15) == 128 + signal.SIGTERM
        wait_until(lambda: is_gone(family), "every process is gone", 5)


def ends_at_boot(tmp_path: Path, **env: str) -> dict[str, object]:
    """The line with which a worker that can't start ends."""
    with RunPodApi() as api, WorkerProcess(tmp_path, api.env() | env) as worker:
        assert worker.child.wait(timeout=60) == 1, worker.tail()
        assert not api.calls("job-take", "job-take-batch")
        [last] = [line for line in worker.logs() if line["event"] == "worker ends"]
        return last


def test_a_comfyui_that_dies_at_boot_ends_the_worker_with_its_last_words(tmp_path: Path) -> None:
    last = ends_at_boot(tmp_path, COMFY_ARGS="--cpu --no-such-flag")
    assert last["code"] == "comfy_unavailable"
    assert "--no-such-flag" in str(last["details"]["log_tail"])


def test_a_missing_model_ends_the_worker_and_names_the_places(tmp_path: Path) -> None:
    last = ends_at_boot(tmp_path, WORKER_MODELS_DIR=str(tmp_path))
    assert last["code"] == "model_missing"
    for name in ("qwen_image_vae.safetensors", "diffusion_models", "text_encoders"):
        assert name in str(last)


def test_a_bucket_that_can_not_be_reached_is_reported_and_no_job_is_taken(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    env = {
        "BUCKET_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}",
        "BUCKET_NAME": "pictures",
        "BUCKET_ACCESS_KEY_ID": "key-id-that-must-not-show",
        "BUCKET_SECRET_ACCESS_KEY": "secret-that-must-not-show",
        "WORKER_RUN_DIR": "",
        "TMPDIR": str(temporary),
    }
    with RunPodApi() as api, WorkerProcess(tmp_path, api.env() | env) as worker:
        job_id = api.submit(job_input(invert_workflow(), photo(1)))
        comfy = psutil.Process(worker.comfy_pid())
        assert worker.child.wait(timeout=60) == 1, worker.tail()
        [report] = api.pings
        assert report.query["status"] == "unhealthy"
        assert report.query["check"] == "bucket_reachable"
        assert "upload_failed: could not reach bucket 'pictures'" in report.query["reason"]
        assert api.status(job_id) == "IN_QUEUE"
        wait_until(lambda: is_gone([comfy]), "ComfyUI is gone", 5)
        assert not list(temporary.glob("qwen-worker-*/*"))
        assert "that-must-not-show" not in worker.log_path.read_text()


def test_a_worker_without_a_gpu_is_reported_and_takes_no_job(tmp_path: Path) -> None:
    """Whatever the machine has: CUDA shows it none."""
    env = {"COMFY_ARGS": "", "CUDA_VISIBLE_DEVICES": ""}
    with RunPodApi() as api, WorkerProcess(tmp_path, api.env() | env) as worker:
        job_id = api.submit(job_input(invert_workflow(), photo(1)))
        assert worker.child.wait(timeout=60) == 1, worker.tail()
        [report] = api.pings
        assert report.query["check"] == "gpu_usable"
        assert "gpu_unusable: no GPU can be used" in report.query["reason"]
        assert api.status(job_id) == "IN_QUEUE"


def test_a_model_that_was_cut_off_is_reported(tmp_path: Path) -> None:
    scale, models = PROJECT_DIR / "build" / "scale-models", tmp_path / "models"
    shutil.copytree(scale, models, symlinks=True)
    vae = models / "vae" / "qwen_image_vae.safetensors"
    os.truncate(vae, vae.stat().st_size - 1)
    with RunPodApi() as api:
        env = api.env() | {"WORKER_MODELS_DIR": str(models)}
        with WorkerProcess(tmp_path, env) as worker:
            assert worker.child.wait(timeout=60) == 1, worker.tail()
            [report] = api.pings
    assert report.query["check"] == "models_present"
    assert "model_corrupt: " in report.query["reason"]


def test_half_a_bucket_ends_the_worker(tmp_path: Path) -> None:
    last = ends_at_boot(tmp_path, BUCKET_ENDPOINT_URL="http://127.0.0.1:9", BUCKET_NAME="b")
    assert last["code"] == "invalid_settings"
    assert "BUCKET_ACCESS_KEY_ID" in str(last["message"])


def test_a_port_in_use_ends_the_worker_and_says_what_to_set(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        last = ends_at_boot(tmp_path, COMFY_PORT=str(other.getsockname()[1]))
    assert last["code"] == "comfy_unavailable"
    assert "COMFY_PORT" in str(last["message"])


def test_a_second_worker_does_not_touch_the_folder_of_the_first(
    worker: WorkerProcess, api: RunPodApi, tmp_path: Path
) -> None:
    shared = {"WORKER_RUN_DIR": str(worker.run_dir)}
    with RunPodApi() as other, WorkerProcess(tmp_path, other.env() | shared) as second:
        second.wait_for_log("comfyui ready")
        for of in (other, api):
            output = of.result(of.submit(job_input(invert_workflow(), photo(1))), 30)["output"]
            assert shows_inverse(output["image_base64"], photo(1))
        assert len(list((worker.run_dir / "qwen-worker").glob("worker-*/input"))) == 2


def test_a_restart_budget_that_is_spent_asks_for_a_new_worker(tmp_path: Path) -> None:
    with RunPodApi() as api, WorkerProcess(tmp_path, api.env() | {"COMFY_RESTARTS": "0"}) as worker:
        worker.wait_for_log("comfyui ready")
        psutil.Process(worker.comfy_pid()).kill()
        body = api.result(api.submit(job_input(invert_workflow(), photo(1))), 30)
        assert body["output"]["code"] == "comfy_unavailable"
        assert body["stopPod"] is True


@pytest.mark.parametrize("flag", ["--help", "--no-such-flag"])
def test_flags_are_explained_or_refused_before_anything_starts(tmp_path: Path, flag: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "handler", flag], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == (0 if flag == "--help" else 2)
    assert "WORKER_CONCURRENCY" in run.stdout or "unrecognized" in run.stderr
