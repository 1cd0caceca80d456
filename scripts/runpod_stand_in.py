"""RunPod to one worker in an image, with nothing but Python; tests/fakes has the thorough one."""

import base64
import contextlib
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from image_engines import PROJECT_DIR


def make_job() -> dict[str, Any]:
    examples = PROJECT_DIR / "examples"
    workflow = json.loads((examples / "qwen_image_edit_2509.json").read_text())
    picture = base64.b64encode((examples / "portrait.jpg").read_bytes()).decode()
    name = workflow["78"]["inputs"]["image"]
    job_input = {"workflow": workflow, "images": [{"name": name, "image": picture}]}
    return {"id": "image-test", "input": job_input | {"output": {"delivery": "base64"}}}


class RunPodStandIn:
    """Gives a worker one job and takes its result."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        self.result: dict[str, Any] | None = None
        jobs = [dict(job)]
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if "/job-take" in self.path and jobs:
                    taken = jobs.pop()
                    self._answer(200, [taken] if "/job-take-batch" in self.path else taken)
                elif "/ping" in self.path:
                    self._answer(200, {})
                else:
                    # As RunPod holds its long polls, which a worker told to end must not wait for.
                    stand_in._closing.wait(20)
                    self._answer(204, None)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if body.get("status") != "IN_PROGRESS":
                    stand_in.result = body
                self._answer(200, {})

            def _answer(self, status: int, body: Any) -> None:
                data = b"" if body is None else json.dumps(body).encode()
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    def env(self) -> dict[str, str]:
        base, query = f"http://127.0.0.1:{self._server.server_port}/v2/test", "?gpu=none"
        return {
            "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID{query}",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID{query}",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID{query}",
            "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID{query}",
            "RUNPOD_POD_ID": "test-pod",
            "RUNPOD_AI_API_KEY": "test-key",
        }

    def __enter__(self) -> "RunPodStandIn":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
