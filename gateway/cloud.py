"""RunPod's part of the gateway, put together: there when its key and endpoint are set."""

import asyncio
from collections.abc import Callable

from gateway.clock import Clock
from gateway.job import RUNPOD, Job, JobState
from gateway.objects import ObjectStore
from gateway.orchestrator import Step
from gateway.runpod.client import RunPodClient
from gateway.runpod.inbox import Inbox
from gateway.runpod.tokens import Tokens
from gateway.settings import Settings
from gateway.steps.arrive import Arrivals
from gateway.steps.cloud import Cloud, CloudPolicy, Trouble
from gateway.steps.dispatch import Dispatcher
from gateway.steps.finish import Finisher
from gateway.steps.reconcile import Reconciler
from gateway.steps.submission import Submission
from gateway.steps.watch import Watcher
from gateway.store.cloud import CloudRows
from gateway.store.jobs import JobStore

_RUNNERS = 4


def make_cloud(
    settings: Settings,
    store: JobStore,
    objects: ObjectStore,
    clock: Clock,
    finisher: Finisher,
    process: str,
    on_double: Callable[[], None],
) -> Cloud | None:
    """None where RunPod is not set."""
    if settings.runpod_api_key is None or settings.runpod_endpoint_id is None:
        return None
    key = settings.runpod_api_key.get_secret_value()
    tokens = Tokens(key)
    policy = CloudPolicy(
        endpoint_id=settings.runpod_endpoint_id,
        process=process,
        lease_ms=int(settings.gateway_lease_s * 1000),
        per_day=settings.gateway_runpod_per_day,
        burst_ms=(
            int(settings.gateway_burst_after_s * 1000)
            if settings.gateway_route == "own-first"
            else None
        ),
    )
    return Cloud(
        client=RunPodClient(settings.runpod_jobs_url, key),
        store=store, rows=CloudRows(store.database), objects=objects, clock=clock,
        finisher=finisher, submission=Submission(objects, tokens, settings.gateway_public_url),
        tokens=tokens, inbox=Inbox(), policy=policy, sending=Trouble(clock),
        looking=Trouble(clock), on_double=on_double,
    )  # fmt: skip


def cloud_steps(cloud: Cloud) -> list[Step]:
    arrivals, watcher = Arrivals(cloud), Watcher(cloud)
    dispatcher, reconciler = Dispatcher(cloud, arrivals), Reconciler(cloud, arrivals)
    return [
        Step("send", 0.5, dispatcher.send, _RUNNERS, _is_to_send),
        Step("rescue", 0.5, dispatcher.rescue, 1, _is_to_rescue),
        Step("look", 0.5, reconciler.look, _RUNNERS),
        Step("look at hinted", 0.5, reconciler.look_at_hinted, 2, _is_to_look_at),
        Step("explain", 3, watcher.explain),
        Step("overflow", 0.5, watcher.overflow),
    ]


async def look_once(cloud: Cloud) -> int:
    """Every job that RunPod has is looked at, and its result fetched if there is one. Says at how
    many; fewer than there are when RunPod does not answer."""
    await asyncio.to_thread(cloud.rows.look_at_all, cloud.clock.now())
    reconciler, looked_at = Reconciler(cloud, Arrivals(cloud)), 0
    # None twice: what is looked at falls due again later than this began.
    most = await cloud.open_count()
    while looked_at < most and (moved := await reconciler.look()):
        looked_at += moved
    while await asyncio.to_thread(cloud.finisher.step):
        pass
    return looked_at


def _is_to_send(job: Job) -> bool:
    return job.state is JobState.QUEUED and job.backend == RUNPOD


def _is_to_rescue(job: Job) -> bool:
    return job.state is JobState.SENDING and job.wake


def _is_to_look_at(job: Job) -> bool:
    is_there = job.state in {JobState.SENT, JobState.RUNNING} and job.backend == RUNPOD
    return is_there and job.wake
