"""RunPod's job API for clients, one method for each operation used. The only speaker to it.

Figures and oddities are RunPod's own documentation and its SDKs': a request of at most 10 MB,
/run 1000, /status 2000 and /cancel 100 in 10 s, no idempotency key on /run, GET retried on
502, 503, 504, 520, 522 and 524 by its SDK 2.0.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Self

import httpx
import structlog

from gateway.runpod.answers import JOB_ID, error_of, job_id_of, object_of
from gateway.runpod.errors import NotFound, RateLimited, RunPodError, TooBig, Unavailable
from gateway.runpod.pace import Pace
from gateway.runpod.redaction import Redactor

MOST_REQUEST_BYTES = 10_000_000
# A result of 20 MB, and the request that /status repeats.
_MOST_ANSWER_BYTES = 48_000_000
_LARGE_BYTES = 1_000_000
_LARGE_AT_ONCE = 4

_CONNECT_S, _READ_S = 5.0, 30.0
_WHOLE_S = 90.0
_ATTEMPTS = 3
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 5.0
_CONNECTIONS = 100

# Below what is documented: clocks differ, and others may use the key.
_RUNS_PER_S, _LOOKS_PER_S, _CANCELS_PER_S = 90.0, 190.0, 9.0
_REPEATABLE = frozenset({"status", "health", "cancel"})
_AT_ONCE = {"run": 100, "status": 200, "cancel": 16}

_log = structlog.get_logger()


@dataclass(slots=True)
class _Received:
    """As far as it came."""

    status: int | None = None
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    body: bytearray = field(default_factory=bytearray)


class RunPodClient:
    """Use as `async with`, or close it. Every method raises RunPodError; each attempt that fails
    is logged.

    The endpoint is named in each call: a job is asked for where it was sent, also when the
    settings name another endpoint since. `sleep`, `monotonic`, `now` and `jitter` (0 to 1) are
    for tests.
    """

    def __init__(
        self,
        jobs_url: str,
        api_key: str,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        jitter: Callable[[], float] = random.random,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._base = jobs_url.rstrip("/")
        self._sleep, self._monotonic, self._now, self._jitter = sleep, monotonic, now, jitter
        self._redactor = Redactor([api_key])
        self._paces = {
            "run": Pace(_RUNS_PER_S, monotonic, sleep),
            "status": Pace(_LOOKS_PER_S, monotonic, sleep),
            "cancel": Pace(_CANCELS_PER_S, monotonic, sleep),
        }
        self._at_once = {name: asyncio.Semaphore(most) for name, most in _AT_ONCE.items()}
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._http = httpx.AsyncClient(
            headers={
                "Authorization": f"Bearer {api_key}",
                "Accept": "application/json",
                # An answer's size is bounded as it comes, not as it unfolds.
                "Accept-Encoding": "identity",
                "User-Agent": "qwen-image-edit-gateway",
            },
            timeout=httpx.Timeout(_READ_S, connect=_CONNECT_S),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=_CONNECTIONS),
            transport=transport,
            # A proxy of the environment is for what lies outside of this machine.
            trust_env=httpx.URL(jobs_url).host not in ("127.0.0.1", "localhost", "::1"),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def run(self, endpoint_id: str, body: bytes) -> str:
        """Submits JSON of `input`, `webhook` and `policy`; gives RunPod's id for the job.

        Where an error's `not_taken` is false, RunPod may have the job all the same.
        """
        if len(body) > MOST_REQUEST_BYTES:
            raise TooBig(
                f"the request has {len(body)} bytes, and RunPod takes {MOST_REQUEST_BYTES}"
            )
        answer = await self._ask("POST", endpoint_id, "run", body=body)
        return job_id_of(answer, "/run")

    async def status(self, endpoint_id: str, job_id: str) -> dict[str, Any]:
        """Raises NotFound for a job that RunPod does not know yet (for seconds after /run), or no
        more (30 minutes after its end, or when its ttl is over)."""
        return await self._ask("GET", endpoint_id, "status", job_id)

    async def cancel(self, endpoint_id: str, job_id: str) -> dict[str, Any]:
        return await self._ask("POST", endpoint_id, "cancel", job_id)

    async def retry(self, endpoint_id: str, job_id: str) -> dict[str, Any]:
        """Only for a job that failed or timed out, and is not forgotten."""
        return await self._ask("POST", endpoint_id, "retry", job_id)

    async def health(self, endpoint_id: str) -> dict[str, Any]:
        """`jobs` and `workers`, counts by state; every key may be missing."""
        return await self._ask("GET", endpoint_id, "health")

    async def purge_queue(self, endpoint_id: str) -> dict[str, Any]:
        return await self._ask("POST", endpoint_id, "purge-queue")

    async def _ask(
        self,
        method: Literal["GET", "POST"],
        endpoint_id: str,
        operation: str,
        job_id: str | None = None,
        *,
        body: bytes | None = None,
    ) -> dict[str, Any]:
        parts = [endpoint_id, *([] if job_id is None else [job_id])]
        if not all(map(JOB_ID.fullmatch, parts)):
            raise NotFound(f"{'/'.join(parts)[:200]!r} is no endpoint or job of RunPod")
        url = "/".join([self._base, endpoint_id, operation, *parts[1:]])
        for attempt in range(1, _ATTEMPTS + 1):
            pace = self._paces.get(operation)
            if pace is not None:
                await pace.turn()
            try:
                async with self._at_once.get(operation, self._at_once["status"]):
                    return await self._call(method, url, operation, body, attempt)
            except (RateLimited, Unavailable) as exc:
                # Of a submit whose answer is lost nobody knows whether it was taken.
                if attempt == _ATTEMPTS or not (operation in _REPEATABLE or exc.not_taken):
                    raise
                wait_s = self._wait_s(exc, attempt)
                if wait_s > _LONGEST_WAIT_S:
                    raise
                if pace is not None and isinstance(exc, RateLimited):
                    pace.pause(wait_s)
                await self._sleep(wait_s)
        raise AssertionError("the last attempt returns or raises")

    def _wait_s(self, error: RunPodError, attempt: int) -> float:
        if isinstance(error, RateLimited) and error.retry_after_s is not None:
            return error.retry_after_s
        most = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * (1 << (attempt - 1)))
        return most * (0.5 + self._jitter() / 2)

    async def _call(
        self, method: str, url: str, operation: str, body: bytes | None, attempt: int
    ) -> dict[str, Any]:
        """One attempt."""
        what, began, received = f"/{operation}", self._monotonic(), _Received()
        request = self._http.build_request(
            method, url, content=body,
            headers={"Content-Type": "application/json"} if body is not None else None,
        )  # fmt: skip
        try:
            await self._receive(request, what, received)
            if received.status != 200:
                raise error_of(received.status or 0, received.headers, what, self._now())
            if len(received.body) > _LARGE_BYTES:
                return await asyncio.to_thread(object_of, received.body, what)
            return object_of(received.body, what)
        except BaseException as exc:
            took_s = self._monotonic() - began
            self._log_failure(request, body, received, exc, attempt, took_s)
            raise

    async def _receive(self, request: httpx.Request, what: str, received: _Received) -> None:
        try:
            async with asyncio.timeout(_WHOLE_S):
                response = await self._http.send(request, stream=True)
                async with contextlib.aclosing(response):
                    received.status, received.headers = response.status_code, response.headers
                    await self._read(response, what, received.body)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as exc:
            said = f"RunPod can't be reached for {what}: {exc or type(exc).__name__}"
            raise Unavailable(said, not_taken=True) from exc
        except (httpx.HTTPError, httpx.StreamError, TimeoutError, OSError) as exc:
            said = f"RunPod gave no answer to {what}: {exc or type(exc).__name__}"
            raise Unavailable(said, not_taken=False) from exc

    async def _read(self, response: httpx.Response, what: str, body: bytearray) -> None:
        is_large = False
        try:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MOST_ANSWER_BYTES:
                    said = f"RunPod's answer to {what} is over {_MOST_ANSWER_BYTES} bytes"
                    raise Unavailable(said, not_taken=False, status=response.status_code)
                if len(body) > _LARGE_BYTES and not is_large:
                    await self._large.acquire()
                    is_large = True
        finally:
            if is_large:
                self._large.release()

    def _log_failure(
        self, request: httpx.Request, body: bytes | None, received: _Received,
        error: BaseException, attempt: int, took_s: float,
    ) -> None:  # fmt: skip
        redact = self._redactor
        _log.warning(
            "call to runpod failed",
            method=request.method,
            url=redact.url(str(request.url)),
            headers=redact.headers(request.headers),
            body=redact.body(body or b"", MOST_REQUEST_BYTES),
            status=received.status,
            answer_headers=redact.headers(received.headers),
            answer_body=redact.body(received.body),
            error=type(error).__name__,
            message=redact.value(str(error)),
            attempt=attempt,
            took_ms=round(took_s * 1000),
        )
