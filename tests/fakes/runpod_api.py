"""A stand-in for the API that a RunPod worker talks to, on loopback.

It answers the requests that the RunPod SDK makes from inside a worker and remembers each of them.
`tests/contract` holds it to the real SDK, so that what passes against it is no guess.
"""

import asyncio
import contextlib
import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from aiohttp import web

Status = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED"]


@dataclass
class Call:
    """One request of a worker; times are monotonic, `status` is None while it is held open."""

    route: str
    at: float
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    size: int
    job_ids: tuple[str, ...] = ()
    answered: float | None = None
    status: int | None = None


@dataclass
class _Job:
    payload: dict[str, Any]
    status: Status = "IN_QUEUE"
    taken: bool = False
    result: dict[str, Any] | None = None


@dataclass(kw_only=True, eq=False)
class RunPodApi:
    """Queue of jobs and record of a worker's requests; every method may be called from any thread.

    `poll_s` bounds how long an empty long-poll is held, `body_limit` is the size in bytes over
    which a result is refused, as over RunPod's payload limit. Both may be set while it runs.
    """

    poll_s: float = 10.0
    body_limit: int | None = None
    ping_interval_ms: int = 1000

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._jobs: dict[str, _Job] = {}
        self._queue: deque[str] = deque()
        self._stops: list[str] = []
        self._calls: list[Call] = []
        self._forced: dict[str, deque[int]] = {}
        self._closing = False
        self._wake = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._port = asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closing = True
            self._notify()
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def env(self) -> dict[str, str]:
        """The variables that make a worker use this server, in the platform's URL shapes."""
        # The SDK appends "&name=value": in a URL without a query that would be part of the path.
        base, query = f"http://127.0.0.1:{self._port}/v2/fake", "?gpu=NVIDIA+RTX+A5000"
        return {
            "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID{query}",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID{query}",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID{query}",
            "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID{query}",
            "RUNPOD_PING_INTERVAL": str(self.ping_interval_ms),
            "RUNPOD_POD_ID": "fakepod",
            "RUNPOD_AI_API_KEY": "fake-key",
        }

    def submit(self, input: Any, job_id: str | None = None, **job_fields: Any) -> str:
        """Queues a job; `job_fields` (webhook, policy, …) go to the worker beside id and input."""
        job_id = job_id or f"{uuid.uuid4()}-u1"
        with self._changed:
            self._jobs[job_id] = _Job({**job_fields, "id": job_id, "input": input})
            self._queue.append(job_id)
            self._notify()
        return job_id

    def cancel(self, job_id: str) -> None:
        """Ends an unfinished job: out of the queue if it waits there, else by the stop channel."""
        with self._changed:
            job = self._jobs[job_id]
            if job.status == "IN_QUEUE":
                self._queue.remove(job_id)
            elif job.status == "IN_PROGRESS":
                self._stops.append(job_id)
            else:
                return
            job.status = "CANCELLED"
            self._notify()

    def fail_next(self, route: str, status: int, times: int = 1) -> None:
        """Answers a route's next requests (job-take, job-done, progress, …), a held one too. With
        the status 0 the connection breaks off instead of an answer."""
        with self._changed:
            self._forced.setdefault(route, deque()).extend([status] * times)
            self._notify()

    def status(self, job_id: str) -> Status:
        """The state that RunPod's /status would show."""
        return self._jobs[job_id].status

    def calls(self, *routes: str) -> list[Call]:
        """The requests of these routes (all if none is named), in order of arrival."""
        with self._changed:
            return [replace(call) for call in self._calls if not routes or call.route in routes]

    @property
    def pings(self) -> list[Call]:
        """Heartbeats, and reports of ill health (`query["status"] == "unhealthy"`)."""
        return self.calls("ping")

    def progress(self, job_id: str) -> list[Any]:
        """The outputs of the job's progress updates, in order of arrival."""
        return [call.body["output"] for call in self.calls("progress") if job_id in call.job_ids]

    def result(self, job_id: str, timeout_s: float = 10.0) -> dict[str, Any]:
        """The accepted body of the job's result."""
        job = self._jobs[job_id]
        self.wait_for(lambda: job.result is not None, f"result of {job_id}", timeout_s)
        return job.result or {}

    def wait_taken(self, job_id: str, timeout_s: float = 10.0) -> None:
        """Returns once a worker was given the job."""
        job = self._jobs[job_id]
        self.wait_for(lambda: job.taken, f"job-take of {job_id}", timeout_s)

    def wait_for(self, condition: Callable[[], object], what: str, timeout_s: float = 10.0) -> None:
        """Waits until `condition`, looked at again after every change here, is true."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(condition()), timeout_s):
                jobs = {job_id: job.status for job_id, job in self._jobs.items()}
                seen = [(c.route, c.job_ids, c.status, str(c.body)[:99]) for c in self._calls[-20:]]
                raise TimeoutError(f"no {what} within {timeout_s} s; jobs {jobs}; requests {seen}")

    def _notify(self) -> None:
        self._changed.notify_all()
        self._loop.call_soon_threadsafe(self._wake_polls)

    def _wake_polls(self) -> None:
        self._wake.set()
        self._wake = asyncio.Event()

    async def _open(self) -> int:
        # How large a result may be is for body_limit to say, not for aiohttp's default.
        app = web.Application(client_max_size=0)
        app.router.add_get("/v2/{endpoint}/{route}/{pod}", self._handle)
        app.router.add_post("/v2/{endpoint}/{route}/{pod}/{job}", self._handle)
        # Without the cancellation a held poll of a dead worker would still swallow a job.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return int(self._runner.addresses[0][1])

    async def _handle(self, request: web.Request) -> web.Response:
        at, raw, where = time.monotonic(), await request.read(), request.match_info
        route, body = where["route"], json.loads(raw or "null")
        if route == "job-done" and body.get("status") == "IN_PROGRESS":
            route = "progress"
        ids = where.get("job") or request.query.get("job_id")
        call = Call(route, at, dict(request.query), dict(request.headers), body, len(raw))
        call.job_ids = tuple(ids.split(",")) if ids else ()
        with self._changed:
            self._calls.append(call)
            self._notify()
        while True:
            wake, left = self._wake, at + self.poll_s - time.monotonic()
            with self._changed:
                answer = self._answer(call)
                if answer or left <= 0 or self._closing:
                    call.status, payload = answer or (204, None)
                    call.answered = time.monotonic()
                    self._notify()
                    if call.status == 0 and request.transport is not None:
                        request.transport.abort()
                    return web.json_response(payload, status=call.status)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), left)

    def _answer(self, call: Call) -> tuple[int, Any] | None:
        if forced := self._forced.get(call.route.removesuffix("-batch")):
            return forced.popleft(), None
        if call.route in ("job-take", "job-take-batch"):
            return self._take(call)
        if call.route in ("job-done", "progress"):
            return self._post(call, self._jobs[call.job_ids[0]])
        if call.route == "job-stop":
            stops, self._stops = self._stops, []
            return (200, {"jobsToStop": stops}) if stops else None
        return 200, {}

    def _take(self, call: Call) -> tuple[int, Any] | None:
        size = min(int(call.query.get("batch_size", "1")), len(self._queue))
        batch = [self._jobs[self._queue.popleft()] for _ in range(size)]
        for job in batch:
            job.status, job.taken = "IN_PROGRESS", True
            call.job_ids += (job.payload["id"],)
        payloads = [job.payload for job in batch]
        return (200, payloads if call.route == "job-take-batch" else payloads[0]) if batch else None

    def _post(self, call: Call, job: _Job) -> tuple[int, Any]:
        refused = self.body_limit is not None and call.size > self.body_limit
        if job.status != "CANCELLED":
            # A late update brings a finished job back (runpod-python#250); a refused result, and
            # an error that is no string, show as completed without output (#309, #299).
            failed = isinstance(call.body.get("error"), str) and not refused
            final: Status = "FAILED" if failed else "COMPLETED"
            job.status = "IN_PROGRESS" if call.route == "progress" else final
        if call.route == "job-done" and not refused:
            job.result = call.body
        return (400, None) if refused else (200, {})
