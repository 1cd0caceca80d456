"""What is asked of the database without changing it."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import and_, func, or_, select

from gateway.job import OPEN, RAW, Job, JobState
from gateway.store.database import Database
from gateway.store.tables import job_events, jobs


class Reads:
    def __init__(self, database: Database) -> None:
        self._database = database

    def open_jobs(self, owner: str, most: int) -> int:
        """How many the owner has, counted up to `most`."""
        found = select(jobs.c.id).where(jobs.c.owner == owner, jobs.c.state.in_(OPEN)).limit(most)
        statement = select(func.count()).select_from(found.subquery())
        return int(self._database.read(lambda connection: connection.scalar(statement)) or 0)

    def queue_position(self, job: Job) -> int:
        """1 for the job that is taken next."""
        statement = (
            select(func.count())
            .select_from(jobs)
            .where(
                jobs.c.state == JobState.QUEUED,
                jobs.c.backend == job.backend,
                or_(
                    jobs.c.due_at < job.due_at,
                    and_(jobs.c.due_at == job.due_at, jobs.c.id < job.id),
                ),
            )
        )
        return 1 + int(self._database.read(lambda connection: connection.scalar(statement)) or 0)

    def events_after(self, job_id: str, seq: int) -> list[tuple[int, int, JobState]]:
        """`(seq, at, state)`, in order."""
        statement = (
            select(job_events.c.seq, job_events.c.at, job_events.c.state)
            .where(job_events.c.job_id == job_id, job_events.c.seq > seq)
            .order_by(job_events.c.seq)
        )
        rows = self._database.read(lambda connection: connection.execute(statement).all())
        return [(row.seq, row.at, JobState(row.state)) for row in rows]

    def history(self, job_id: str) -> list[dict[str, Any]]:
        statement = (
            select(job_events).where(job_events.c.job_id == job_id).order_by(job_events.c.seq)
        )
        rows = self._database.read(
            lambda connection: connection.execute(statement).mappings().all()
        )
        return [dict(row) for row in rows]

    def sequence_numbers(self, job_ids: Collection[str]) -> dict[str, int]:
        """The latest of each job: what changed since is found by one question for all."""
        statement = select(jobs.c.id, jobs.c.seq).where(jobs.c.id.in_(job_ids))
        rows = self._database.read(lambda connection: connection.execute(statement).all())
        return {row.id: row.seq for row in rows}

    def counts(self) -> dict[tuple[str, str], int]:
        """Open jobs by state and back end."""
        statement = (
            select(jobs.c.state, jobs.c.backend, func.count())
            .where(jobs.c.state.in_(OPEN))
            .group_by(jobs.c.state, jobs.c.backend)
        )
        rows = self._database.read(lambda connection: connection.execute(statement).all())
        return {(row[0], row[1]): row[2] for row in rows}

    def median_run_ms(self, most: int = 20) -> int | None:
        """How long the latest jobs that ended well were on a GPU."""
        statement = (
            select(jobs.c.finished_at - jobs.c.started_at)
            .where(jobs.c.state == JobState.SUCCEEDED, jobs.c.started_at.is_not(None))
            .order_by(jobs.c.finished_at.desc())
            .limit(most)
        )
        times = sorted(self._database.read(lambda connection: connection.scalars(statement).all()))
        return int(times[len(times) // 2]) if times else None

    def known(self, job_ids: Collection[str]) -> set[str]:
        statement = select(jobs.c.id).where(jobs.c.id.in_(job_ids))
        return set(self._database.read(lambda connection: connection.scalars(statement).all()))

    def with_answers(self, job_ids: Collection[str]) -> set[str]:
        """Those whose answer is still wanted: it is to become a picture, or is the result."""
        statement = select(jobs.c.id).where(
            jobs.c.id.in_(job_ids),
            or_(jobs.c.finished_at.is_(None), jobs.c.kind == RAW),
            jobs.c.deleted_at.is_(None),
        )
        return set(self._database.read(lambda connection: connection.scalars(statement).all()))

    def ended(self, backend: str) -> dict[str, int]:
        """Jobs by how they ended, of all time that is kept."""
        statement = (
            select(jobs.c.state, func.count())
            .where(jobs.c.finished_at.is_not(None), jobs.c.backend == backend)
            .group_by(jobs.c.state)
        )
        rows = self._database.read(lambda connection: connection.execute(statement).all())
        return {row[0]: row[1] for row in rows}

    def waiting_of(self, owner: str, backend: str) -> list[str]:
        statement = select(jobs.c.id).where(
            jobs.c.owner == owner, jobs.c.state == JobState.QUEUED, jobs.c.backend == backend
        )
        return list(self._database.read(lambda connection: connection.scalars(statement).all()))
