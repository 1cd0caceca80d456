"""The verbs on jobs. `apply` is the only writer of `state`; zero rows is a normal answer."""

from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, select, update
from sqlalchemy.dialects import postgresql, sqlite

from gateway.errors import RequestIdTaken
from gateway.job import (
    DEMO,
    OWN,
    RUNPOD,
    CancelAsked,
    Event,
    HolderLost,
    Job,
    JobState,
    Rerouted,
    Taken,
)
from gateway.lifecycle import DEFAULT_ATTEMPTS, Change, advance
from gateway.store.books import Books
from gateway.store.database import Database
from gateway.store.rows import (
    COLUMNS,
    apply_change,
    job_of,
    of_request,
    one_job,
    selected,
    write_event,
)
from gateway.store.tables import jobs

Hear = Callable[[Job], None]
"""Called after a commit with each job that it has changed, from any thread."""


class JobStore:
    """`attempts` is how often a job is tried. `hear` lets who waits in this process look. `books`
    has the lines of credits that each change means."""

    def __init__(
        self,
        database: Database,
        attempts: int = DEFAULT_ATTEMPTS,
        hear: Hear = lambda _job: None,
        books: Books | None = None,
    ) -> None:
        self.database = database
        self._books = books or Books(database, is_on=False)
        self._attempts = attempts
        self._hear = hear
        self._insert = sqlite.insert if database.is_sqlite else postgresql.insert

    def create(self, job: Job) -> tuple[Job, bool]:
        """The job, and whether it is new: the same request id of the same owner gives the job that
        was there. Raises RequestIdTaken when that one had another body, and NotEnoughCredits."""

        def work(connection: Connection) -> tuple[Job, bool]:
            row = {**asdict(job), "seq": 1}
            statement = self._insert(jobs).values(row).on_conflict_do_nothing()
            if connection.execute(statement.returning(jobs.c.id)).one_or_none() is not None:
                write_event(connection, job.id, 1, job.created_at, job.state, "Created")
                self._books.hold(connection, job)
                return replace(job, seq=1), True
            there = one_job(connection, of_request(job.owner, job.request_id))
            if there is None:
                raise AssertionError(f"job {job.id} is there twice")
            if there.body_hash != job.body_hash:
                raise RequestIdTaken(
                    f"request_id {job.request_id!r} was used with another body, for job {there.id};"
                    " send a new one"
                )
            return there, False

        made, is_new = self.database.write(work)
        if is_new:
            self._hear(made)
        return made, is_new

    def get(self, job_id: str) -> Job | None:
        return self.database.read(lambda connection: one_job(connection, jobs.c.id == job_id))

    def get_of_request(self, owner: str, request_id: str) -> Job | None:
        return self.database.read(
            lambda connection: one_job(connection, of_request(owner, request_id))
        )

    def get_of_hook(self, token_hash: str) -> Job | None:
        return self.database.read(
            lambda connection: one_job(connection, jobs.c.hook_token_hash == token_hash)
        )

    def apply(self, change: Change | None) -> Job | None:
        """Writes the change, its event, its credits and the hook that falls due, in one
        transaction. None when the row is no longer as it was when the change was decided."""
        if change is None:
            return None
        changed = self.database.write(lambda connection: self._write(connection, change))
        if changed is not None:
            self._hear(changed)
        return changed

    def settle(self, job: Job, event: Event, now: int) -> Job | None:
        """Advance and apply, for who holds the claim."""
        return self.apply(advance(job, event, now, self._attempts))

    def record(
        self, job_id: str, event: Event, now: int, if_: Callable[[Job], bool] = lambda _job: True
    ) -> Job | None:
        """Read, advance and apply in one transaction, for who holds no claim. `if_` is asked of the
        job as it stands. None when there was nothing to change."""

        def work(connection: Connection) -> Job | None:
            job = one_job(connection, jobs.c.id == job_id, lock=True)
            if job is None or not if_(job):
                return None
            return self._advance(connection, job, event, now)

        changed = self.database.write(work)
        if changed is not None:
            self._hear(changed)
        return changed

    def cancel(self, job_id: str, now: int) -> Job | None:
        return self.record(job_id, CancelAsked(), now, lambda job: job.cancel_asked_at is None)

    def cancel_waiting(self, job_id: str, now: int) -> Job | None:
        """Only while nobody has it."""
        return self.record(job_id, CancelAsked(), now, lambda job: job.state is JobState.QUEUED)

    def take(
        self, worker: str, most: int, now: int, lease_until: int, backend: str = OWN
    ) -> list[Job]:
        """Up to `most` of the jobs that wait for an own GPU, the oldest first; now the worker's."""
        return self._record_all(
            and_(jobs.c.state == JobState.QUEUED, jobs.c.backend == backend, jobs.c.due_at <= now),
            Taken(worker, lease_until), now, most,
        )  # fmt: skip

    def overflow(self, now: int, due_before: int, most: int) -> list[Job]:
        """Gives RunPod what has waited for an own GPU since before `due_before`."""
        return self._record_all(
            and_(
                jobs.c.state == JobState.QUEUED, jobs.c.backend == OWN,
                jobs.c.due_at <= due_before,
            ),
            Rerouted(RUNPOD), now, most,
        )  # fmt: skip

    def lose_silent(self, now: int, most: int) -> list[Job]:
        """Takes jobs from own workers whose lease is over."""
        return self._record_all(
            and_(
                jobs.c.state == JobState.RUNNING, jobs.c.backend.in_((OWN, DEMO)),
                jobs.c.due_at <= now, jobs.c.lease_until <= now,
            ),
            HolderLost(), now, most,
        )  # fmt: skip

    def renew(self, worker: str, job_ids: Collection[str], lease_until: int) -> set[str]:
        """Those of the jobs that are still the worker's; their leases go on."""
        if not job_ids:
            return set()
        statement = (
            update(jobs)
            .where(
                jobs.c.id.in_(job_ids),
                jobs.c.state == JobState.RUNNING,
                jobs.c.backend == OWN,
                jobs.c.lease_owner == worker,
            )
            .values(lease_until=lease_until, due_at=lease_until)
            .returning(jobs.c.id)
        )
        return set(self.database.write(lambda connection: connection.scalars(statement).all()))

    def stop_list(self, worker: str) -> list[Job]:
        """Jobs that the worker runs and that somebody wants stopped."""
        return self._select(
            and_(
                jobs.c.state == JobState.RUNNING, jobs.c.backend == OWN,
                jobs.c.lease_owner == worker, jobs.c.cancel_asked_at.is_not(None),
            ),
            100,
        )  # fmt: skip

    def claim(
        self,
        states: Collection[JobState],
        *,
        now: int,
        by: str,
        lease_until: int,
        most: int,
        backend: str | None = None,
        hinted: bool = False,
    ) -> list[Job]:
        """Up to `most` due rows, the longest due first, now held by `by`: one statement, which no
        two processes win for the same row. The state stays. `hinted`: only those of which a hint
        came."""
        due = [jobs.c.state.in_(states), jobs.c.due_at <= now, jobs.c.lease_until <= now]
        if backend is not None:
            due.append(jobs.c.backend == backend)
        if hinted:
            due.append(jobs.c.wake)
        # Materialised, since PostgreSQL may run a subquery with LIMIT twice.
        chosen = (
            select(jobs.c.id).where(*due).order_by(jobs.c.due_at, jobs.c.id).limit(most)
            .with_for_update(skip_locked=True).cte("chosen").prefix_with(
                "MATERIALIZED", dialect="postgresql"
            )
        )  # fmt: skip
        statement = (
            update(jobs)
            .where(jobs.c.id.in_(select(chosen.c.id)))
            .values(lease_until=lease_until, lease_owner=by, fence=jobs.c.fence + 1, wake=False)
            .returning(*COLUMNS)
        )
        return self.database.write(
            lambda connection: sorted(
                map(job_of, connection.execute(statement)), key=lambda job: (job.due_at, job.id)
            )
        )

    def release(self, job: Job, due_at: int, now: int, **values: Any) -> bool:
        """Gives a claim back: looked at again at `due_at`, or at once when a hint came meanwhile.
        `values` may be `waiting_for`; False when the claim was no longer held."""
        when = case((jobs.c.wake, now), else_=due_at)
        statement = (
            update(jobs)
            .where(jobs.c.id == job.id, jobs.c.state == job.state, jobs.c.fence == job.fence)
            .values(due_at=when, lease_until=0, lease_owner=None, **values)
        )
        return bool(self.database.write(lambda connection: connection.execute(statement).rowcount))

    def look_now(self, job_id: str, now: int) -> bool:
        """A hint: the row falls due at once, or when who holds it gives it back."""
        statement = (
            update(jobs)
            .where(jobs.c.id == job_id, jobs.c.finished_at.is_(None))
            .values(due_at=now, wake=True)
        )
        return bool(self.database.write(lambda connection: connection.execute(statement).rowcount))

    def expire(self, event: Event, now: int, most: int) -> list[Job]:
        """Ends those that have waited past their deadline."""
        return self._record_all(
            and_(
                jobs.c.state == JobState.QUEUED,
                jobs.c.deadline_at <= now,
                jobs.c.lease_until <= now,
            ),
            event, now, most,
        )  # fmt: skip

    def free_leases(self, now: int, own_until: int) -> int:
        """For the only process there is, at its start: nobody holds a claim, and own workers could
        not renew theirs while it was away."""

        def work(connection: Connection) -> int:
            held = and_(jobs.c.finished_at.is_(None), jobs.c.lease_until > 0)
            own = and_(jobs.c.state == JobState.RUNNING, jobs.c.backend == OWN)
            # Of the two, the first must not touch what the second is for.
            at_once = case((jobs.c.due_at > now, now), else_=jobs.c.due_at)
            others = update(jobs).where(held, ~own)
            others = others.values(lease_until=0, lease_owner=None, due_at=at_once)
            freed = connection.execute(others).rowcount
            workers = update(jobs).where(own, jobs.c.lease_until < own_until)
            connection.execute(workers.values(lease_until=own_until, due_at=own_until))
            return int(freed)

        return self.database.write(work)

    def _record_all(
        self, where: ColumnElement[bool], event: Event, now: int, most: int
    ) -> list[Job]:
        def work(connection: Connection) -> list[Job]:
            rows = connection.execute(
                selected(where).order_by(jobs.c.due_at, jobs.c.id).limit(most)
                .with_for_update(skip_locked=True)
            )  # fmt: skip
            found = list(map(job_of, rows))
            # In the owners' order, as the books want it; the answer is in the rows' own.
            changed = {
                job.id: self._advance(connection, job, event, now)
                for job in sorted(found, key=lambda job: job.owner)
            }
            return [job for row in found if (job := changed[row.id]) is not None]

        if not self._select(where, 1):
            # So that looking in vain, which happens all day, is no write.
            return []
        changed = self.database.write(work)
        for job in changed:
            self._hear(job)
        return changed

    def _select(self, where: ColumnElement[bool], most: int) -> list[Job]:
        statement = selected(where).limit(most)
        return self.database.read(
            lambda connection: list(map(job_of, connection.execute(statement)))
        )

    def _advance(self, connection: Connection, job: Job, event: Event, now: int) -> Job | None:
        change = advance(job, event, now, self._attempts)
        return None if change is None else self._write(connection, change)

    def _write(self, connection: Connection, change: Change) -> Job | None:
        job = apply_change(connection, change)
        if job is not None:
            self._books.end(connection, change, job)
        return job
