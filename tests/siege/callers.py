"""Those who call a gateway under siege: each sends a request until it is answered."""

import base64
import io
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
from PIL import Image, ImageOps

from gateway.job import EDIT, RAW

_PATIENCE_S = 120.0
SIZE = (16, 12)


@dataclass(frozen=True, slots=True)
class Asked:
    """A job that was accepted, and the picture that must come of it."""

    job_id: str
    kind: str
    source: Image.Image
    mask: Image.Image | None = None
    is_cancelled: bool = False


@dataclass
class Callers:
    """`urls` are the gateways'; any of them may be away at any time."""

    urls: list[str]
    seed: int
    hook_url: str
    asked: list[Asked] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _count: int = 0

    def send(self, jobs: int, threads: int = 3) -> None:
        """Returns when so many have been accepted."""
        errors: list[BaseException] = []
        last = self._count + jobs
        callers = [threading.Thread(target=self._send, args=(last, errors)) for _ in range(threads)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        if errors:
            raise errors[0]

    def _send(self, last: int, errors: list[BaseException]) -> None:
        try:
            with httpx.Client(timeout=20, trust_env=False) as http:
                while (number := self._next(last)) is not None:
                    asked = self._create(http, number)
                    with self._lock:
                        self.asked.append(asked)
                    time.sleep(random.uniform(0.1, 0.8))
        except BaseException as exc:
            errors.append(exc)

    def _next(self, last: int) -> int | None:
        with self._lock:
            if self._count >= last:
                return None
            self._count += 1
            return self._count

    def _create(self, http: httpx.Client, number: int) -> Asked:
        draw = random.Random(f"{self.seed} {number}")
        source = Image.new("RGB", SIZE, tuple(draw.choices(range(256), k=3)))
        entry = {"name": f"{number}.png", "image": _base64(source)}
        if draw.random() < 0.2:
            answer = self._call(
                http, draw, "/v2/own/run", {"input": {"images": [entry]}, "webhook": self.hook_url}
            )
            return Asked(answer["id"], RAW, source)
        body: dict[str, Any] = {
            "prompt": f"edit {number}", "images": [entry], "webhook_url": self.hook_url,
        }  # fmt: skip
        mask = None
        if draw.random() < 0.2:
            mask = Image.new("L", SIZE)
            mask.paste(255, (4, 4, 10, 8))
            body["mask"] = _base64(mask)
        body["request_id"] = f"caller-{number}"
        job_id = str(self._call(http, draw, "/api/queue/create", body)["job_id"])
        if draw.random() < 0.2:
            again = self._call(http, draw, "/api/queue/create", body)
            assert (again["job_id"], again["deduplicated"]) == (job_id, True)
        is_cancelled = draw.random() < 0.1
        if is_cancelled:
            time.sleep(draw.uniform(0, 0.5))
            self._call(http, draw, f"/api/queue/cancel/{job_id}", {})
        return Asked(job_id, EDIT, source, mask, is_cancelled)

    def _call(self, http: httpx.Client, draw: random.Random, path: str, body: Any) -> Any:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                answer = http.post(draw.choice(self.urls) + path, json=body)
            except httpx.HTTPError as exc:
                told: Any = repr(exc)
            else:
                if answer.status_code == 200:
                    return answer.json()
                told = answer.text
                assert answer.status_code in (503, 507), told
            assert time.monotonic() < deadline, told
            time.sleep(0.1)


def is_of(asked: Asked, data: bytes) -> bool:
    """Whether this is the picture that `paint` makes of the job's."""
    with Image.open(io.BytesIO(data)) as opened:
        found = opened.convert("RGB")
    wanted = ImageOps.invert(asked.source)
    if asked.mask is not None:
        wanted = Image.composite(wanted, asked.source, asked.mask)
    return found.size == wanted.size and found.tobytes() == wanted.tobytes()


def _base64(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
