"""The four questions of RunPod's worker protocol (as runpod 1.12.0 asks them) to the job table.

A worker holds a job by a lease, which its pings, its updates and its result renew. Everything here
blocks, so it belongs into threads.
"""

import json
import threading
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.clock import Clock
from gateway.errors import InvalidOutput, InvalidRequest, NotFound
from gateway.job import (
    OWN,
    RAW,
    Fault,
    Job,
    JobState,
    NotTaken,
    Progressed,
    ResultArrived,
    Stopped,
    TryFailed,
)
from gateway.objects import ObjectStore
from gateway.report import fault_of, progress_of
from gateway.store.jobs import JobStore
from gateway.store.workers import Workers

FINISH_LEASE_MS = 60_000
_NOTE_WORKER_MS = 5_000
_AGAIN_MS = 1_000


@dataclass(frozen=True, slots=True)
class Arrived:
    """A result that counts: the job, now FINISHING and held by this process, and the answer."""

    job: Job
    answer: Any


class OwnGpus:
    """`process` names this one as a holder; `on_late` is called for each result that came too
    late to count."""

    def __init__(
        self,
        store: JobStore,
        workers: Workers,
        objects: ObjectStore,
        clock: Clock,
        lease_ms: int,
        process: str,
        on_late: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._workers = workers
        self._objects = objects
        self._clock = clock
        self._lease_ms = lease_ms
        self._process = process
        self._on_late = on_late
        self._lock = threading.Lock()
        self._noted: dict[str, int] = {}
        self._stale: dict[str, set[str]] = {}
        self._to_stop: dict[str, set[str]] = {}

    def seen(self, worker: str, gpu: str | None = None) -> None:
        now = self._clock.now()
        with self._lock:
            if now - self._noted.get(worker, -_NOTE_WORKER_MS) < _NOTE_WORKER_MS:
                return
            self._noted[worker] = now
        self._workers.seen(worker, now, gpu)

    def take(self, worker: str, most: int) -> list[Job]:
        """Up to `most` jobs, which are the worker's from now on."""
        now = self._clock.now()
        return self._store.take(worker, most, now, now + self._lease_ms)

    def take_back(self, job: Job) -> None:
        """The worker has surely not got it, as `take` gave it."""
        again_at = self._clock.now() + _AGAIN_MS
        self._store.settle(job, NotTaken(again_at), self._clock.now())

    def ping(self, worker: str, job_ids: Collection[str]) -> None:
        """The worker says which jobs it has. One that is no longer its own is to be stopped: at
        once when it was cancelled; else at the second ping, since a result may be on its way."""
        held = self._store.renew(worker, job_ids, self._clock.now() + self._lease_ms)
        stale = set(job_ids) - held
        with self._lock:
            again = stale & self._stale.get(worker, set())
            self._stale[worker] = stale
        for job_id in stale:
            job = self._store.get(job_id)
            if job is None or job.state is JobState.CANCELLED or (job_id in again):
                self._stop(worker, job_id)

    def stops(self, worker: str) -> list[str]:
        """Ids of the jobs that the worker is to stop. Being told ends them."""
        with self._lock:
            found = self._to_stop.pop(worker, set())
        now = self._clock.now()
        for job in self._store.stop_list(worker):
            self._store.record(job.id, Stopped(), now, lambda job: job.lease_owner == worker)
            found.add(job.id)
        return sorted(found)

    def touch(self, worker: str, job_id: str) -> None:
        """A result of the job has begun to arrive."""
        self._store.renew(worker, [job_id], self._clock.now() + self._lease_ms)

    def done(self, worker: str, job_id: str, body: Path) -> Arrived | None:
        """What a worker has posted of a job; the file is the store's from now on. None when there
        is nothing more to do. Raises InvalidRequest and NotFound."""
        answer = _parse(body)
        job = self._store.get(job_id)
        if job is None or job.backend != OWN:
            raise NotFound(f"there is no job {job_id[:100]!r} for own workers")
        if answer.get("status") == "IN_PROGRESS":
            self._progress(worker, job_id, answer.get("output"))
            return None
        if answer.get("error"):
            self._failed(worker, job_id, fault_of(answer["error"], answer.get("output")))
            return None
        if answer.get("output") is None and job.kind != RAW:
            message = "the worker's answer has no output"
            self._failed(worker, job_id, Fault(InvalidOutput.code, message, True))
            return None
        return self._result(worker, job, answer, body)

    def _progress(self, worker: str, job_id: str, output: Any) -> None:
        now = self._clock.now()
        phase, percent = progress_of(output)
        event = Progressed(phase, percent, lease_until=now + self._lease_ms)
        self._store.record(job_id, event, now, lambda job: _is_holder(job, worker))

    def _failed(self, worker: str, job_id: str, fault: Fault) -> None:
        """Only from who holds the job: a former holder's failure says nothing of the next try."""
        event = TryFailed(fault)
        self._store.record(job_id, event, self._clock.now(), lambda job: _is_holder(job, worker))

    def _result(self, worker: str, job: Job, answer: Any, body: Path) -> Arrived | None:
        now = self._clock.now()
        key = f"outputs/{job.id}/{uuid.uuid4().hex}.json"
        if job.state.is_final or job.state is JobState.FINISHING:
            self._on_late()
            return None
        self._objects.put_file(key, body)
        holder: str | None = None

        def counts(found: Job) -> bool:
            nonlocal holder
            holder = found.lease_owner
            # One that was never begun has no result.
            return found.state is not JobState.QUEUED or found.attempt > 0

        event = ResultArrived(key, self._process, now + FINISH_LEASE_MS)
        arrived = self._store.record(job.id, event, now, counts)
        if arrived is None:
            self._objects.delete(key)
            self._on_late()
            return None
        if holder not in {None, worker}:
            assert holder is not None
            self._stop(holder, job.id)
        return Arrived(arrived, answer)

    def _stop(self, worker: str, job_id: str) -> None:
        with self._lock:
            self._to_stop.setdefault(worker, set()).add(job_id)


def _is_holder(job: Job, worker: str) -> bool:
    return job.state is JobState.RUNNING and job.lease_owner == worker


def _parse(body: Path) -> dict[str, Any]:
    try:
        answer = json.loads(body.read_bytes())
    except (ValueError, RecursionError) as exc:
        raise InvalidRequest("the body is no JSON") from exc
    if not isinstance(answer, dict):
        raise InvalidRequest("the body must be a JSON object")
    return answer
