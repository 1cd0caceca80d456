"""From the start of the process to ready for a job, page cache warm: the worker against "stock".

Stock is a stand-in for the reference worker: `main.py --cpu` in the background, and at the same
time a handler that imports runpod, requests and boto3 and then asks ComfyUI every 50 ms whether it
is up. Side by side is its best case. Ready is, for stock, ComfyUI's first answer when the imports
are done; for the worker, its first request for a job, which it makes after that.
"""

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from matplotlib.axes import Axes

from benchmarks.report import Figure, Result
from handler.comfy import ComfyPaths, comfy_argv
from handler.settings import PROJECT_DIR, child_environment
from tests.fakes.runpod_api import RunPodApi
from tests.integration.worker_process import WorkerProcess, free_port, wait_until

_RUNS = 3
_BOUND = 0.5
_HANDLER = """
import sys, time, urllib.request
import boto3, requests, runpod, runpod.serverless
while True:
    try:
        urllib.request.urlopen(sys.argv[1]).read()
        break
    except OSError:
        time.sleep(0.05)
"""
# Lines that ComfyUI writes on its way, and what is done by then.
_MARKS = {
    "Setting output directory": "python, first modules",
    "pytorch version": "torch",
    "ComfyUI version": "the other imports",
    "Starting server": "nodes, database, routes",
}


def measure() -> Result:
    _stock(), _ours()  # the page cache is warm after these
    stock, ours = [], []
    for _ in range(_RUNS):
        stock.append(_stock())
        ours.append(_ours())
    whole = {name: _median_end(runs) for name, runs in {"stock": stock, "ours": ours}.items()}
    ratio = whole["ours"] / whole["stock"]
    figures = [
        Figure("stock: ready for a job, median", whole["stock"], "s"),
        Figure("ours: ready for a job, median", whole["ours"], "s"),
        Figure("ours / stock", ratio, "", f"<= {_BOUND}", ratio <= _BOUND),
    ]
    for name, runs in (("stock", stock), ("ours", ours)):
        figures += [Figure(f"{name}: {phase}", s, "s") for phase, s in _phases(runs).items()]

    def draw(axes: Axes) -> None:
        for row, runs in enumerate((stock, ours)):
            left = 0.0
            for phase, seconds in _phases(runs).items():
                axes.barh(row, seconds, left=left)
                axes.text(left, row + 0.42, phase, rotation=12, fontsize=6)
                left += seconds
        axes.set_yticks([0, 1], ["stock", "ours"])
        axes.set_xlabel("seconds from the start of the process")

    return Result(figures, {"stock": stock, "ours": ours}, draw)


def _median_end(runs: Sequence[dict[str, float]]) -> float:
    return statistics.median(max(run.values()) for run in runs)


def _phases(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Seconds of each phase, by the medians of the moments at which it was done."""
    ends = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    phases, before = {}, 0.0
    for name, end in ends.items():
        phases[name], before = end - before, end
    return phases


def _stock() -> dict[str, float]:
    """The moment at which each phase was done, in seconds from the start."""
    with tempfile.TemporaryDirectory() as folder:
        paths = ComfyPaths.under(Path(folder))
        for path in paths.folders:
            path.mkdir()
        paths.model_paths.write_text("{}")
        port = free_port()
        comfy = PROJECT_DIR / "comfy"
        python = comfy / ".venv" / "bin" / "python"
        argv = comfy_argv(python, comfy / "ComfyUI", port, paths, cpu=True, extra=[])
        done: dict[str, float] = {}
        started = time.monotonic()
        with subprocess.Popen(
            argv, env=child_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        ) as child:  # fmt: skip
            threading.Thread(target=_note_lines, args=(child, done, started), daemon=True).start()
            url = f"http://127.0.0.1:{port}/system_stats"
            subprocess.run([sys.executable, "-c", _HANDLER, url], check=True, timeout=120)
            ready = time.monotonic() - started
            child.kill()
    return done | {"ready": ready}


def _note_lines(child: subprocess.Popen[str], done: dict[str, float], started: float) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        for mark, phase in _MARKS.items():
            if line.startswith(mark):
                done.setdefault(phase, time.monotonic() - started)


def _ours() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, RunPodApi() as api:
        started, started_at = time.monotonic(), time.time()
        env = api.env() | {"WORKER_LOG_LEVEL": "DEBUG"}
        with WorkerProcess(Path(folder), env) as worker:
            calls = wait_until(
                lambda: api.calls("job-take", "job-take-batch"), "asks for a job", 120, worker.tail
            )
            done = {}
            for entry in worker.logs():
                at_s = datetime.fromisoformat(entry["ts"]).timestamp() - started_at
                if entry["event"] == "comfyui started":
                    done["the worker, before ComfyUI"] = at_s
                for mark, phase in _MARKS.items():
                    if str(entry.get("line")).startswith(mark):
                        done.setdefault(phase, at_s)
            return done | {"ready": calls[0].at - started}
