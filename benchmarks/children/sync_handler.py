"""A plain handler as the SDK's documentation shows it: one synchronous function, one job at a time,
beside a stock ComfyUI on COMFY_PORT. It takes the same jobs as the worker and does the least that
answers them; the times of its prompts' execution are in its answers."""

import base64
import json
import os
import time
import urllib.request
import uuid
from typing import Any

import runpod

BASE = f"http://127.0.0.1:{os.environ['COMFY_PORT']}"
POLL_S = 0.05


def request(path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
    asked = urllib.request.Request(BASE + path, body, {"Content-Type": kind})
    with urllib.request.urlopen(asked) as response:
        data: bytes = response.read()
        return data


def upload(name: str, data: bytes) -> None:
    edge = uuid.uuid4().hex
    head = f'--{edge}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
    field = f'--{edge}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n'
    body = field.encode() + head.encode() + data + f"\r\n--{edge}--\r\n".encode()
    request("/upload/image", body, f"multipart/form-data; boundary={edge}")


def handler(job: dict[str, Any]) -> dict[str, Any]:
    """Upload, queue, wait, fetch the first picture."""
    for image in job["input"]["images"]:
        upload(image["name"], base64.b64decode(image["image"]))
    queued = request("/prompt", json.dumps({"prompt": job["input"]["workflow"]}).encode())
    prompt_id = json.loads(queued)["prompt_id"]
    while not (entry := json.loads(request(f"/history/{prompt_id}")).get(prompt_id)):
        time.sleep(POLL_S)
    messages = dict(entry["status"]["messages"])
    [file] = [file for output in entry["outputs"].values() for file in output["images"]]
    picture = request(f"/view?filename={file['filename']}&subfolder=&type=output")
    return {
        "image_base64": base64.b64encode(picture).decode(),
        "execution": [messages[name]["timestamp"] / 1000
                      for name in ("execution_start", "execution_success")],
    }  # fmt: skip


runpod.serverless.start({"handler": handler})
