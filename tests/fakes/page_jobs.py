"""Jobs that go as a test says: what happens to one is in `page_events.json`, whose keys are held to
the real gateway's by tests/browser/test_gateway.py."""

import io
import itertools
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

Json = dict[str, Any]
RECORDED: dict[str, list[Json]] = json.loads(
    (Path(__file__).parent / "page_events.json").read_text()
)
FINAL = frozenset({"succeeded", "failed", "cancelled"})


@dataclass
class Job:
    """A job, its status as the gateway tells it, and how often it was to be cancelled."""

    job_id: str
    body: Json
    status: Json
    cancels: int = 0


class PlayedJobs:
    """Every method may be called from any thread."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.results: dict[str, bytes] = {}
        self.requests: list[str] = []
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._clock = itertools.count(1_764_000_000_000)

    @property
    def newest(self) -> Job:
        return list(self.jobs.values())[-1]

    def play(self, name: str, job: Job | None = None) -> None:
        """What was recorded under this name happens to the job, the newest by default."""
        for event in RECORDED[name]:
            self.tell(event, job)

    def tell(self, changes: Json, job: Job | None = None) -> None:
        with self._changed:
            job = job or self.newest
            if job.status["status"] not in FINAL:
                job.status = {**job.status, **changes, "updated_at": next(self._clock)}
            self._changed.notify_all()

    def succeed(self, picture: bytes, job: Job | None = None) -> None:
        """The job ends with this PNG."""
        job = job or self.newest
        key = f"results/{job.job_id}.png"
        self.results[key] = picture
        with Image.open(io.BytesIO(picture)) as image:
            width, height = image.size
        url = f"/api/result/{key}"
        changes = {
            "result_key": key, "result_url": url, "imageUrl": url, "width": width,
            "height": height, "pixels_changed_outside": 0 if "mask" in job.body else None,
            "seed": job.body.get("seed", 4711),
        }  # fmt: skip
        self.tell({**RECORDED["succeeded"][0], **changes}, job)

    def wait_for(self, condition: Callable[[], Any], what: str, seconds: float = 30) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, seconds), what

    def of_request(self, body: Json) -> tuple[Job, bool]:
        """The job of this request, and whether it was there already."""
        with self._changed:
            for job in self.jobs.values():
                if job.body["request_id"] == body["request_id"]:
                    return job, True
            job_id = f"job{next(self._numbers)}"
            known = {key: body.get(key) for key in ("prompt", "ratio", "seed")}
            at = next(self._clock)
            status = {**RECORDED["created"][0], **known, "job_id": job_id, "updated_at": at}
            self.jobs[job_id] = Job(job_id, body, status)
            self._changed.notify_all()
            return self.jobs[job_id], False

    def ask_to_cancel(self, job: Job) -> None:
        with self._changed:
            job.cancels += 1
            self._changed.notify_all()

    def note(self, request: str) -> None:
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
