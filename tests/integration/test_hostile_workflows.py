"""The real worker, given workflows that were made to take its memory."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.runpod_api import RunPodApi
from tests.integration.worker_process import (
    WorkerProcess,
    invert_workflow,
    job_input,
    node,
    photo,
)

LONG = "LoadImage" * 1_600_000


@pytest.fixture(scope="module")
def worker(api: RunPodApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """Its ComfyUI may fill 3 GB, whatever the machine has."""
    share = 3e9 / (_kilobytes(Path("/proc/meminfo"), "MemTotal") * 1024)
    env = api.env() | {"WORKER_MAX_NODES": "10000", "COMFY_MEMORY_SHARE": str(min(1.0, share))}
    with WorkerProcess(tmp_path_factory.mktemp("worker"), env) as worker:
        worker.wait_for_log("comfyui ready")
        yield worker


def _kilobytes(path: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", path.read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def peak_of(worker: WorkerProcess, api: RunPodApi, job: dict[str, Any]) -> tuple[float, Any]:
    """By how many MB the worker's own process grew, and the answer."""
    process = Path(f"/proc/{worker.child.pid}")
    before = _kilobytes(process / "status", "VmRSS")
    # 5 resets the peak to what is resident now (proc(5)).
    (process / "clear_refs").write_text("5")
    output = api.result(api.submit(job), 180)["output"]
    return (_kilobytes(process / "status", "VmHWM") - before) / 1000, output


def test_the_progress_of_many_nodes_takes_no_memory(api: RunPodApi, worker: WorkerProcess) -> None:
    workflow = {"0": node("EmptyImage", width=1, height=1, batch_size=1, color=0)}
    workflow |= {f"p{n}": node("PreviewAny", source=str(n)) for n in range(1500)}
    workflow["end"] = node("SaveImage", images=["0", 0], filename_prefix="result")
    grown_mb, output = peak_of(worker, api, {"workflow": workflow})
    assert output["ok"] is True
    assert grown_mb < 300


def test_nodes_that_double_a_text_cost_comfyui_its_life_and_the_worker_nothing(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    workflow = {"0": node("StringConcatenate", string_a="x" * 5000, string_b="", delimiter="")}
    for number in range(1, 23):
        before = [str(number - 1), 0]
        workflow[str(number)] = node(
            "StringConcatenate", string_a=before, string_b=before, delimiter=""
        )
    workflow["end"] = node("PreviewAny", source=["22", 0])
    grown_mb, output = peak_of(worker, api, {"workflow": workflow})
    assert (output["code"], output["retryable"]) == ("comfy_exited", False)
    assert "COMFY_MEMORY_SHARE" in output["message"]
    assert grown_mb < 300
    body = api.result(api.submit(job_input(invert_workflow(), photo(1))), 60)
    assert body["output"]["ok"] is True


@pytest.mark.parametrize(
    ("job", "code"),
    [
        ({LONG: 1, "workflow": invert_workflow()}, "invalid_input"),
        ({"workflow": {"1": node(LONG)}}, "invalid_workflow"),
        ({"workflow": {LONG: node("LoadImage", image="a.png")}}, "invalid_workflow"),
        ({"workflow": {"1": node("LoadImage", image=LONG)}}, "missing_image"),
        ({"workflow": {"1": node("VAELoader", vae_name=LONG),
                       "2": node("VAEDecode", vae=["1", 0], samples=["3", 0]),
                       "3": node("EmptyLatentImage", width=64, height=64, batch_size=1),
                       "4": node("SaveImage", images=["2", 0], filename_prefix="x")}},
         "workflow_rejected"),
        ({"workflow": {"1": node("SaveImage", images=[LONG, 0], filename_prefix="x")}},
         "invalid_workflow"),
        ({"prompt": "x", "ratio": LONG}, "invalid_input"),
        ({"workflow": LONG}, "invalid_workflow"),
    ],
    ids=["key", "class", "node", "picture", "model", "link", "choice", "text"],
)  # fmt: skip
def test_a_name_of_megabytes_costs_no_more_than_itself(
    api: RunPodApi, worker: WorkerProcess, job: dict[str, Any], code: str
) -> None:
    grown_mb, output = peak_of(worker, api, job)
    assert output["code"] == code
    assert len(output["message"]) < 3000
    assert grown_mb < 6 * len(LONG) / 1e6
