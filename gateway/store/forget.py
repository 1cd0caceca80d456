"""Deletion: a job's texts go for good; that there was a job stays, for its owner's request id and
for the books."""

from sqlalchemy import Connection, delete, select, update

from gateway.job import Job
from gateway.store.jobs import JobStore
from gateway.store.tables import hook_deliveries, jobs

_TEXTS = (
    "prompt", "input", "pictures", "input_key", "output_key", "result_key", "results", "sha256",
    "width", "height", "webhook_url", "error_message",
)  # fmt: skip


def forget(store: JobStore, job: Job, now: int) -> None:
    """The texts of `job`, which has ended, when its objects are gone."""

    def work(connection: Connection) -> None:
        connection.execute(
            update(jobs)
            .where(jobs.c.id == job.id, jobs.c.finished_at.is_not(None))
            .values(**dict.fromkeys(_TEXTS), deleted_at=now, seq=jobs.c.seq + 1)
        )
        connection.execute(delete(hook_deliveries).where(hook_deliveries.c.job_id == job.id))

    store.database.write(work)


def expired_jobs(store: JobStore, before: int, most: int) -> list[str]:
    """Ids of jobs that ended before, and still have pictures or texts."""
    statement = (
        select(jobs.c.id)
        .where(jobs.c.finished_at < before, jobs.c.deleted_at.is_(None))
        .order_by(jobs.c.finished_at)
        .limit(most)
    )
    return list(store.database.read(lambda connection: connection.scalars(statement).all()))
