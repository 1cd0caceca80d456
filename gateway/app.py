"""The composition root: settings to a running application."""

import asyncio
import contextlib
import os
import random
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import anyio.to_thread
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from gateway.api import (
    client,
    create,
    credits,
    ops,
    page,
    problems,
    prompts,
    queue,
    runpod,
    uploads,
    worker,
)
from gateway.api.background import Background
from gateway.api.bell import Bell
from gateway.api.context import Context
from gateway.api.envelope import Envelope
from gateway.api.guard import Guard
from gateway.api.metrics import Metrics
from gateway.api.pollers import Pollers
from gateway.api.slots import Slots
from gateway.clock import Clock, SystemClock
from gateway.cloud import cloud_steps, make_cloud
from gateway.demo import DemoWorker
from gateway.edit.create import CreatePolicy, Creator
from gateway.errors import InvalidSettings, StoreUnavailable
from gateway.fetch import fetch_picture
from gateway.hooks.sender import HookSender
from gateway.job import DEMO, OWN, RUNPOD, Job, JobState
from gateway.kept import webhook_secret, worker_key
from gateway.objects import DiskObjects, ObjectStore, S3Objects
from gateway.orchestrator import Orchestrator, Step
from gateway.own import OwnGpus
from gateway.settings import Settings, is_loopback
from gateway.shared_time import clock_steps, steady_clock
from gateway.steps.deliver import Deliverer, is_to_deliver
from gateway.steps.finish import Finisher
from gateway.steps.rescue import expire, lose_silent_workers
from gateway.steps.sweep import Sweeper
from gateway.store.books import Books
from gateway.store.database import Database, only_process
from gateway.store.hooks import Hooks
from gateway.store.jobs import JobStore
from gateway.store.keys import Keys
from gateway.store.migrate import check_schema, migrate
from gateway.store.reads import Reads
from gateway.store.uploads import Uploads
from gateway.store.workers import Workers
from handler.logs import get_logger

ROLES = ("all", "api", "orchestrator")
DRAIN_S = 10.0
# Long polls hold none; creates, statuses and results do, each for milliseconds.
_THREADS = 64
_BACKENDS = {"runpod": RUNPOD, "demo": DEMO}
_DEMO_RUNNERS = 2
# Of steps: a slow bucket must not hold up who renews the claims.
_STEP_THREADS = 32

log = get_logger()


@dataclass(frozen=True, slots=True)
class Parts:
    """What every command works with."""

    settings: Settings
    clock: Clock
    database: Database
    objects: ObjectStore


@contextlib.contextmanager
def open_parts(settings: Settings, clock: Clock | None = None) -> Iterator[Parts]:
    """Raises BootError."""
    try:
        settings.gateway_data_dir.mkdir(parents=True, exist_ok=True)
        objects = _objects(settings)
    except (OSError, StoreUnavailable) as exc:
        raise InvalidSettings(f"GATEWAY_DATA_DIR {settings.gateway_data_dir}: {exc}") from exc
    database = Database(settings.database_url)
    try:
        yield Parts(settings, clock or SystemClock(), database, objects)
    finally:
        database.close()


@contextlib.contextmanager
def open_serving(settings: Settings, role: str = "all") -> Iterator[FastAPI]:
    """The application, with the database to itself if that is SQLite. Raises BootError."""
    with open_parts(settings) as parts, only_process(settings.database_url):
        if parts.database.is_sqlite:
            if role != "all":
                raise InvalidSettings("--role needs PostgreSQL: a SQLite file has one process")
            migrate(parts.database)
        else:
            check_schema(parts.database)
        yield make_app(replace(parts, clock=steady_clock(parts.database)), role)


def make_app(parts: Parts, role: str = "all") -> FastAPI:
    """Raises InvalidSettings."""
    _check_demo(parts.settings)
    context = _context(parts)
    _check_keys(context)
    orchestrator = Orchestrator(_steps(context) if role != "api" else ())
    context.wake_steps = orchestrator.hear

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        steps = ThreadPoolExecutor(_STEP_THREADS, thread_name_prefix="step")
        asyncio.get_running_loop().set_default_executor(steps)
        context.bell.open()
        await anyio.to_thread.run_sync(free_claims, context)
        orchestrator.start()
        yield
        context.bell.close()
        await orchestrator.stop(DRAIN_S)
        if context.cloud is not None:
            await context.cloud.client.aclose()
        await context.background.drain(DRAIN_S)
        await context.hook_sender.aclose()

    app = FastAPI(
        title="Qwen Image Edit gateway", version=ops.own_version(), lifespan=lifespan,
        redoc_url=None,
    )  # fmt: skip
    app.state.context = context
    problems.install(app)
    app.include_router(ops.router)
    if role != "orchestrator":
        for routes in (create, queue, uploads, prompts, worker, client, runpod, page):
            app.include_router(routes.router)
        if context.books.is_on:
            app.include_router(credits.router)
    origins = parts.settings.origins
    if origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=["*"],
            allow_headers=["authorization", "content-type", "idempotency-key", "last-event-id",
                           "x-request-id"],
            expose_headers=["x-request-id", "retry-after"],
        )  # fmt: skip
    app.add_middleware(Envelope, most_bytes=parts.settings.gateway_max_body_bytes)
    return app


def _context(parts: Parts) -> Context:
    settings, clock, database, objects = (
        parts.settings, parts.clock, parts.database, parts.objects,
    )  # fmt: skip
    process = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    bell, reads, workers = Bell(), Reads(database), Workers(database)
    metrics = Metrics(reads.counts, lambda: len(context.workers_in_touch()))

    def hear(job: Job) -> None:
        bell.hear(job)
        metrics.hear(job)
        context.wake_steps(job)

    books = Books(database, is_on=settings.gateway_credits == "test")
    store = JobStore(database, settings.gateway_attempts, hear, books)
    policy = CreatePolicy(
        backend=_BACKENDS.get(settings.gateway_route, OWN),
        queue_ttl_ms=int(settings.gateway_queue_ttl_s * 1000),
        open_jobs=settings.gateway_open_jobs,
        result_prefix=settings.gateway_result_prefix,
    )
    finisher = Finisher(
        store, objects, clock, fetch_picture, settings.gateway_result_prefix, process
    )
    sender = HookSender(webhook_secret(settings), settings.hook_hosts)
    context = Context(
        settings=settings, clock=clock, store=store, books=books, reads=reads,
        uploads=Uploads(database),
        workers=workers, objects=objects, creator=Creator(store, objects, clock, policy),
        own=OwnGpus(
            store, workers, objects, clock, int(settings.gateway_lease_s * 1000), process,
            metrics.late_results.inc,
        ),
        finisher=finisher,
        cloud=make_cloud(
            settings, store, objects, clock, finisher, process, metrics.late_results.inc
        ),
        guard=Guard(settings, Keys(database).all), bell=bell, pollers=Pollers(),
        background=Background(), slots=Slots(), metrics=metrics, worker_key=worker_key(settings),
        hook_sender=sender,
        deliverer=Deliverer(
            store, objects, clock, sender, settings.gateway_public_url or "", random.random
        ),
    )  # fmt: skip
    return context


def _steps(context: Context) -> list[Step]:
    store, clock = context.store, context.clock
    sweeper = Sweeper(
        store, context.objects, clock, context.settings.gateway_result_prefix,
        int(context.settings.gateway_result_days * 86_400_000),
    )  # fmt: skip
    return [
        *clock_steps(clock, store.database),
        Step("hooks", 2, context.deliverer.step, 2, is_to_deliver),
        *(cloud_steps(context.cloud) if context.cloud is not None else ()),
        *_demo_steps(context),
        Step("finish", 0.5, context.finisher.step),
        Step("silent workers", 1, lambda: lose_silent_workers(store, clock)),
        Step("expire", 5, lambda: expire(store, clock)),
        Step("old results", 60, sweeper.results),
        Step("old uploads", 60, sweeper.uploads),
        Step("orphans", 3600, sweeper.orphans),
    ]


def _demo_steps(context: Context) -> list[Step]:
    if context.settings.gateway_route != "demo":
        return []
    worker = DemoWorker(
        context.store, context.objects, context.clock, context.finisher.finish,
        f"demo-{uuid.uuid4().hex[:8]}",
    )  # fmt: skip
    return [
        Step(
            "demo", 0.5, worker.step, _DEMO_RUNNERS,
            lambda job: job.state is JobState.QUEUED and job.backend == DEMO,
        )
    ]  # fmt: skip


def free_claims(context: Context) -> None:
    """A process that has the database to itself finds only claims of the dead."""
    if context.store.database.is_sqlite:
        now = context.clock.now()
        lease_ms = int(context.settings.gateway_lease_s * 1000)
        freed = context.store.free_leases(now, now + lease_ms)
        Hooks(context.store.database).free_leases()
        counts = {f"{state}/{backend}": n for (state, backend), n in context.reads.counts().items()}
        log.info("recovered", claims_freed=freed, open_jobs=counts)
    if context.cloud is None and any(key[1] == RUNPOD for key in context.reads.counts()):
        log.error("jobs are open at RunPod, and RUNPOD_API_KEY and RUNPOD_ENDPOINT_ID are not set")


def _check_keys(context: Context) -> None:
    host, _ = context.settings.listen
    if not context.guard.has_keys and not is_loopback(host):
        raise InvalidSettings(
            f"GATEWAY_LISTEN={context.settings.gateway_listen} is open to others and there are no "
            "keys; set GATEWAY_API_KEYS=name=key, or run `python -m gateway keys add NAME`"
        )


def _check_demo(settings: Settings) -> None:
    public = urlsplit(settings.gateway_public_url or "http://localhost").hostname
    if settings.gateway_route == "demo" and not (
        is_loopback(settings.listen[0]) and is_loopback(public)
    ):
        raise InvalidSettings(
            "GATEWAY_ROUTE=demo draws over pictures instead of editing them, so it serves this "
            "machine only: set GATEWAY_LISTEN and GATEWAY_PUBLIC_URL to 127.0.0.1, or another route"
        )


def _objects(settings: Settings) -> ObjectStore:
    if not settings.has_bucket:
        return DiskObjects(settings.gateway_data_dir, settings.gateway_disk_bytes)
    assert settings.bucket_endpoint_url is not None
    assert settings.bucket_name is not None
    assert settings.bucket_access_key_id is not None
    assert settings.bucket_secret_access_key is not None
    return S3Objects(
        settings.bucket_endpoint_url, settings.bucket_name,
        settings.bucket_access_key_id.get_secret_value(),
        settings.bucket_secret_access_key.get_secret_value(), settings.gateway_data_dir / "tmp",
    )  # fmt: skip
