"""How long ComfyUI stands idle between two jobs that wait, through the real SDK's loop.

Two kinds of jobs: LoadImage, ImageBlur, SaveImage of a 1024 x 1024 photo, with a large blur (about
a second) and with a small one (about 0.2 s). The small ones also go through a plain synchronous
handler with a stock ComfyUI (children/sync_handler.py), in the same run.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from PIL import Image, ImageChops

from benchmarks.report import Figure, Result
from tests.fakes.runpod_api import RunPodApi
from tests.integration.worker_process import (
    PORTRAIT,
    PROJECT_DIR,
    WorkerProcess,
    as_base64,
    free_port,
    local_environment,
    node,
    wait_until,
)

_JOBS = 15
_LARGE, _SMALL = 31, 3
_CHILD = PROJECT_DIR / "benchmarks" / "children" / "sync_handler.py"

Execution = tuple[float, float]


def measure() -> Result:
    with tempfile.TemporaryDirectory() as folder:
        ours = _ours(Path(folder))
        plain = _plain(Path(folder))
    large, small = ours["large"], ours["small"]
    gaps_ms = [1000 * gap for gap in _gaps(large)]
    ratio = _jobs_a_minute(small) / _jobs_a_minute(plain)
    busy, gap = _busy(large), statistics.median(gaps_ms)
    figures = [
        Figure("gap between two executions, large blur, median", gap, "ms", "<= 10", gap <= 10),
        Figure("ComfyUI executes, large blur", 100 * busy, "%", ">= 97", busy >= 0.97),
        Figure("execution, large blur, median", 1000 * _length(large), "ms"),
        Figure("execution, small blur, median", 1000 * _length(small), "ms"),
        Figure("gap, small blur, median", 1000 * statistics.median(_gaps(small)), "ms"),
        Figure("jobs a minute, small blur", _jobs_a_minute(small), "1/min"),
        Figure("plain synchronous handler: gap, median",
               1000 * statistics.median(_gaps(plain)), "ms"),
        Figure("plain synchronous handler: jobs a minute", _jobs_a_minute(plain), "1/min"),
        Figure("jobs a minute, ratio", ratio, "", ">= 3", ratio >= 3),
    ]  # fmt: skip
    detail = {"worker, large blur": large, "worker, small blur": small, "plain, small blur": plain}

    def draw(axes: Axes) -> None:
        for row, (_, runs) in enumerate(detail.items()):
            start = runs[0][0]
            axes.broken_barh([(a - start, b - a) for a, b in runs], (row - 0.35, 0.7))
        axes.set_yticks(range(len(detail)), list(detail))
        axes.set_xlabel("seconds; a bar is an execution")
        axes.set_title(f"{_JOBS} jobs waiting")

    return Result(figures, detail, draw)


def _ours(folder: Path) -> dict[str, list[Execution]]:
    with (
        RunPodApi() as api,
        WorkerProcess(folder, {**api.env(), "WORKER_LOG_LEVEL": "DEBUG"}) as worker,
    ):
        worker.wait_for_log("comfyui ready")
        runs = {}
        for name, radius in (("large", _LARGE), ("small", _SMALL)):
            before = len(_executions(worker))
            _run_jobs(api, radius)
            runs[name] = sorted(_executions(worker)[before:])[1:]
        return runs


def _executions(worker: WorkerProcess) -> list[Execution]:
    return [
        (entry["started_at_s"], entry["ended_at_s"])
        for entry in worker.logs() if entry["event"] == "prompt executed"
    ]  # fmt: skip


def _plain(folder: Path) -> list[Execution]:
    with RunPodApi() as api, _stock_comfyui(folder) as port:
        log = (folder / "plain.log").open("wb")
        environment = {**local_environment(), **api.env(), "COMFY_PORT": str(port),
                       "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true"}  # fmt: skip
        handler = subprocess.Popen(
            [sys.executable, str(_CHILD)], cwd=folder, env=environment, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        try:
            results = _run_jobs(api, _SMALL)
        finally:
            os.killpg(handler.pid, 9)
            handler.wait()
            log.close()
        runs = sorted(result["output"]["execution"] for result in results)
        return [(start, end) for start, end in runs][1:]


@contextlib.contextmanager
def _stock_comfyui(folder: Path) -> Iterator[int]:
    """Upstream's main.py as anyone starts it, with folders of its own."""
    port = free_port()
    home = folder / "stock"
    (home / "custom_nodes").mkdir(parents=True)
    comfy = PROJECT_DIR / "comfy"
    with (folder / "stock.log").open("wb") as log:
        child = subprocess.Popen(
            [str(comfy / ".venv/bin/python"), str(comfy / "ComfyUI/main.py"), "--cpu",
             "--listen", "127.0.0.1", "--port", str(port), "--base-directory", str(home),
             "--front-end-root", str(home), "--database-url", "sqlite:///:memory:"],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: _answers(port), "stock ComfyUI", 120, (folder / "stock.log").read_text)
        yield port
    finally:
        child.kill()
        child.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/system_stats", timeout=5).close()
        return True
    return False


def _run_jobs(api: RunPodApi, radius: int) -> list[dict[str, Any]]:
    """The first of them is not measured: it may find the worker cold."""
    with Image.open(PORTRAIT) as portrait:
        photo = portrait.convert("RGB").resize((1024, 1024))
    workflow = {
        "1": node("LoadImage", image="photo.png"),
        "2": node("ImageBlur", image=["1", 0], blur_radius=radius, sigma=5.0),
        "3": node("SaveImage", images=["2", 0], filename_prefix="blurred"),
    }
    jobs = []
    for number in range(_JOBS + 1):
        # Another picture each time: ComfyUI's cache must not answer.
        sent = as_base64(ImageChops.offset(photo, 7 * number + radius, 3 * number))
        picture = {"name": "photo.png", "image": sent}
        jobs.append(api.submit({"workflow": workflow, "images": [picture]}))
    return [api.result(job, 300) for job in jobs]


def _gaps(runs: list[Execution]) -> list[float]:
    return [later[0] - earlier[1] for earlier, later in pairwise(runs)]


def _length(runs: list[Execution]) -> float:
    return statistics.median(end - start for start, end in runs)


def _busy(runs: list[Execution]) -> float:
    return sum(end - start for start, end in runs) / (runs[-1][1] - runs[0][0])


def _jobs_a_minute(runs: list[Execution]) -> float:
    return 60 * (len(runs) - 1) / (runs[-1][0] - runs[0][0])
