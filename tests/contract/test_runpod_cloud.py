"""Holds the stand-in for RunPod's cloud to RunPod's own client and to a real worker."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.contract.runpod.test_runpod_api import running_worker
from tests.fakes.runpod_api import RunPodApi
from tests.fakes.runpod_cloud import RunPodCloud
from tests.fakes.runpod_oddities import JSON_ERROR, Oddity
from tests.fakes.runpod_work import OnWorker

CLIENT = Path(__file__).parent / "children" / "runpod_client.py"


def test_the_real_client_reads_the_stand_in(tmp_path: Path) -> None:
    with RunPodCloud(oddity=Oddity(cold_start_s=0.3, run_s=0.3)) as cloud:
        ran = subprocess.run(
            [sys.executable, CLIENT, cloud.url, cloud.key, cloud.endpoint_id],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    seen = json.loads(ran.stdout.splitlines()[-1])
    assert seen["states"] == ["COMPLETED", "IN_PROGRESS", "IN_QUEUE"]
    assert {"image_base64", "images", "ok"} <= set(seen["output"])
    assert (seen["cancelled"]["status"], seen["after"]) == ("CANCELLED", "CANCELLED")
    assert set(seen["health"]) == {"jobs", "workers"}


def test_a_real_worker_runs_and_stops_its_jobs(tmp_path: Path) -> None:
    with RunPodApi() as api, running_worker(api, tmp_path):
        worker = OnWorker(api)
        with RunPodCloud(execute=worker.execute, stop=worker.stop) as cloud:
            done = submit(cloud, {"do": "return", "value": {"ok": True}})
            raised = submit(cloud, {"do": "misbehave", "message": "broken"})
            waits = submit(cloud, {"do": "wait", "gate": "never"})
            cloud.wait_for(lambda: cloud.jobs[raised].is_final, "end of the job that raises")
            cloud.wait_for(lambda: cloud.jobs[done].is_final, "end of the first job")
            assert cloud.jobs[done].shown == {"output": {"ok": True}}
            assert cloud.jobs[raised].status == "FAILED"
            told = json.loads(cloud.jobs[raised].shown["error"])
            assert set(told) == set(json.loads(JSON_ERROR))
            api.wait_for(lambda: api.calls("progress"), "the job that waits to begin")
            ask(cloud, "POST", f"cancel/{waits}")
            stopped = submit(cloud, {"do": "return", "value": 1})
            cloud.wait_for(lambda: cloud.jobs[stopped].is_final, "the worker to be free again")


def submit(cloud: RunPodCloud, job_input: dict[str, Any]) -> str:
    return str(ask(cloud, "POST", "run", {"input": job_input})["id"])


def ask(cloud: RunPodCloud, method: str, path: str, body: Any = None) -> Any:
    answer = httpx.request(
        method, f"{cloud.url}/{cloud.endpoint_id}/{path}", json=body,
        headers={"Authorization": f"Bearer {cloud.key}"}, trust_env=False,
    )  # fmt: skip
    return answer.raise_for_status().json()
