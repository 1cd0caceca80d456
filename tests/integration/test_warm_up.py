"""The edit before the first job, on the scale models."""

import signal
from pathlib import Path
from typing import Any

from tests.fakes.runpod_api import RunPodApi
from tests.integration.test_edit import portrait
from tests.integration.test_worker_life import is_gone
from tests.integration.worker_process import WorkerProcess, as_base64, wait_until

RESULT_S = 240
WARM = {"WORKER_WARMUP": "true", "WORKER_LOG_LEVEL": "DEBUG"}


def loads(lines: list[dict[str, Any]]) -> list[str]:
    """What ComfyUI says when it moves a model's weights to where it computes."""
    texts = [str(line.get("line")) for line in lines if line["event"] == "comfyui"]
    return [text for text in texts if text.startswith("Requested to load")]


def test_the_first_job_finds_all_weights_loaded(tmp_path: Path) -> None:
    with RunPodApi() as api, WorkerProcess(tmp_path, api.env() | WARM) as worker:
        worker.wait_for_log("warm-up done")
        warm_up_lines = len(worker.logs())
        # Text encoder, diffusion model, VAE.
        assert len(loads(worker.logs())) == 3
        assert not [call for call in api.calls("job-take", "job-take-batch") if call.job_ids]
        picture = {"name": "photo.png", "image": as_base64(portrait().crop((150, 0, 300, 350)))}
        job_id = api.submit({"prompt": "make it a drawing", "steps": 1, "images": [picture]})
        body = api.result(job_id, RESULT_S)
        assert body["output"]["ok"] is True
        assert loads(worker.logs()[warm_up_lines:]) == []
        assert worker.job_files() == []


def test_sigterm_ends_the_warm_up_and_all_processes(tmp_path: Path) -> None:
    with RunPodApi() as api, WorkerProcess(tmp_path, api.env() | WARM) as worker:
        worker.wait_for_log("prompt queued")
        family = worker.family()
        worker.child.send_signal(signal.SIGTERM)
        assert worker.child.wait(timeout=8) == 128 + signal.SIGTERM
        wait_until(lambda: is_gone(family), "every process is gone", 5)
        assert not api.calls("job-take", "job-take-batch")
        assert worker.job_files() == []
