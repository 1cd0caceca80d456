"""A result of RunPod's: into the store before the job is called finishing, then made a picture."""

import asyncio
import json
import uuid
from typing import Any

from gateway.errors import Unavailable
from gateway.job import RAW, Job, JobState, ResultArrived
from gateway.steps.cloud import Cloud
from handler.logs import get_logger

_LEASE_MS = 60_000
_AT_ONCE, _LARGE_AT_ONCE = 8, 2
_LARGE_BYTES = 4_000_000
_STORE_AGAIN_MS = 5_000

log = get_logger()


class Arrivals:
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._large_slots = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def arrive(self, job: Job, output: Any) -> int | None:
        """When to try again, where the store took nothing; RunPod keeps a result for 30 minutes."""
        answer = {"output": output}
        async with self._slots:
            data = await asyncio.to_thread(_encoded, answer)
            if len(data) < _LARGE_BYTES:
                return await self._store(job, answer, data)
            async with self._large_slots:
                return await self._store(job, answer, data)

    async def _store(self, job: Job, answer: Any, data: bytes) -> int | None:
        cloud, key = self._cloud, f"outputs/{job.id}/{uuid.uuid4().hex}.json"
        try:
            await asyncio.to_thread(cloud.objects.put, key, data)
        except Unavailable as exc:
            log.warning("result not stored", job_id=job.id, code=exc.code, message=exc.message)
            return cloud.clock.now() + _STORE_AGAIN_MS
        until = cloud.clock.now() + _LEASE_MS
        arrived = await cloud.apply(job, ResultArrived(key, cloud.policy.process, until))
        if arrived is None:
            await asyncio.to_thread(cloud.objects.delete, key)
            return None
        await asyncio.to_thread(self._finish, arrived, answer)
        return None

    async def arrive_from_bucket(self, job: Job) -> bool:
        """Whether the worker has left the job's picture in the bucket that it shares with the
        gateway, as its default template of keys says: then nothing else need be known of the run.
        """
        output = await asyncio.to_thread(self._in_bucket, job)
        if output is None:
            return False
        log.info("found in the bucket", job_id=job.id)
        return await self.arrive(job, output) is None

    def _finish(self, job: Job, answer: Any) -> None:
        ended = self._cloud.finisher.finish(job, answer)
        is_copied = ended is not None and ended.state is JobState.SUCCEEDED and job.kind != RAW
        if is_copied and self._is_bucket(job):
            try:
                self._cloud.objects.delete(job.id)
            except Unavailable as exc:
                log.warning("left behind", job_id=job.id, code=exc.code, message=exc.message)

    def _in_bucket(self, job: Job) -> dict[str, Any] | None:
        objects = self._cloud.objects
        # Of several pictures of a workflow the last may be on its way.
        if job.kind == RAW or job.prompt is None or not self._is_bucket(job):
            return None
        try:
            names = sorted(name for name, _ in objects.folders(job.id))
        except Unavailable:
            return None
        images = [
            {"filename": name, "type": "s3_url", "data": objects.link(f"{job.id}/{name}", None)}
            for name in names
        ]
        return {"ok": True, "request_id": job.id, "images": images} if images else None

    def _is_bucket(self, job: Job) -> bool:
        return self._cloud.objects.link(job.id, None) is not None


def _encoded(answer: Any) -> bytes:
    return json.dumps(answer, ensure_ascii=False).encode("utf-8", "surrogatepass")
