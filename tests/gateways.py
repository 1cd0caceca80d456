"""A gateway inside the test's process, what callers send it, and a worker as a test plays it."""

import base64
import functools
import io
import json
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from PIL import Image

from gateway.app import make_app, open_parts
from gateway.clock import Clock, SystemClock
from gateway.settings import Settings
from gateway.store.database import Database
from gateway.store.migrate import migrate

WORKER_KEY = "worker-key-of-tests"
HOST = "http://127.0.0.1:8787"


def picture(
    kind: str = "PNG", size: tuple[int, int] = (64, 48), seed: int = 1, **how: Any
) -> bytes:
    buffer = io.BytesIO()
    data = random.Random(seed).randbytes(size[0] * size[1] * 3)
    Image.frombytes("RGB", size, data).save(buffer, kind, **how)
    return buffer.getvalue()


def as_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def edit(**more: Any) -> dict[str, Any]:
    """The body of a create that is in order."""
    return {"prompt": "make it night", "images": [{"image": as_text(picture())}], **more}


def success(data: bytes, **more: Any) -> dict[str, Any]:
    """What the real worker posts of a job that ended well."""
    with Image.open(io.BytesIO(data)) as opened:
        width, height = opened.size
    entry = {
        "filename": "edit_00001_.png", "type": "base64", "data": as_text(data), "node_id": "9",
        "width": width, "height": height, "bytes": len(data), "content_type": "image/png",
    }  # fmt: skip
    output = {"ok": True, "images": [entry], "image_base64": entry["data"], "timings": {"total": 9}}
    return {"output": {**output, **more}}


def failure(code: str, retryable: bool) -> dict[str, Any]:
    """As above, of one that failed."""
    output = {"ok": False, "code": code, "message": "so it is", "retryable": retryable}
    return {"output": output, "error": f"{code}: so it is"}


@functools.cache
def _migrated() -> bytes:
    """A SQLite file with this version's schema; migrating takes longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/template.sqlite")
        migrate(database)
        database.close()
        return (Path(folder) / "template.sqlite").read_bytes()


@dataclass
class TestGateway:
    """`client` calls as a caller; the methods are a worker's calls."""

    __test__ = False

    client: TestClient
    context: Any

    def create(self, key: str | None = None, **more: Any) -> str:
        answer = self.client.post("/api/queue/create", json=edit(**more), headers=auth(key))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["job_id"])

    def status(self, job_id: str, key: str | None = None) -> dict[str, Any]:
        answer = self.client.get(f"/api/queue/status/{job_id}", headers=auth(key))
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def take(self, worker: str = "gpu-1", batch: int = 1) -> list[dict[str, Any]]:
        route = f"job-take-batch/{worker}" if batch > 1 else f"job-take/{worker}"
        query = {"gpu": "x", "job_in_progress": "0"} | ({"batch_size": batch} if batch > 1 else {})
        answer = self.client.get(f"/v2/own/{route}", params=query, headers=worker_auth())
        if answer.status_code == 204:
            return []
        assert answer.status_code == 200, answer.text
        found = answer.json()
        return found if batch > 1 else [found]

    def done(self, job_id: str, body: Any, worker: str = "gpu-1") -> int:
        answer = self.client.post(
            f"/v2/own/job-done/{worker}/{job_id}?gpu=x&isStream=false",
            content=body if isinstance(body, bytes) else json.dumps(body),
            headers=worker_auth() | {"Content-Type": "application/x-www-form-urlencoded"},
        )
        return answer.status_code

    def ping(self, *job_ids: str, worker: str = "gpu-1") -> None:
        query = {"job_id": ",".join(job_ids), "runpod_version": "1.12.0"}
        answer = self.client.get(f"/v2/own/ping/{worker}", params=query, headers=worker_auth())
        assert answer.status_code == 200

    def stops(self, worker: str = "gpu-1") -> list[str]:
        return list(self.context.own.stops(worker))

    def ended(self, job_id: str, key: str | None = None) -> dict[str, Any]:
        """The status once the job has ended, by the stream of events."""
        with self.client.stream("GET", f"/api/queue/events/{job_id}", headers=auth(key)) as answer:
            lines = [line for line in answer.iter_lines() if line.startswith("data:")]
        return dict(json.loads(lines[-1].removeprefix("data:")))

    def events(self, job_id: str, last: str | None = None) -> list[tuple[int, dict[str, Any]]]:
        headers = {"Last-Event-ID": last} if last else {}
        with self.client.stream("GET", f"/api/queue/events/{job_id}", headers=headers) as answer:
            text = "".join(answer.iter_text())
        found = []
        for block in text.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
            if "data" in fields:
                status = json.loads(fields["data"])
                assert status.pop("request_id")
                found.append((int(fields["id"]), status))
        return found


def auth(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def worker_auth() -> dict[str, str]:
    return {"Authorization": WORKER_KEY}


@contextmanager
def running_gateway(
    folder: Path, clock: Clock | None = None, **settings: Any
) -> Iterator[TestGateway]:
    """On a database of its own in `folder`."""
    given = {"gateway_data_dir": folder, "gateway_worker_key": WORKER_KEY, **settings}
    given.setdefault("gateway_rate_limit", "100000/minute")
    found = Settings(**given)
    if found.gateway_database_url is None and not (folder / "gateway.sqlite").exists():
        folder.mkdir(exist_ok=True)
        (folder / "gateway.sqlite").write_bytes(_migrated())
    with open_parts(found, clock or SystemClock()) as parts:
        app = make_app(parts)
        with TestClient(app, base_url=HOST, raise_server_exceptions=False) as client:
            yield TestGateway(client, app.state.context)
