"""What jobs at the stand-in for RunPod's cloud do: a picture that the input decides, or whatever a
real worker makes of them."""

import base64
import hashlib
import io
import json
import urllib.request
import uuid
from typing import Any

from PIL import Image, ImageOps

from tests.fakes.runpod_api import RunPodApi

Result = dict[str, Any]
"""What a worker posts: `{"output": ...}`, or `{"error": text}` with or without `output`."""


def paint(job: dict[str, Any]) -> Result:
    """The worker's answer with a picture that the input alone decides: its first picture with
    inverted colours, where it has a mask only inside of it; without a picture a plain square."""
    asked = job["input"]
    entries = asked.get("images") or []
    if entries:
        picture = ImageOps.invert(original := _open(entries[0]["image"]))
        if asked.get("mask"):
            mask = _open(asked["mask"]).convert("L").resize(original.size).point(_is_white)
            picture = Image.composite(picture, original, mask)
    else:
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).digest()
        picture = Image.new("RGB", (64, 48), (digest[0], digest[1], digest[2]))
    return {"output": worker_output(picture, str(asked.get("request_id") or job["id"]))}


def worker_output(picture: Image.Image, request_id: str, seed: int = 7) -> dict[str, Any]:
    """In the form of our worker's answer."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    entry = {
        "filename": "result_00001_.png",
        "type": "base64",
        "data": data,
        "node_id": "9",
        "width": picture.width,
        "height": picture.height,
        "bytes": len(buffer.getvalue()),
        "sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "content_type": "image/png",
    }
    return {
        "ok": True,
        "request_id": request_id,
        "prompt_id": str(uuid.uuid5(uuid.NAMESPACE_OID, request_id)),
        "images": [entry],
        "image_base64": data,
        "seed": seed,
        "timings": {"execute": 1},
    }


class OnWorker:
    """Has jobs run by the real workers that take them from `api`."""

    def __init__(self, api: RunPodApi, timeout_s: float = 300.0) -> None:
        self._api, self._timeout_s = api, timeout_s
        self._runs: dict[str, str] = {}

    def execute(self, job: dict[str, Any]) -> Result:
        # RunPod runs a job again under its id; the workers' side here takes each id once.
        run = self._runs[job["id"]] = f"{job['id']}.{uuid.uuid4().hex[:4]}"
        self._api.submit(job["input"], run)
        return self._api.result(run, self._timeout_s)

    def stop(self, job_id: str) -> None:
        if job_id in self._runs:
            self._api.cancel(self._runs[job_id])


def _is_white(value: int) -> int:
    return 255 if value >= 128 else 0


def _open(text: str) -> Image.Image:
    """Of base64, a data URI or an address on loopback."""
    if text.startswith("http://127.0.0.1"):
        with urllib.request.urlopen(text, timeout=10) as answer:
            data = answer.read()
    else:
        data = base64.b64decode(text.rpartition(",")[2])
    return Image.open(io.BytesIO(data)).convert("RGB")
