"""How long LoadImage, ImageInvert and SaveImage hold ComfyUI's executing thread, and with it the
GPU: as upstream has them, and with the worker's own nodes.

Two whole workers on the CPU, one of them with COMFY_STOCK, get the same new photo of 1024 x 1024 in
turns. "On the executing thread" is from `execution_start` to `execution_success` in ComfyUI's
history, in whole milliseconds; what the worker's own process does before and after stands below.

What is left there, in parts of ours: SaveImage 30 % (arithmetic, checksums, a file of 3 MB),
ImageInvert 19 % (upstream's, mostly new memory), LoadImage 15 %, events to the websocket 10 %, the
SHA-256 of the input for ComfyUI's cache 5 %, and 21 % its bookkeeping around the nodes.
"""

import base64
import contextlib
import io
import itertools
import statistics
import tempfile
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from PIL import Image, ImageChops, ImageOps

from benchmarks.report import Figure, Result
from tests.fakes.runpod_api import RunPodApi
from tests.integration.worker_process import PORTRAIT, WorkerProcess, invert_workflow

_RUNS = 25
_WARM_UPS = 3
_RESULT_S = 60
_MOST_OF_STOCK = 1 / 3
_MOST_BYTES_OF_STOCK = 1.15
_SIDES = ("stock", "ours")
# Of one run: the timings of the answer in ms, bytes of its picture, its pixels, its text chunks.
_Run = dict[str, Any]


def measure() -> Result:
    with contextlib.ExitStack() as stack:
        workers = {side: _start(side, stack) for side in _SIDES}
        for worker, _ in workers.values():
            worker.wait_for_log("comfyui ready")
        runs: dict[str, list[_Run]] = {side: [] for side in _SIDES}
        for number in range(-_WARM_UPS, _RUNS):
            photo = _photo(number)
            # The one that comes first finds the other's data in the processor's cache.
            for side in _SIDES if number % 2 else reversed(_SIDES):
                run = _edit(workers[side][1], photo)
                if number >= 0:
                    runs[side].append(run)
    return _result(runs)


def _start(side: str, stack: contextlib.ExitStack) -> tuple[WorkerProcess, RunPodApi]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
    api = stack.enter_context(RunPodApi())
    env = api.env() | {"COMFY_STOCK": str(side == "stock")}
    return stack.enter_context(WorkerProcess(folder, env)), api


def _photo(number: int) -> str:
    """Base64 of a JPEG: the portrait's detail, without enlarging it, shifted by `number`."""
    with Image.open(PORTRAIT) as portrait:
        tile = portrait.convert("RGB")
    width, height = tile.size
    photo = Image.new("RGB", (2 * width, 2 * height))
    for x, y in itertools.product((0, 1), repeat=2):
        part = ImageOps.mirror(tile) if x else tile
        photo.paste(ImageOps.flip(part) if y else part, (x * width, y * height))
    buffer = io.BytesIO()
    ImageChops.offset(photo, 7 * number, 11 * number).save(buffer, "JPEG", quality=95)
    return base64.b64encode(buffer.getvalue()).decode()


def _edit(api: RunPodApi, photo: str) -> _Run:
    images = [{"name": "photo.png", "image": photo}]
    job_id = api.submit({"workflow": invert_workflow(), "images": images})
    output = api.result(job_id, _RESULT_S)["output"]
    data = base64.b64decode(output["image_base64"])
    with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
        pixels = picture.tobytes()
    return {**output["timings"], "bytes": len(data), "pixels": pixels}


def _result(runs: dict[str, list[_Run]]) -> Result:
    def median(side: str, key: str) -> float:
        return float(statistics.median(run[key] for run in runs[side]))

    stock, ours = median("stock", "execute"), median("ours", "execute")
    size = median("ours", "bytes") / median("stock", "bytes")
    pairs = list(zip(runs["stock"], runs["ours"], strict=True))
    unlike = sum(one["pixels"] != other["pixels"] for one, other in pairs)
    figures = [
        Figure("on the executing thread, as upstream has it", stock, "ms"),
        Figure("on the executing thread, with our nodes", ours, "ms"),
        Figure(
            "ours of upstream's", ours / stock, "", f"<= {_MOST_OF_STOCK:.3f}",
            ours / stock <= _MOST_OF_STOCK,
        ),
        Figure(
            "size of the PNG, of upstream's", size, "", f"<= {_MOST_BYTES_OF_STOCK}",
            size <= _MOST_BYTES_OF_STOCK,
        ),
        Figure("pictures with other pixels than upstream's", unlike, "", "<= 0", unlike == 0),
    ]  # fmt: skip
    for key, what in _BESIDE.items():
        for side in _SIDES:
            figures.append(Figure(f"{what}: {side}", median(side, key), "ms"))
    detail = {
        side: [{key: value for key, value in run.items() if key != "pixels"} for run in runs[side]]
        for side in _SIDES
    }
    return Result(figures, detail, lambda axes: _draw(axes, runs))


_BESIDE = {
    "check": "worker, checks the job and decodes the photo",
    "inputs": "worker, writes the photo",
    "collect": "worker, reads the picture and compresses it",
    "total": "the whole job",
}


def _draw(axes: Axes, runs: dict[str, list[_Run]]) -> None:
    for side in _SIDES:
        axes.plot([run["execute"] for run in runs[side]], ".-", label=side)
    axes.set_xlabel("run")
    axes.set_ylabel("ms on the executing thread")
    axes.set_ylim(bottom=0)
    axes.legend()
