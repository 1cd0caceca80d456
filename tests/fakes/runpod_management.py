"""A stand-in for RunPod's management API v2: endpoints, workers, registries and catalogue.

Its rules and its answers are those of RunPod's OpenAPI of 2026-08: unknown fields are 422, fields
that exclude each other 400, `env` is replaced whole, `gpu.pools` alone clears the exclusions.
"""

import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

KEY = "rpa_MANAGES"
RESTRICTED_KEY = "rpa_ONLY_RUNS"

CARDS: list[dict[str, Any]] = [
    {"id": "NVIDIA GeForce RTX 4090", "pool": "ADA_24", "memory": 24, "price": {"serverless": 1.1}},
    {"id": "NVIDIA A40", "pool": "AMPERE_48", "memory": 48, "price": {"serverless": 1.22}},
    {"id": "NVIDIA L40S", "pool": "ADA_48_PRO", "memory": 48, "price": {"serverless": 1.9}},
    {"id": "NVIDIA L40", "pool": "ADA_48_PRO", "memory": 48, "price": {"serverless": 1.9}},
    {"id": "NVIDIA H100", "pool": "ADA_80_PRO", "memory": 80, "price": {"serverless": 4.18}},
    {"id": "NVIDIA B300", "pool": None, "memory": 288, "price": {"secure": 9.0}},
]

_CONTAINER = {"args", "disk", "env", "image", "ports", "registry"}
_ENDPOINT = _CONTAINER | {
    "name", "gpu", "cpu", "scaling", "dataCenterIds", "flashboot", "networkVolumes", "templateId",
    "timeout", "workers",
}  # fmt: skip
_GPU = {"pools", "excludedTypes", "count", "allowedCudaVersions", "minCudaVersion"}

Fault = tuple[int, dict[str, str], str]


class RunPodManagement:
    """`with RunPodManagement() as there`: `there.url` is a RUNPOD_MANAGEMENT_URL.

    `faults` are answers given before anything is done, in order. `lose_answer` does the next
    creation and closes the connection. `drops` are fields that a PATCH seems to take and does not.
    """

    def __init__(self) -> None:
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.stale: dict[str, int] = {}
        self.registries: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str, Any]] = []
        self.faults: deque[Fault] = deque()
        self.lose_answer = False
        self.drops: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v2"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, name: str, **fields: Any) -> str:
        endpoint_id = f"ep{len(self.endpoints) + 1:03}"
        gpu = {"excludedTypes": [], "count": 1, "allowedCudaVersions": [], "minCudaVersion": None}
        self.endpoints[endpoint_id] = {
            "id": endpoint_id, "name": name, "type": "QUEUE", "networkVolumes": [], "env": {},
            "dataCenterIds": [], "flashboot": "OFF", "timeout": 300_000, "registry": None,
            "createdAt": "2026-08-20T00:00:00Z", **fields,
            "workers": {"min": 0, "max": 3, "idleTimeout": 10} | fields.get("workers", {}),
            "gpu": gpu | fields.get("gpu", {}),
        }  # fmt: skip
        return endpoint_id

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        parts = path.strip("/").split("/")[1:]
        if parts[:1] != ["serverless"] or len(parts) == 1:
            return self._of_account(method, "/".join(parts), body)
        endpoint = self.endpoints.get(parts[1])
        if endpoint is None:
            return _problem(404, "Not Found", "endpoint not found")
        match (method, *parts[2:]):
            case ("GET",):
                return 200, endpoint
            case ("PATCH",):
                return self._patch(endpoint, body)
            case ("DELETE",):
                del self.endpoints[parts[1]]
                return 204, None
            case ("GET", "workers"):
                return 200, self._workers(parts[1])
        return _problem(405, "Method Not Allowed", f"{method} {path}")

    def _of_account(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        match (method, path):
            case ("GET", "serverless"):
                # What a list tells of each is not promised to be all.
                told = ("id", "name", "type")
                rows = [{key: one[key] for key in told} for one in self.endpoints.values()]
                return 200, {"endpoints": rows}
            case ("POST", "serverless"):
                return self._create(body)
            case ("GET", "catalog/gpus"):
                return 200, {"gpus": [{"availability": "HIGH", **card} for card in CARDS]}
            case ("GET", "registries"):
                return 200, {"registries": self.registries}
            case ("POST", "registries"):
                made = {"id": f"reg{len(self.registries) + 1}", "name": body["name"]}
                self.registries.append(made)
                return 201, made
        return _problem(404, "Not Found", f"{method} {path}")

    def _create(self, body: dict[str, Any]) -> tuple[int, Any]:
        if unknown := body.keys() - _ENDPOINT - {"type"}:
            return _unknown(unknown)
        if missing := {"name", "type", "scaling", "image", "gpu"} - body.keys():
            return _problem(422, "Unprocessable Entity", f"missing {sorted(missing)}")
        if fault := _rules(body, body["scaling"]["type"]):
            return fault
        if body["gpu"].get("minCudaVersion") == "":
            return _problem(422, "Unprocessable Entity", "minCudaVersion: does not match pattern")
        rest = {key: value for key, value in body.items() if key not in ("name", "type")}
        return 201, self.endpoints[self.add(body["name"], **rest)]

    def _patch(self, endpoint: dict[str, Any], body: dict[str, Any]) -> tuple[int, Any]:
        if unknown := body.keys() - _ENDPOINT:
            return _unknown(unknown)
        scaling = body.get("scaling", endpoint.get("scaling", {}))
        if fault := _rules(body, scaling.get("type", "QUEUE_DELAY")):
            return fault
        kept = {key: value for key, value in body.items() if key not in self.drops}
        gpu = _patched_gpu(endpoint["gpu"], kept.pop("gpu", {}))
        if gpu["minCudaVersion"] and gpu["allowedCudaVersions"]:
            return _problem(400, "Bad Request", "a set and a floor exclude each other")
        workers = endpoint["workers"] | kept.pop("workers", {})
        endpoint.update(kept, gpu=gpu, workers=workers)
        if body.keys() & _CONTAINER:
            self.stale[endpoint["id"]] = 2
        return 200, endpoint

    def _workers(self, endpoint_id: str) -> dict[str, Any]:
        stale = self.stale.get(endpoint_id, 0)
        # One is replaced between two looks.
        self.stale[endpoint_id] = max(0, stale - 1)
        workers = [
            {"id": f"w{n}", "status": "RUNNING" if n < stale else "IDLE", "isStale": n < stale}
            for n in range(2)
        ]
        summary = {"running": stale, "idle": 2 - stale, "initializing": 0, "throttled": 0,
                   "unhealthy": 0, "total": 2}  # fmt: skip
        return {"workers": workers, "summary": summary}


def _patched_gpu(gpu: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    cleared = {"excludedTypes": []} if "pools" in patch else {}
    patched = gpu | cleared | patch
    return patched | {"minCudaVersion": patched.get("minCudaVersion") or None}


def _rules(body: dict[str, Any], scaler: str) -> tuple[int, Any] | None:
    gpu = body.get("gpu", {})
    if unknown := gpu.keys() - _GPU:
        return _unknown(unknown)
    if gpu.get("allowedCudaVersions") and gpu.get("minCudaVersion"):
        return _problem(400, "Bad Request", "allowedCudaVersions and minCudaVersion exclude")
    types = {card["id"] for card in CARDS if card["pool"] in gpu.get("pools", [])}
    if wrong := set(gpu.get("excludedTypes", [])) - types:
        return _problem(400, "Bad Request", f"not a GPU type of the pools: {sorted(wrong)}")
    if scaler == "REQUEST_COUNT" and "idleTimeout" in body.get("workers", {}):
        return _problem(400, "Bad Request", "idleTimeout does not apply to requestCount")
    return None


def _unknown(names: set[str]) -> tuple[int, Any]:
    status, problem = _problem(422, "Unprocessable Entity", "the request does not fit its schema")
    problem["errors"] = [f"$: additional properties '{name}' not allowed" for name in sorted(names)]
    return status, problem


def _problem(status: int, title: str, detail: str) -> tuple[int, Any]:
    return status, {"title": title, "status": status, "detail": detail}


def _handler(there: RunPodManagement) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            data = self.rfile.read(int(self.headers.get("content-length") or 0))
            body = json.loads(data) if data else None
            path = urlsplit(self.path).path
            there.requests.append((self.command, path, body))
            if there.faults:
                self.send(*there.faults.popleft())
                return
            key = self.headers.get("authorization", "").removeprefix("Bearer ")
            if refusal := _refusal(key):
                status, answer = refusal
            else:
                status, answer = there.answer(self.command, path, body)
            if there.lose_answer and status == 201:
                there.lose_answer = False
                self.close_connection = True
                return
            kind = "application/json" if status < 400 else "application/problem+json"
            self.send(status, {"Content-Type": kind}, json.dumps(answer) if answer else "")

        do_GET = do_POST = do_PATCH = do_DELETE = do

        def send(self, status: int, headers: dict[str, str], text: str) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(text.encode()))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            return

    return Handler


def _refusal(key: str) -> tuple[int, Any] | None:
    if key == RESTRICTED_KEY:
        return _problem(403, "Forbidden", "insufficient permissions")
    return None if key == KEY else _problem(401, "Unauthorized", f"invalid key {key}")
