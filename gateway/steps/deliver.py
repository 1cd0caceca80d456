"""Hooks to the callers' addresses. The row is written with the end of the job, so a crash costs at
most a second delivery, which has the same `webhook-id`."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from gateway.clock import Clock
from gateway.errors import Unavailable
from gateway.hooks.message import MOST_BYTES, message_of
from gateway.hooks.sender import Answer, HookSender
from gateway.job import RAW, Job
from gateway.objects import ObjectMissing, ObjectStore
from gateway.store.hooks import Delivery, Hooks
from gateway.store.jobs import JobStore
from handler.logs import get_logger

_TOGETHER = 8
# Longer than a try takes.
_LEASE_MS = 60_000
# As the Standard Webhooks specification: for days, ever more seldom.
_WAITS_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)

log = get_logger()


class Deliverer:
    """`jitter` is 0 to 1."""

    def __init__(
        self,
        store: JobStore,
        objects: ObjectStore,
        clock: Clock,
        sender: HookSender,
        public_url: str,
        jitter: Callable[[], float],
    ) -> None:
        self._store = store
        self._hooks = Hooks(store.database)
        self._objects = objects
        self._clock = clock
        self._sender = sender
        self._public_url = public_url
        self._jitter = jitter

    async def step(self) -> int:
        now = self._clock.now()
        found = await asyncio.to_thread(self._hooks.claim, now, now + _LEASE_MS, _TOGETHER)
        await asyncio.gather(*map(self._deliver, found))
        return len(found)

    async def _deliver(self, delivery: Delivery) -> None:
        body = await asyncio.to_thread(self._body, delivery.job_id)
        if body is None:
            # Deleted by its owner since.
            await self._settle(delivery, Answer(False, "the job was deleted", is_over=True))
            return
        answer = await self._sender.send(delivery.url, f"msg_{delivery.job_id}", body)
        await self._settle(delivery, answer)

    async def _settle(self, delivery: Delivery, answer: Answer) -> None:
        now, tries = self._clock.now(), delivery.attempt + 1
        is_last = answer.is_taken or answer.is_over or delivery.attempt >= len(_WAITS_S)
        wait_s = 0.0
        if not is_last:
            wait_s = _WAITS_S[delivery.attempt] * (1 + self._jitter() / 5)
            wait_s = max(wait_s, answer.retry_after_s or 0)
        if not answer.is_taken:
            log.warning(
                "hook not taken", job_id=delivery.job_id, attempt=tries, answer=answer.text,
                again_in_s=None if is_last else round(wait_s),
            )  # fmt: skip
        await asyncio.to_thread(
            self._hooks.settle, delivery, answer.text, now + int(wait_s * 1000),
            now if is_last else None,
        )  # fmt: skip

    def _body(self, job_id: str) -> bytes | None:
        job = self._store.get(job_id)
        if job is None or job.finished_at is None or job.deleted_at is not None:
            return None
        return message_of(job, self._public_url, self._output(job))

    def _output(self, job: Job) -> Any:
        """Of a job of RunPod's client API, where it is small."""
        if job.kind != RAW or job.output_key is None:
            return None
        try:
            if self._objects.size(job.output_key) > MOST_BYTES:
                return None
            with self._objects.open(job.output_key) as file:
                return json.load(file).get("output")
        except (Unavailable, ObjectMissing):
            return None


def is_to_deliver(job: Job) -> bool:
    return job.state.is_final and job.webhook_url is not None
