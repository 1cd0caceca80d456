"""`make serve` as a user has it: gateway, real worker, real SDK, real ComfyUI on scale models."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.gateways import as_text
from tests.integration.worker_process import (
    PROJECT_DIR,
    as_base64,
    free_port,
    invert_workflow,
    local_environment,
    photo,
    shows_inverse,
    wait_until,
)

_NODES = PROJECT_DIR / "tests" / "integration" / "nodes.yaml"


class Served:
    """scripts/serve.py on ports of its own, and all that it has started."""

    def __init__(self, folder: Path, **more: str) -> None:
        port = free_port()
        self.log_path = folder / "serve.log"
        environment = {
            **local_environment(), "GATEWAY_LISTEN": f"127.0.0.1:{port}",
            "GATEWAY_DATA_DIR": str(folder / "data"), "WORKER_RUN_DIR": str(folder / "run"),
            "COMFY_ARGS": f"--extra-model-paths-config {_NODES}", **more,
        }  # fmt: skip
        with self.log_path.open("ab") as log:
            self.child = subprocess.Popen(
                [sys.executable, str(PROJECT_DIR / "scripts" / "serve.py")], env=environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False)
        self._family: set[psutil.Process] = set()
        wait_until(self._answers, "/health", 60, self.tail)

    def create(self, seed: int, **between: Any) -> str:
        """A picture that is to be inverted."""
        body = {
            "workflow": invert_workflow(**between),
            "images": [{"name": "photo.png", "image": as_base64(photo(seed))}],
        }
        answer = self.http.post("/api/queue/create", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["job_id"])

    def ended(self, job_id: str, timeout_s: float = 120) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            found = self.http.get(f"/api/queue/status/{job_id}").json()
            return found if found["status"] in {"succeeded", "failed", "cancelled"} else None

        return dict(wait_until(look, job_id, timeout_s, self.tail))

    def check(self, job_id: str, seed: int) -> dict[str, Any]:
        status = self.ended(job_id)
        assert status["status"] == "succeeded", status
        picture = self.http.get(status["result_url"]).content
        assert shows_inverse(as_text(picture), photo(seed))
        return status

    def family(self) -> set[psutil.Process]:
        """All that it has ever started, as far as seen."""
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.child.pid)
            self._family |= {root, *root.children(recursive=True)}
        return self._family

    def gateway(self) -> psutil.Process:
        return next(one for one in self.family() if "gateway" in _command(one))

    def tail(self) -> str:
        return "\n".join(self.log_path.read_text().splitlines()[-40:])

    def wait_until_nothing_is_left(self) -> None:
        def look() -> bool:
            return not [one for one in self._family if _is_alive(one)]

        wait_until(look, "the end of all processes", 40, self.tail)

    def close(self) -> None:
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.child.wait()
        self.http.close()

    def _answers(self) -> bool:
        assert self.child.poll() is None, self.tail()
        with contextlib.suppress(httpx.HTTPError):
            return self.http.get("/health").status_code == 200
        return False


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return list(process.cmdline())
    return []


def _is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    found = Served(tmp_path)
    yield found
    found.close()


def test_one_command_makes_a_picture_and_sigterm_leaves_nothing_behind(served: Served) -> None:
    status = served.check(served.create(1), 1)
    assert status["timings"]["worker"]["execute"] >= 0
    assert served.http.get("/ready").status_code == 200
    # Two in hand: the second is there when the first has ended.
    jobs = [(served.create(seed), seed) for seed in range(2, 8)]
    for job_id, seed in jobs:
        served.check(job_id, seed)
    assert len(served.family()) >= 4
    served.child.send_signal(signal.SIGTERM)
    assert served.child.wait(60) == 0, served.tail()
    served.wait_until_nothing_is_left()


def test_killed_with_9_it_leaves_nothing_behind(served: Served) -> None:
    served.check(served.create(1), 1)
    assert len(served.family()) >= 4
    os.kill(served.child.pid, signal.SIGKILL)
    served.child.wait()
    served.wait_until_nothing_is_left()


def test_a_cancelled_job_leaves_the_gpu_to_the_next(served: Served) -> None:
    served.check(served.create(1), 1)
    slow = served.create(2, class_type="SlowImage", seconds=600.0, obeys=True)
    wait_until(
        lambda: served.http.get(f"/api/queue/status/{slow}").json()["phase"] == "execute",
        "the slow job on the GPU", 60, served.tail,
    )  # fmt: skip
    began = time.monotonic()
    served.http.post(f"/api/queue/cancel/{slow}")
    assert served.ended(slow)["status"] == "cancelled"
    # A figure of the issue, and not a benchmark: it is told within 2 s, on any machine.
    assert time.monotonic() - began < 10
    served.check(served.create(3), 3)


def test_the_real_worker_goes_on_over_a_kill_of_the_gateway(tmp_path: Path) -> None:
    """The gateway alone is killed and started again; the worker keeps its job and its result."""
    from tests.gateway_process import GatewayProcess
    from tests.gateways import WORKER_KEY
    from tests.integration.worker_process import WorkerProcess

    with GatewayProcess(tmp_path, GATEWAY_WORKER_KEY=WORKER_KEY) as gateway:
        printed = subprocess.run(
            [sys.executable, "-m", "gateway", "worker-env", "--name", "gpu-1"],
            env={**gateway._env}, cwd=PROJECT_DIR, check=True, capture_output=True, text=True,
        )  # fmt: skip
        lines = (line.partition("=") for line in printed.stdout.splitlines())
        variables = {name: value.strip("'") for name, _, value in lines}
        with WorkerProcess(tmp_path, local_environment() | variables) as worker:
            body = {
                "workflow": invert_workflow(class_type="SlowImage", seconds=4.0, obeys=True),
                "images": [{"name": "photo.png", "image": as_base64(photo(5))}],
            }
            job_id = gateway.http.post("/api/queue/create", json=body).json()["job_id"]
            gateway.wait(job_id, "running", timeout_s=120)
            worker.wait_for_log("prompt queued")
            gateway.kill()
            gateway.start()
            status = gateway.wait(job_id, "succeeded", "failed")
            assert status["status"] == "succeeded", json.dumps(status)
            assert status["attempts"] == 1
            picture = gateway.http.get(status["result_url"]).content
            assert shows_inverse(as_text(picture), photo(5))
