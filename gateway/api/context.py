"""What the routes work with, put together once at the start."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, ParamSpec, TypeVar, cast

import anyio.to_thread
from fastapi import Depends, Request

from gateway.api.background import Background
from gateway.api.bell import Bell
from gateway.api.guard import Guard
from gateway.api.metrics import Metrics
from gateway.api.pollers import Pollers
from gateway.api.slots import Slots
from gateway.clock import Clock
from gateway.edit.create import Creator
from gateway.hooks.sender import HookSender
from gateway.job import Job
from gateway.objects import ObjectStore
from gateway.own import OwnGpus
from gateway.settings import Settings
from gateway.steps.cloud import Cloud
from gateway.steps.deliver import Deliverer
from gateway.steps.finish import Finisher
from gateway.store.books import Books
from gateway.store.jobs import JobStore
from gateway.store.reads import Reads
from gateway.store.uploads import Uploads
from gateway.store.workers import Workers

_P = ParamSpec("_P")
_T = TypeVar("_T")

IN_TOUCH_MS = 45_000
_LATELY_S = 2.0


@dataclass(kw_only=True)
class Context:
    settings: Settings
    clock: Clock
    store: JobStore
    books: Books
    reads: Reads
    uploads: Uploads
    workers: Workers
    objects: ObjectStore
    creator: Creator
    own: OwnGpus
    finisher: Finisher
    guard: Guard
    bell: Bell
    pollers: Pollers
    background: Background
    slots: Slots
    metrics: Metrics
    hook_sender: HookSender
    deliverer: Deliverer
    cloud: Cloud | None
    """None where RunPod is not set."""
    wake_steps: Callable[[Job], None] = lambda _job: None
    worker_key: str = field(repr=False)
    _cached: dict[str, tuple[float, Any]] = field(default_factory=dict, repr=False)

    def workers_in_touch(self) -> list[str]:
        """Own workers that asked for a job lately; up to two seconds old."""
        since = self.clock.now() - IN_TOUCH_MS
        return cast(list[str], self._lately("workers", lambda: self.workers.since(since)))

    def median_run_ms(self) -> int | None:
        return cast(int | None, self._lately("median", self.reads.median_run_ms))

    def _lately(self, name: str, look: Callable[[], Any]) -> Any:
        at, value = self._cached.get(name, (-math.inf, None))
        if self.clock.monotonic() - at > _LATELY_S:
            value = look()
            self._cached[name] = (self.clock.monotonic(), value)
        return value

    def url(self, path: str) -> str:
        return f"{self.settings.gateway_public_url or ''}{path}"


def get_context(request: Request) -> Context:
    return cast(Context, request.app.state.context)


def get_owner(request: Request) -> str:
    """Raises Unauthorized, and Forbidden for a page elsewhere that may not call."""
    return get_context(request).guard.owner_of(request)


def check_rate(request: Request) -> None:
    """Raises RateLimited."""
    get_context(request).guard.check_rate(request)


Ctx = Annotated[Context, Depends(get_context)]
Owner = Annotated[str, Depends(get_owner)]


async def offload(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """What blocks, in a thread."""
    return await anyio.to_thread.run_sync(partial(function, *args, **kwargs))


def answer(request: Request, **fields: Any) -> dict[str, Any]:
    return {"ok": True, "request_id": request.state.request_id, **fields}
