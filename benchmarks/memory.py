"""How much memory the handler's process needs on the real worker: for a large job, and for small
ones that were made to take it."""

import base64
import random
import re
import tempfile
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from PIL import Image

from benchmarks.report import Figure, Result
from tests.fakes.hostile_pictures import mpo_with_a_huge_second
from tests.fakes.runpod_api import RunPodApi
from tests.integration.worker_process import WorkerProcess, as_base64, node

_PAYLOAD_BYTES = 20_000_000
_RUNS = 4
_MOST = 6.0
_MB = 1e6
_MOST_MB = 300.0
_LONG = "LoadImage" * 1_600_000


def measure() -> Result:
    """A picture whose base64 is the largest payload that RunPod takes goes in, and one comes out
    that makes the answer as large. Linux keeps the highest resident size; it is reset for each
    job."""
    with (
        tempfile.TemporaryDirectory() as folder,
        RunPodApi() as api,
        WorkerProcess(Path(folder), api.env() | {"WORKER_MAX_NODES": "10000"}) as worker,
    ):
        worker.wait_for_log("comfyui ready")
        job, small = _job(_PAYLOAD_BYTES), _job(10_000)
        _run(api, small)
        peaks = [_peak(api, worker.child.pid, job) for _ in range(_RUNS)]
        hostile = {
            name: _grown_mb(api, worker.child.pid, one) for name, one in _hostile_jobs().items()
        }
    idle_bytes = peaks[0]["idle_bytes"]
    ratios = [(peak["peak_bytes"] - idle_bytes) / _PAYLOAD_BYTES for peak in peaks]

    def draw(axes: Axes) -> None:
        for key in ("idle_bytes", "peak_bytes"):
            axes.plot(range(1, _RUNS + 1), [peak[key] / _MB for peak in peaks], "o-", label=key)
        axes.set(xlabel="job", ylabel="MB")
        axes.set_ylim(bottom=0)
        axes.legend()

    return Result(
        [
            Figure("handler's process before the first large job", idle_bytes / _MB, "MB"),
            Figure("its highest peak in jobs of 20 MB in, 20 MB out",
                   max(peak["peak_bytes"] for peak in peaks) / _MB, "MB"),
            Figure("answer of such a job", peaks[0]["answer_bytes"] / _MB, "MB"),
            Figure("highest peak less that size, in payloads", max(ratios), "times",
                   f"< {_MOST:g}", max(ratios) < _MOST),
            *(
                Figure(f"highest growth in a job of {name}", grown, "MB", f"< {_MOST_MB:g}",
                       grown < _MOST_MB)
                for name, grown in hostile.items()
            ),
            Figure("its size after the last job", peaks[-1]["after_bytes"] / _MB, "MB"),
        ],
        {"jobs": peaks, "ratios": ratios, "hostile_mb": hostile},
        draw,
    )  # fmt: skip


def _job(payload_bytes: int) -> dict[str, Any]:
    """Noise, which does not compress: 3 bytes a pixel, 4 of base64. The answer holds its picture
    twice, so the one that comes out has half as many pixels."""
    side = int((payload_bytes * 0.99 / 4) ** 0.5)
    out = int(side * 0.5**0.5)
    noise = Image.frombytes("RGB", (side, side), random.Random(1).randbytes(side * side * 3))
    workflow = {
        "1": node("LoadImage", image="photo.png"),
        "2": node("ImageCrop", image=["1", 0], width=out, height=out, x=0, y=0),
        "3": node("SaveImage", images=["2", 0], filename_prefix="result"),
    }
    return {"workflow": workflow, "images": [{"name": "photo.png", "image": as_base64(noise)}]}


def _hostile_jobs() -> dict[str, dict[str, Any]]:
    nodes = {str(n): node("PreviewAny", source=str(n)) for n in range(3000)}
    mpo = base64.b64encode(mpo_with_a_huge_second((60_000, 60_000))).decode()
    loads = {
        "1": node("LoadImage", image="a.jpg"),
        "2": node("SaveImage", images=["1", 0], filename_prefix="result"),
    }
    return {
        "3,000 nodes": {"workflow": nodes},
        "a key of 14 MB": {_LONG: 1, "workflow": nodes},
        "a class name of 14 MB": {"workflow": {"1": node(_LONG)}},
        "a picture name of 14 MB": {"workflow": {"1": node("LoadImage", image=_LONG)}},
        "a second frame of 60,000 x 60,000": {
            "workflow": loads, "images": [{"name": "a.jpg", "image": mpo}]
        },
    }  # fmt: skip


def _grown_mb(api: RunPodApi, pid: int, job: dict[str, Any]) -> float:
    """Whether it is answered well or refused."""
    idle_bytes = _status_bytes(pid, "VmRSS")
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    api.result(api.submit(job, job_id=f"sync-{random.random()}"), 300)
    return (_status_bytes(pid, "VmHWM") - idle_bytes) / _MB


def _run(api: RunPodApi, job: dict[str, Any]) -> dict[str, Any]:
    """By /runsync, which takes the larger answers."""
    body = api.result(api.submit(job, job_id=f"sync-{random.random()}"), 120)
    assert "error" not in body, body["error"]
    return body


def _peak(api: RunPodApi, pid: int, job: dict[str, Any]) -> dict[str, int]:
    idle_bytes = _status_bytes(pid, "VmRSS")
    # 5 resets the peak to what is resident now (proc(5)).
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    output = _run(api, job)["output"]
    return {
        "idle_bytes": idle_bytes,
        "peak_bytes": _status_bytes(pid, "VmHWM"),
        "after_bytes": _status_bytes(pid, "VmRSS"),
        "answer_bytes": sum(
            len(text) for text in (output["image_base64"], output["images"][0]["data"])
        ),
        "picture_bytes": len(base64.b64decode(job["images"][0]["image"])),
    }


def _status_bytes(pid: int, key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found
    return int(found[1]) * 1024
