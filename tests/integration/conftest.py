"""A worker that is ready for jobs, driven by a stand-in for RunPod's API."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.runpod_api import RunPodApi
from tests.integration.worker_process import PROJECT_DIR, WorkerProcess
from tests.schemas import OUTPUT


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-golden", action="store_true", help="write tests/golden/*/answer.json anew"
    )


@pytest.fixture(scope="session", autouse=True)
def _is_set_up() -> None:
    for path in ("comfy/.venv/bin/python", "comfy/ComfyUI/main.py", "build/scale-models"):
        if not (PROJECT_DIR / path).exists():
            pytest.fail(f"{path} is missing: run `make setup` first", pytrace=False)


class StrictRunPodApi(RunPodApi):
    """Every answer and every update that a test looks at is of the published schema."""

    def result(self, job_id: str, timeout_s: float = 10.0) -> dict[str, Any]:
        body = super().result(job_id, timeout_s)
        OUTPUT.validate(body["output"])
        return body

    def progress(self, job_id: str) -> list[Any]:
        updates = super().progress(job_id)
        for update in updates:
            OUTPUT.validate(update)
        return updates


@pytest.fixture(scope="module")
def api() -> Iterator[RunPodApi]:
    with StrictRunPodApi() as api:
        yield api


@pytest.fixture(scope="module")
def worker(api: RunPodApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    with WorkerProcess(tmp_path_factory.mktemp("worker"), api.env()) as worker:
        worker.wait_for_log("comfyui ready")
        yield worker
