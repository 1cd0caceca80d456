"""What is no longer wanted goes: expired results and uploads, and what crashes have left behind."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from gateway.clock import Clock
from gateway.job import Job
from gateway.objects import DiskObjects, ObjectStore
from gateway.store.forget import expired_jobs, forget
from gateway.store.jobs import JobStore
from gateway.store.reads import Reads
from gateway.store.uploads import Uploads
from gateway.store.workers import Workers

_MOST = 100
_TOGETHER = 500
# Older than any request that may still be on its way.
_ORPHAN_MS = 3_600_000
_FORGET_WORKER_MS = 7 * 86_400_000


def delete_job(store: JobStore, objects: ObjectStore, job: Job, prefix: str, now: int) -> None:
    """Its pictures, then its texts: safe to do again after it broke off."""
    for folder in ("inputs/", "outputs/", prefix):
        objects.delete(f"{folder}{job.id}")
    forget(store, job, now)


@dataclass(frozen=True, slots=True)
class Sweeper:
    store: JobStore
    objects: ObjectStore
    clock: Clock
    result_prefix: str
    result_ms: int

    def results(self) -> int:
        """Of jobs that ended long ago."""
        now = self.clock.now()
        found = expired_jobs(self.store, now - self.result_ms, _MOST)
        for job_id in found:
            if (job := self.store.get(job_id)) is not None:
                delete_job(self.store, self.objects, job, self.result_prefix, now)
        return len(found)

    def uploads(self) -> int:
        uploads = Uploads(self.store.database)
        found = uploads.expired(self.clock.now(), _MOST)
        for upload_id, key in found:
            self.objects.delete(key)
            uploads.remove(upload_id)
        return len(found)

    def orphans(self) -> int:
        """What crashes have left: pictures of a create that has no row, answers whose pictures are
        stored."""
        reads = Reads(self.store.database)
        removed = self._orphans_in("inputs/", reads.known)
        removed += self._orphans_in("outputs/", reads.with_answers)
        if isinstance(self.objects, DiskObjects):
            self.objects.drop_abandoned(self.clock.now())
        Workers(self.store.database).forget(self.clock.now() - _FORGET_WORKER_MS)
        return removed

    def _orphans_in(self, prefix: str, wanted: Callable[[Collection[str]], set[str]]) -> int:
        before = self.clock.now() - _ORPHAN_MS
        names = [name for name, at in self.objects.folders(prefix) if at < before]
        removed = 0
        for start in range(0, len(names), _TOGETHER):
            part = names[start : start + _TOGETHER]
            for name in set(part) - wanted(part):
                self.objects.delete(f"{prefix}{name}")
                removed += 1
        return removed
