"""A stand-in for RunPod's job API for clients, on loopback, with the real one's oddities on demand.

Each oddity is documented by RunPod, seen in its SDKs or told by its users. What a job does is a
function: `paint`, or one that hands it to a real worker (`OnWorker`).
"""

import argparse
import asyncio
import contextlib
import json
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

import aiohttp
from aiohttp import web

from tests.fakes.runpod_oddities import FAULTS, JSON_ERROR, Mischief, Oddity
from tests.fakes.runpod_work import Result, paint

_FORGOTTEN = (404, {"Content-Type": "application/json"}, '{"error": "job not found"}')

_RETRYABLE = ("comfy_exited", "interrupted", "upload_failed")

Answer = tuple[int, dict[str, str], str]


@dataclass
class Request:
    route: str
    at: float
    headers: dict[str, str]
    body: Any
    job_id: str = ""
    fault: str | None = None
    status: int | None = None


@dataclass
class Job:
    id: str
    body: dict[str, Any]
    oddity: Oddity
    at: float
    status: str = "IN_QUEUE"
    started: float = 0.0
    ended: float = 0.0
    shown: dict[str, Any] = field(default_factory=dict)
    backwards_until: float = 0.0
    runs: int = 0

    @property
    def request_id(self) -> str:
        return str(self.body["input"].get("request_id", self.id))

    @property
    def is_final(self) -> bool:
        return self.status in ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")


@dataclass(kw_only=True, eq=False)
class RunPodCloud:
    """Use as `with`. Everything may be set, and every method called, while it runs, from any
    thread. `max_workers` 0 leaves all jobs in the queue, as RunPod does after a quiet week."""

    execute: Callable[[dict[str, Any]], Result] = field(default_factory=lambda: paint)
    stop: Callable[[str], object] = lambda job_id: None
    key: str = "rpa_stand-in-key"
    endpoint_id: str = "standin"
    port: int = 0
    max_workers: int = 3
    retention_s: float = 1800.0
    request_limit: int = 10_000_000
    hook_gap_s: float = 10.0
    slow_s: float = 1.0
    oddity: Oddity = field(default_factory=Oddity)
    mischief: Mischief | None = None

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self.jobs: dict[str, Job] = {}
        self._requests: list[Request] = []
        self._faults: dict[str, deque[str]] = {}
        self._oddities: deque[Oddity] = deque()
        self._running = 0
        self.executions: Counter[str] = Counter()
        self.hooks: list[tuple[str, str, int]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def url(self) -> str:
        """What stands for https://api.runpod.ai/v2."""
        return f"http://127.0.0.1:{self.port}/v2"

    def env(self) -> dict[str, str]:
        """The gateway's settings that lead it here."""
        return {
            "RUNPOD_API_KEY": self.key,
            "RUNPOD_ENDPOINT_ID": self.endpoint_id,
            "RUNPOD_JOBS_URL": self.url,
        }

    def clear(self) -> None:
        """Forgets jobs, requests and all that was ordered; jobs that run go on unseen."""
        with self._changed:
            self.jobs.clear()
            self.executions.clear()
            for record in (self._requests, self._oddities, self.hooks):
                record.clear()
            self._faults.clear()
            self.oddity, self.mischief, self.max_workers = Oddity(), None, 3

    def fail_next(self, route: str, *faults: str) -> None:
        """The route's next requests meet these faults of FAULTS, one each; "" is none."""
        assert not set(faults) - {*FAULTS, ""}
        with self._changed:
            self._faults.setdefault(route, deque()).extend(faults)

    def next_job(self, **oddity: Any) -> None:
        """The next job that is submitted, and no other known oddity, has this."""
        with self._changed:
            self._oddities.append(replace(self.oddity, **oddity))

    def requests(self, *routes: str) -> list[Request]:
        with self._changed:
            return [replace(r) for r in self._requests if not routes or r.route in routes]

    def wait_for(self, condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
        """Until `condition`, looked at again after every change here, is true."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(condition()), timeout_s):
                seen = [(r.route, r.job_id, r.fault, r.status) for r in self._requests[-20:]]
                raise TimeoutError(f"no {what} within {timeout_s} s: {self.jobs}; {seen}")

    def forget(self, job_id: str) -> None:
        """As RunPod does at the end of the retention or the ttl."""
        with self._changed:
            self.jobs.pop(job_id).status = "CANCELLED"

    async def _open(self) -> int:
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/v2/{endpoint}/{route}", self._handle)
        app.router.add_route("*", "/v2/{endpoint}/{route}/{job}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        return int(self._runner.addresses[0][1])

    async def _close(self) -> None:
        await self._runner.cleanup()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    def _start(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw, where = await request.read(), request.match_info
        body = json.loads(raw) if raw else None
        seen = Request(
            where["route"], time.monotonic(), dict(request.headers), body, where.get("job", "")
        )
        with self._changed:
            forced = self._faults.get(seen.route)
            drawn = self.mischief.fault() if self.mischief and not forced else None
            seen.fault = (forced.popleft() if forced else drawn) or None
            self._requests.append(seen)
        if seen.fault == "slow":
            await asyncio.sleep(self.slow_s)
        if seen.fault in (None, "slow", "late", "lost", "garbage"):
            status, headers, text = self._answer(request, seen, len(raw))
        if seen.fault == "late":
            self._notify()
            await asyncio.sleep(self.slow_s)
        elif seen.fault not in (None, "slow"):
            status, headers, text = FAULTS[seen.fault]
        seen.status = status
        self._notify()
        if status == 0 and request.transport is not None:
            request.transport.abort()
        return web.Response(status=status or 200, headers=headers, text=text)

    def _answer(self, request: web.Request, seen: Request, size: int) -> Answer:
        if refusal := self._refusal(request, size):
            return refusal
        job = self._visible(seen.job_id)
        match request.method, seen.route:
            case "POST", "run":
                if not isinstance(seen.body, dict) or not seen.body.get("input"):
                    return 400, {}, "input is required"
                return _json(self._submit(seen))
            case "GET", "status":
                return _json(self._shown(job)) if job else _FORGOTTEN
            case "POST", "cancel":
                return _json(self._cancel(job)) if job else _FORGOTTEN
            case "GET", "health":
                return _json(self._health())
            case _:
                return FAULTS["not_found"]

    def _refusal(self, request: web.Request, size: int) -> Answer | None:
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            return FAULTS["unauthorized"]
        if request.match_info["endpoint"] != self.endpoint_id:
            return FAULTS["not_found"]
        return (400, {}, "request body too large") if size > self.request_limit else None

    def _submit(self, seen: Request) -> dict[str, Any]:
        with self._changed:
            mischief = self.mischief.oddity() if self.mischief else self.oddity
            oddity = self._oddities.popleft() if self._oddities else mischief
            job = Job(f"{uuid.uuid4()}-u1", seen.body, oddity, time.monotonic())
            self.jobs[job.id], seen.job_id = job, job.id
        self._start(self._live(job))
        return {"id": job.id, "status": "IN_QUEUE"}

    def _visible(self, job_id: str) -> Job | None:
        with self._changed:
            job = self.jobs.get(job_id)
            now = time.monotonic()
            if job is None or now < job.at + job.oddity.invisible_s:
                return None
            ttl_s = job.body.get("policy", {}).get("ttl", 86_400_000) / 1000
            if now > job.at + ttl_s or (job.is_final and now > job.ended + self.retention_s):
                del self.jobs[job_id]
                return None
            return job

    def _shown(self, job: Job) -> dict[str, Any]:
        shown: dict[str, Any] = {"id": job.id, "status": job.status}
        if job.started:
            shown |= {"delayTime": _ms(job.started - job.at), "workerId": "w-1"}
        if job.status == "IN_PROGRESS" or time.monotonic() < job.backwards_until:
            progress = {"phase": "sampling", "percent": 40}
            return {
                **shown,
                "status": "IN_PROGRESS",
                "input": job.body["input"],
                "output": progress,
            }
        if job.ended and job.started:
            shown["executionTime"] = _ms(job.ended - job.started)
        return {**shown, **job.shown}

    def _cancel(self, job: Job) -> dict[str, Any]:
        if not job.is_final:
            was_running, job.status, job.ended = job.started, "CANCELLED", time.monotonic()
            if was_running:
                self.stop(job.id)
            self._notify()
        return {"id": job.id, "status": job.status}

    def _health(self) -> dict[str, Any]:
        states = Counter(job.status for job in self.jobs.values())
        workers = {"idle": max(self.max_workers - self._running, 0), "running": self._running}
        if self.max_workers == 0:
            workers = {"idle": 0, "running": 0, "initializing": 0, "ready": 0, "throttled": 0}
        names = {"completed": "COMPLETED", "failed": "FAILED", "inProgress": "IN_PROGRESS"}
        jobs = {name: states[state] for name, state in {**names, "inQueue": "IN_QUEUE"}.items()}
        return {"jobs": {**jobs, "retried": 0}, "workers": workers}

    async def _live(self, job: Job) -> None:
        """From the queue to the end of its hooks."""
        await asyncio.sleep(job.oddity.cold_start_s)
        while job.status == "IN_QUEUE" and self._running >= self.max_workers:
            await asyncio.sleep(0.02)
        for _ in range(2 if job.oddity.twice else 1):
            if job.status == "CANCELLED":
                return
            self._running += 1
            try:
                await self._run(job)
            finally:
                self._running -= 1
            self._notify()
        if job.oddity.late_progress_s:
            job.backwards_until = time.monotonic() + job.oddity.late_progress_s
        await self._call_hook(job)

    async def _run(self, job: Job) -> None:
        job.status, job.started, job.runs = "IN_PROGRESS", time.monotonic(), job.runs + 1
        self._notify()
        if job.oddity.hook == "early" and job.runs == 1:
            await self._post_hook(job)
        limit_s = job.body.get("policy", {}).get("executionTimeout", 600_000) / 1000
        with self._changed:
            self.executions[job.request_id] += 1
        try:
            async with asyncio.timeout(limit_s):
                await asyncio.sleep(job.oddity.run_s)
                result = await asyncio.to_thread(self._result, job)
            timed_out = job.oddity.times_out
        except TimeoutError:
            timed_out = True
        if job.status == "CANCELLED":
            return
        job.ended = time.monotonic()
        if timed_out:
            job.status, job.shown = "TIMED_OUT", {"error": "job timed out after 1 retries"}
        elif "error" in result:
            job.status, job.shown = "FAILED", result
        else:
            job.status, job.shown = "COMPLETED", {} if job.oddity.no_output else result

    def _result(self, job: Job) -> Result:
        if job.oddity.raises:
            return {"error": JSON_ERROR}
        if code := job.oddity.fails:
            again = code in _RETRYABLE
            failure = {
                "ok": False,
                "code": code,
                "message": "broken on purpose",
                "retryable": again,
            }
            return {"error": f"{code}: broken on purpose", "output": failure}
        return self.execute({"id": job.id, "input": job.body["input"]})

    async def _call_hook(self, job: Job) -> None:
        if job.oddity.hook == "never" or not job.body.get("webhook"):
            return
        if job.oddity.hook == "late":
            await asyncio.sleep(2)
        for _ in range(2 if job.oddity.hook == "twice" else 1):
            for attempt in range(3):
                if attempt:
                    await asyncio.sleep(self.hook_gap_s)
                if await self._post_hook(job) == 200:
                    break

    async def _post_hook(self, job: Job) -> int:
        webhook = job.body.get("webhook")
        if not webhook:
            return 0
        body = {**self._shown(job), "input": job.body["input"], "webhook": webhook}
        status = 0
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with self._session.post(webhook, json=body) as response:
                status = response.status
        with self._changed:
            self.hooks.append((job.id, job.status, status))
        self._notify()
        return status


def _json(answer: dict[str, Any]) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(answer)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--mischief", type=int, metavar="SEED", help="every oddity, drawn by SEED")
    chosen = parser.parse_args()
    drawn = None if chosen.mischief is None else Mischief(chosen.mischief)
    with RunPodCloud(port=chosen.port, mischief=drawn) as cloud:
        for name, value in cloud.env().items():
            print(f"{name}={value}", flush=True)
        threading.Event().wait()
