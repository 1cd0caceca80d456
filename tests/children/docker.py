"""Stands in for the `docker` command where there is no engine: `run` starts a server that answers
/runsync as the worker in the image would. Its files are in DOCKER_DIR."""

import base64
import io
import json
import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from PIL import Image, ImageEnhance

FOLDER = Path(os.environ["DOCKER_DIR"])
PID = FOLDER / "pid"


def edited(workflow: dict[str, dict[str, dict[str, object]]]) -> str:
    """The example photo, darker by its seed: by what DOCKER_DARKNESS says, so also all black."""
    seed = int(str(workflow["3"]["inputs"]["seed"]))
    darkness = float(os.environ.get("DOCKER_DARKNESS", "0.4")) / (1 + seed % 2)
    with Image.open(os.environ["DOCKER_PHOTO"]) as photo:
        picture = ImageEnhance.Brightness(photo.convert("RGB").resize((1024, 1024)))
    buffer = io.BytesIO()
    picture.enhance(darkness).save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode()


def lined_up(job_input: dict[str, Any]) -> str:
    """Of prompt mode: the photo, darker; as large as it is sampled, or as it is beside its mask."""
    photo = picture_of(job_input["images"][0]["image"]).convert("RGB")
    result = ImageEnhance.Brightness(photo).enhance(0.5)
    if "mask" in job_input:
        result = Image.composite(result, photo, picture_of(job_input["mask"]).convert("L"))
    else:
        result = result.resize((1248, 832))
    buffer = io.BytesIO()
    result.save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode()


def picture_of(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        job_input = job["input"]
        workflow = job_input.get("workflow")
        images = [{"data": edited(workflow) if workflow else lined_up(job_input)}]
        output = {"ok": True, "images": images, "timings": {"execute": 9, "total": 10}}
        body = json.dumps({"id": "test-1", "status": "COMPLETED", "output": output}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def main(command: str, *arguments: str) -> None:
    match command:
        case "run":
            (FOLDER / "run.json").write_text(json.dumps(arguments))
            port = arguments[arguments.index("--rp_api_port") + 1]
            serve = [sys.executable, __file__, "serve", port]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            PID.write_text(str(subprocess.Popen(serve, start_new_session=True, **quiet).pid))
        case "serve":
            HTTPServer(("127.0.0.1", int(arguments[0])), Handler).serve_forever()
        case "inspect":
            print(json.dumps({"Running": True}))
        case "logs":
            flags = {"gpu": "NVIDIA X", "flags": ["--highvram"], "reason": "it fits"}
            print(json.dumps({"event": "memory flags", "level": "info", **flags}))
        case "rm":
            os.kill(int(PID.read_text()), signal.SIGKILL)
            PID.unlink()


main(*sys.argv[1:])
