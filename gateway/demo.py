"""Stands in for a worker where there is none (`GATEWAY_ROUTE=demo`): each job passes through every
phase in two seconds and comes back with a change that nobody takes for the model's."""

import base64
import io
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageOps

from gateway.clock import Clock
from gateway.edit.worker_input import worker_job
from gateway.job import Job
from gateway.objects import ObjectStore
from gateway.own import Arrived, OwnGpus
from gateway.steps.finish import Finisher

NAME = "demo"
# Seconds after the job was taken, and what is told then.
_PHASES = (
    (0.0, "fetch", 3), (0.3, "inputs", 6), (0.5, "execute", 20), (0.9, "execute", 45),
    (1.3, "execute", 75), (1.7, "deliver", 99),
)  # fmt: skip
_WORK_S = 2.0
_DARK, _LIGHT = "#1c2a78", "#ffe4c9"


@dataclass
class _InHand:
    job: Job
    since: float
    left: list[tuple[float, str, int]] = field(default_factory=lambda: [*_PHASES])


class DemoWorker:
    """Asks and answers as a worker does, but without the network in between."""

    def __init__(
        self, own: OwnGpus, objects: ObjectStore, finisher: Finisher, clock: Clock
    ) -> None:
        self._own, self._objects, self._finisher, self._clock = own, objects, finisher, clock
        self._in_hand: _InHand | None = None

    def step(self) -> int:
        """One look at the job in hand, or for one; how many jobs were moved."""
        self._own.seen(NAME)
        stopped = self._own.stops(NAME)
        if self._in_hand is None:
            jobs = self._own.take(NAME, 1)
            if not jobs:
                return 0
            self._in_hand = _InHand(jobs[0], self._clock.monotonic())
        if self._in_hand.job.id in stopped:
            self._in_hand = None
            return 1
        return self._go_on(self._in_hand)

    def _go_on(self, work: _InHand) -> int:
        passed = self._clock.monotonic() - work.since
        due = [phase for phase in work.left if phase[0] <= passed]
        if due:
            work.left = work.left[len(due) :]
            output = {"phase": due[-1][1], "percent": due[-1][2]}
            self._post(work.job, {"status": "IN_PROGRESS", "output": output})
        if passed < _WORK_S:
            return len(due)
        self._in_hand = None
        arrived = self._post(work.job, self._answer(work.job))
        if arrived is not None:
            self._finisher.finish(arrived.job, arrived.answer)
        return 1

    def _answer(self, job: Job) -> dict[str, Any]:
        asked = json.loads(b"".join(worker_job(job, self._objects, delivery="base64")))["input"]
        if not asked.get("images") or not asked.get("prompt"):
            message = "the demo edits a picture by a prompt, and runs no workflow"
            output = {"ok": False, "code": "invalid_input", "message": message, "retryable": False}
            return {"output": output, "error": f"invalid_input: {message}"}
        picture = _edited(
            _opened(asked["images"][0]["image"]), asked.get("mask"), asked.get("ratio")
        )
        file = io.BytesIO()
        picture.save(file, "PNG")
        data = base64.b64encode(file.getvalue()).decode()
        entry = {
            "filename": "demo.png", "type": "base64", "data": data, "node_id": "0",
            "width": picture.width, "height": picture.height, "bytes": file.tell(),
            "content_type": "image/png",
        }  # fmt: skip
        timings = {"total": round(_WORK_S * 1000)}
        output = {"ok": True, "images": [entry], "image_base64": data, "timings": timings}
        return {"output": {**output, "seed": asked.get("seed")}}

    def _post(self, job: Job, answer: dict[str, Any]) -> Arrived | None:
        with tempfile.NamedTemporaryFile(dir=self._objects.temp_dir, delete=False) as file:
            file.write(json.dumps(answer).encode())
        path = Path(file.name)
        try:
            return self._own.done(NAME, job.id, path)
        finally:
            path.unlink(missing_ok=True)


def _opened(text: str) -> Image.Image:
    data = base64.b64decode(text.rpartition(",")[2])
    return Image.open(io.BytesIO(data)).convert("RGB")


def _edited(photo: Image.Image, mask: str | None, ratio: str | None) -> Image.Image:
    """Two colours and the word DEMO all over, where the mask is white if there is one."""
    if ratio and not mask:
        width, height = map(int, ratio.split(":"))
        side = min(photo.width / width, photo.height / height)
        photo = ImageOps.fit(photo, (max(1, round(side * width)), max(1, round(side * height))))
    drawn = ImageOps.colorize(ImageOps.grayscale(photo), _DARK, _LIGHT)
    pen = ImageDraw.Draw(drawn)
    size = max(12, min(photo.size) // 12)
    for row, y in enumerate(range(0, photo.height, size * 3)):
        for x in range(-size * 3 * (row % 2), photo.width, size * 6):
            pen.text((x, y), "DEMO", fill=_LIGHT, font_size=size)
    if mask is None:
        return drawn
    return Image.composite(drawn, photo, _opened(mask).convert("L").resize(photo.size))
