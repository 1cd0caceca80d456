"""From the start of ComfyUI to its first picture when the weights are not in the page cache.

One stand-in file of 3 GB, written for this and dropped from the page cache before each run; a node
loads it as ComfyUI's loaders do. Everything else is warm. Only ComfyUI and the reading ahead run,
not the SDK. The disk's own limit is a plain read of the same file, cold, with nothing beside it.
"""

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from benchmarks.report import Figure, Result
from handler.comfy import ComfyPaths, comfy_argv
from handler.comfy_api import ComfyClient
from handler.machine import AheadFile, reading_ahead
from handler.settings import PROJECT_DIR, child_environment
from tests.integration.worker_process import free_port

_FILE_BYTES = 3 << 30
_TENSOR_BYTES = 64 << 20
_PIECE_BYTES = 8 << 20
_BOUND = 1.25
_RUNS = 3


def measure() -> Result:
    (PROJECT_DIR / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PROJECT_DIR / "build") as folder:
        weights = _write(Path(folder) / "weights.safetensors")
        runs = [_run_all(weights) for _ in range(_RUNS)]
    seconds = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    disk_s, warm_s, _, ahead_s = seconds.values()
    # Neither the disk nor ComfyUI itself can be outrun.
    ratio = ahead_s / max(disk_s, warm_s)
    figures = [Figure(name, value, "s") for name, value in seconds.items()]
    figures.append(Figure("the disk alone", _FILE_BYTES / disk_s / 1e9, "GB/s"))
    figures.append(
        Figure("read ahead / the slower of disk and warm", ratio, "", f"<= {_BOUND}",
               ratio <= _BOUND)
    )  # fmt: skip

    def draw(axes: Axes) -> None:
        axes.barh(list(seconds), list(seconds.values()))
        axes.set_xlabel("seconds")

    return Result(figures, {"runs": runs}, draw)


def _run_all(weights: Path) -> dict[str, float]:
    return {
        "the disk alone: the file read once, cold": _read_cold(weights),
        "first picture, page cache warm": _first_picture(weights, is_cold=False, ahead=False),
        "first picture, cold": _first_picture(weights, is_cold=True, ahead=False),
        "first picture, cold, read ahead": _first_picture(weights, is_cold=True, ahead=True),
    }


def _write(path: Path) -> Path:
    """A safetensors file of bytes."""
    header, end = {}, 0
    for number in range(_FILE_BYTES // _TENSOR_BYTES):
        begin, end = end, end + _TENSOR_BYTES
        header[f"weight.{number}"] = {
            "dtype": "U8", "shape": [_TENSOR_BYTES], "data_offsets": [begin, end],
        }  # fmt: skip
    text = json.dumps(header).encode()
    block = os.urandom(_TENSOR_BYTES)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _ in header:
            file.write(block)
        os.fsync(file.fileno())
    return path


def _drop(path: Path) -> None:
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read_cold(path: Path) -> float:
    _drop(path)
    buffer = bytearray(_PIECE_BYTES)
    started = time.monotonic()
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.monotonic() - started


def _first_picture(weights: Path, *, is_cold: bool, ahead: bool) -> float:
    if is_cold:
        _drop(weights)
    with tempfile.TemporaryDirectory() as folder:
        paths = ComfyPaths.under(Path(folder))
        for path in paths.folders:
            path.mkdir()
        nodes = PROJECT_DIR / "benchmarks" / "nodes"
        paths.model_paths.write_text(json.dumps({"benchmarks": {"custom_nodes": str(nodes)}}))
        port = free_port()
        started = time.monotonic()
        with _comfy(port, paths), reading_ahead([AheadFile(weights, 1)] if ahead else []):
            asyncio.run(_run(port, str(weights)))
            return time.monotonic() - started


@contextlib.contextmanager
def _comfy(port: int, paths: ComfyPaths) -> Iterator[None]:
    comfy = PROJECT_DIR / "comfy"
    argv = comfy_argv(
        comfy / ".venv" / "bin" / "python", comfy / "ComfyUI", port, paths,
        cpu=True, extra=[], bootstrap=comfy / "bootstrap.py",
    )  # fmt: skip
    with subprocess.Popen(
        argv, env=child_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        try:
            yield
        finally:
            child.kill()


async def _run(port: int, path: str) -> None:
    prompt: dict[str, Any] = {
        "1": {"class_type": "LoadWeights", "inputs": {"path": path}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}},
    }
    async with asyncio.timeout(120), ComfyClient(port) as comfy:
        while not await comfy.is_answering():
            await asyncio.sleep(0.02)
        await comfy.queue_prompt(prompt, "first")
        while not (entry := await comfy.history("first")):
            await asyncio.sleep(0.02)
    if entry["status"]["status_str"] != "success":
        raise RuntimeError(f"no picture: {entry['status']}")
