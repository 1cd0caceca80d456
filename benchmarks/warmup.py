"""What WORKER_WARMUP moves from the first job to the boot, on the scale models (no GPU, 0.05 GB of
weights: the real ones, 31 GB, take longer to load by as much as the disk and the GPU need)."""

import tempfile
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from benchmarks.report import Figure, Result
from handler.job import warm_up_nodes
from handler.models import read_models_lock
from handler.settings import PROJECT_DIR
from handler.workflow import ModelNames
from tests.fakes.runpod_api import RunPodApi
from tests.integration.worker_process import WorkerProcess

_RESULT_S = 120.0
_JOBS = ("first job", "second job")


def measure() -> Result:
    cold, warm = _run({}), _run({"WORKER_WARMUP": "true"})
    # A job that finds its weights loaded takes as long as the second of a worker without warm-up.
    bound = 1.5 * cold["second job"]
    figures = [
        *(Figure(f"without warm-up: {name}", cold[name], "s") for name in _JOBS),
        Figure(
            "with warm-up: first job", warm["first job"], "s",
            f"<= {bound:.2g}", warm["first job"] <= bound,
        ),
        Figure("with warm-up: second job", warm["second job"], "s"),
        Figure("the warm-up itself, before the first job is taken", warm["warm-up"], "s"),
    ]  # fmt: skip

    def draw(axes: Axes) -> None:
        labels = [f"{name}, {how}" for how in ("cold", "warmed up") for name in _JOBS]
        axes.barh(labels, [run[name] for run in (cold, warm) for name in _JOBS])
        axes.set_xlabel("seconds of execution")

    return Result(figures, {"without": cold, "with": warm}, draw)


def _run(env: dict[str, str]) -> dict[str, float]:
    """Seconds that ComfyUI executes each job, and the warm-up."""
    lock = read_models_lock(PROJECT_DIR / "build" / "scale-models" / "models.lock")
    found = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        RunPodApi() as api,
        WorkerProcess(Path(folder), api.env() | env) as worker,
    ):
        if env:
            found["warm-up"] = float(worker.wait_for_log("warm-up done")["s"])
        for seed, name in enumerate(_JOBS, start=1):
            workflow: dict[str, Any] = warm_up_nodes(ModelNames.of(lock.models))
            # The smallest edit again, but nothing of it is in ComfyUI's cache except its loaders.
            workflow["3"]["inputs"]["seed"] = seed
            workflow["111"]["inputs"]["prompt"] = f"job {seed}"
            body = api.result(api.submit({"workflow": workflow}), _RESULT_S)
            found[name] = body["output"]["timings"]["execute"] / 1000
    return found
