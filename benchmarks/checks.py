"""What a job costs before the GPU: the check of its picture, the conversion of a graph."""

import asyncio
import base64
import gzip
import io
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from PIL import Image

from benchmarks.report import Figure, Result
from handler.editor import convert_editor_graph
from handler.job import parse_job
from handler.models import read_models_lock
from handler.pictures import ImageLimits, SentImage, decode_base64
from handler.sources import PictureChecker
from handler.workflow import ModelNames

_PROJECT_DIR = Path(__file__).resolve().parent.parent
_GRAPHS = _PROJECT_DIR / "tests" / "data" / "ui_graphs"
_LIMITS = ImageLimits(count=16, data_bytes=20_000_000, pixels=64_000_000)
_RUNS = 40
_CONVERT_MS = 20.0
_CHECK_MS = 15.0


def measure() -> Result:
    """Medians, the check and the bare decoding of the same picture by turns."""
    convert_ms = _convert_ms()
    check_ms, decode_ms = _check_and_decode_ms()
    own_ms = [check - decode for check, decode in zip(check_ms, decode_ms, strict=True)]
    names = ["convert", "check", "decode", "check less decode"]
    lists = [convert_ms, check_ms, decode_ms, own_ms]
    convert, check, decode, own = (statistics.median(times) for times in lists)

    def draw(axes: Axes) -> None:
        axes.boxplot(lists, tick_labels=names, orientation="horizontal")
        axes.set_xlabel("milliseconds")

    return Result(
        [
            Figure("conversion of the largest editor template", convert, "ms",
                   f"< {_CONVERT_MS:g}", convert < _CONVERT_MS),
            Figure("check of a job with a PNG of 1024 x 1024", check, "ms"),
            Figure("Pillow's decoding of that PNG alone", decode, "ms"),
            Figure("the check on top of the decoding", own, "ms",
                   f"< {_CHECK_MS:g}", own < _CHECK_MS),
        ],
        {"milliseconds": dict(zip(names, lists, strict=True))},
        draw,
    )  # fmt: skip


def _convert_ms() -> list[float]:
    templates = [json.loads(path.read_text()) for path in (_GRAPHS / "templates").iterdir()]
    graph = max(templates, key=lambda template: len(json.dumps(template)))
    object_info = json.loads(gzip.decompress((_GRAPHS / "object_info.json.gz").read_bytes()))
    return [_time_ms(lambda: convert_editor_graph(graph, object_info)) for _ in range(_RUNS)]


def _check_and_decode_ms() -> tuple[list[float], list[float]]:
    data = _photo_png()
    job: dict[str, Any] = {
        "id": "x",
        "input": {
            "workflow": json.loads(
                (_PROJECT_DIR / "examples/qwen_image_edit_2509.json").read_text()
            )
        },
    }
    name = job["input"]["workflow"]["78"]["inputs"]["image"]
    job["input"]["images"] = [{"name": name, "image": base64.b64encode(data).decode()}]
    models = ModelNames.of(read_models_lock(_PROJECT_DIR / "models.lock").models)

    async def measure_pairs() -> list[tuple[float, float]]:
        checker = PictureChecker(_LIMITS, {"PATH": os.environ["PATH"]}, 1)
        try:
            await _checked_ms(checker, job, models)
            return [
                (await _checked_ms(checker, job, models), _time_ms(lambda: _decode(data)))
                for _ in range(_RUNS)
            ]
        finally:
            checker.close()

    pairs = asyncio.run(measure_pairs())
    return [check for check, _ in pairs], [decode for _, decode in pairs]


async def _checked_ms(checker: PictureChecker, job: dict[str, Any], models: ModelNames) -> float:
    """As the worker does it: parsed here, the picture decoded in a process of its own."""
    started = time.perf_counter()
    [sent] = (await asyncio.to_thread(parse_job, job, _LIMITS, models)).images
    assert isinstance(sent, SentImage)
    data = await asyncio.to_thread(decode_base64, sent, _LIMITS)
    await checker.check(sent.name, data, sent.where, as_photo=False)
    return (time.perf_counter() - started) * 1000


def _photo_png() -> bytes:
    buffer = io.BytesIO()
    with Image.open(_PROJECT_DIR / "examples" / "portrait.jpg") as photo:
        photo.convert("RGB").resize((1024, 1024)).save(buffer, "PNG")
    return buffer.getvalue()


def _decode(data: bytes) -> None:
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()


def _time_ms(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) * 1000
