"""Ways to one edit, on the scale models (no GPU): the official template as exported, the same
pruned, prompt mode, and of a photo of 12 megapixels a masked twentieth, alone and with all of the
photo.

What counts is the processor time of ComfyUI, on which other programs of a machine weigh little. The
scale models' parts are not in the proportions of the real ones: how much is saved of a real edit
only a GPU can tell. That no pixel is lost, this tells.
"""

import base64
import io
import statistics
import tempfile
from pathlib import Path
from typing import Any

import psutil
from matplotlib.axes import Axes
from PIL import Image

from benchmarks.report import Figure, Result
from handler.pictures import Photo, changed_outside, cut, read_mask, read_photo
from handler.workflow import piece_size
from tests.fakes.runpod_api import RunPodApi
from tests.integration.worker_process import EXAMPLE, PORTRAIT, WorkerProcess

_RESULT_S = 600.0
_RUNS = 1
# Of cameras' commonest ratio, and of phones'.
_CAMERA, _PHONE = (1536, 1024), (4000, 3000)
_MASKED_SHARE = 0.05
_PHOTO_NAME = EXAMPLE["78"]["inputs"]["image"]
_EXPORTED, _PRUNED, _PROMPT = "template as exported", "template, pruned", "prompt mode"
_WHOLE, _CROP = "12 MP, masked, whole photo", "12 MP, masked, crop"


def measure() -> Result:
    seconds: dict[str, list[float]] = {}
    differing = outside = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        RunPodApi() as api,
        # The answer holds a PNG of 12 megapixels twice.
        WorkerProcess(Path(folder), api.env() | {"WORKER_RUN_LIMIT_BYTES": "200000000"}) as worker,
    ):
        worker.wait_for_log("comfyui ready")
        # Loads the weights.
        _edit(api, _jobs()[_PROMPT], _photo(_CAMERA, 99))
        for run in range(_RUNS):
            for number, (name, job) in enumerate(_jobs().items()):
                # No two jobs share a picture, or ComfyUI would have it encoded already.
                photo = _photo(_PHONE if "mask" in job else _CAMERA, 10 * run + number)
                before = _cpu_s(worker)
                output = _edit(api, job, photo)
                seconds.setdefault(name, []).append(_cpu_s(worker) - before)
                if "mask" in job:
                    outside += _changed_outside(photo, output)
                if name == _EXPORTED:
                    again = _edit(api, _jobs()[_PRUNED], photo)
                    differing += _differing(output, again)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    figures = [Figure(f"{name}: processor time", value, "s") for name, value in medians.items()]
    saved = medians[_PRUNED] / medians[_EXPORTED]
    figures += [
        Figure("pruned template, to the exported one", saved, "", "<= 0.85", saved <= 0.85),
        Figure("pixels that differ of the two", differing, "", "0", differing == 0),
        Figure("pixels changed outside the masks", outside, "", "0", outside == 0),
        *_detail(),
    ]
    return Result(figures, {"seconds": seconds}, lambda axes: _draw(axes, medians))


def _cpu_s(worker: WorkerProcess) -> float:
    """Of the worker's children so far: ComfyUI, and a heartbeat that takes next to nothing."""
    children = psutil.Process(worker.child.pid).children(recursive=True)
    return float(sum(sum(child.cpu_times()[:2]) for child in children))


def _jobs() -> dict[str, dict[str, Any]]:
    words = {"prompt": "make it a drawing", "seed": 7}
    masked = {**words, "mask": _encoded(_mask(), "PNG")}
    return {
        _EXPORTED: {"workflow": EXAMPLE, "prune": False},
        _PRUNED: {"workflow": EXAMPLE},
        _PROMPT: words,
        _WHOLE: {**masked, "fit": "whole"},
        _CROP: masked,
    }


def _edit(api: RunPodApi, job: dict[str, Any], photo: str) -> dict[str, Any]:
    images = [{"name": _PHOTO_NAME, "image": photo}]
    output = api.result(api.submit({**job, "images": images}), _RESULT_S)["output"]
    if not output["ok"]:
        raise RuntimeError(f"{output['code']}: {output['message']}")
    return dict(output)


def _photo(size: tuple[int, int], number: int) -> str:
    with Image.open(PORTRAIT) as picture:
        photo = picture.convert("RGB").resize(size)
    photo.paste((number * 2, 255 - number * 2, 128), (0, 0, 64, 64))
    return _encoded(photo, "JPEG")


def _mask() -> Image.Image:
    width, height = _PHONE
    side = round((width * height * _MASKED_SHARE) ** 0.5)
    mask = Image.new("L", _PHONE)
    mask.paste(255, (width // 3, height // 3, width // 3 + side, height // 3 + side))
    return mask


def _encoded(picture: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=90)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _result(output: dict[str, Any]) -> Photo:
    return read_photo(base64.b64decode(output["image_base64"]))


def _differing(one: dict[str, Any], other: dict[str, Any]) -> int:
    return int((_result(one).pixels != _result(other).pixels).any(axis=2).sum())


def _changed_outside(photo: str, output: dict[str, Any]) -> int:
    source = read_photo(base64.b64decode(photo))
    mask = read_mask(base64.b64decode(_encoded(_mask(), "PNG")), source.size)
    return changed_outside(source, _result(output), mask)


def _detail() -> list[Figure]:
    """Sampled pixels, along a side, for each of the photo's: below 1 the patch is enlarged."""
    photo = read_photo(base64.b64decode(_photo(_PHONE, 0)))
    mask = read_mask(base64.b64decode(_encoded(_mask(), "PNG")), photo.size)
    figures = []
    for name, whole in ((_WHOLE, True), (_CROP, False)):
        width, height = cut(photo, mask, whole=whole).box.size
        share = piece_size(width, height)[0] / width
        figures.append(Figure(f"{name}: sampled pixels per pixel of the photo", share, ""))
    return figures


def _draw(axes: Axes, medians: dict[str, float]) -> None:
    axes.barh(list(medians), list(medians.values()))
    axes.invert_yaxis()
    axes.set_xlabel("seconds of processor time (scale models)")
