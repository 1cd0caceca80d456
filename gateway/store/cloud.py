"""The verbs on jobs that RunPod runs, beside those of `jobs.py`: many rows, hints, bounds."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, and_, bindparam, case, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from gateway.job import FINAL, RUNPOD, Job, JobState
from gateway.store.database import Database
from gateway.store.tables import job_events, jobs, sends

_AT_RUNPOD = (JobState.SENT, JobState.RUNNING)


class CloudRows:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert = sqlite.insert if database.is_sqlite else postgresql.insert

    def open_count(self) -> int:
        """Jobs whose status must be asked for."""
        statement = (
            select(func.count())
            .select_from(jobs)
            .where(jobs.c.state.in_(_AT_RUNPOD), jobs.c.backend == RUNPOD)
        )
        return int(self._database.read(lambda connection: connection.scalar(statement)) or 0)

    def is_due(self, states: Collection[JobState], now: int, hinted: bool = False) -> bool:
        """Whether a claim would find any: looking in vain, all day long, should write nothing."""
        statement = (
            select(jobs.c.id)
            .where(
                jobs.c.state.in_(states),
                jobs.c.backend == RUNPOD,
                jobs.c.due_at <= now,
                jobs.c.lease_until <= now,
                *([jobs.c.wake] if hinted else ()),
            )
            .limit(1)
        )
        return self._database.read(lambda connection: connection.scalar(statement)) is not None

    def renew(self, held: Collection[Job], lease_until: int) -> None:
        """Of those claims that are still held."""
        statement = (
            update(jobs)
            .where(jobs.c.id == bindparam("of_id"), jobs.c.fence == bindparam("of_fence"))
            .where(jobs.c.lease_until > 0, jobs.c.finished_at.is_(None))
            .values(lease_until=lease_until)
        )
        rows = [{"of_id": job.id, "of_fence": job.fence} for job in held]
        if rows:
            self._database.write(lambda connection: connection.execute(statement, rows))

    def release_all(self, items: Iterable[tuple[Job, int]], now: int) -> None:
        """As `JobStore.release`, for many in one transaction."""
        statement = (
            update(jobs)
            .where(
                jobs.c.id == bindparam("of_id"),
                jobs.c.state == bindparam("of_state"),
                jobs.c.fence == bindparam("of_fence"),
            )
            .values(
                due_at=case((jobs.c.wake, now), else_=bindparam("then_due")),
                lease_until=0, lease_owner=None,
            )
        )  # fmt: skip
        rows = [
            {"of_id": job.id, "of_state": job.state, "of_fence": job.fence, "then_due": due_at}
            # In one order, so that two processes never wait for each other.
            for job, due_at in sorted(items, key=lambda item: item[0].id)
        ]
        if rows:
            self._database.write(lambda connection: connection.execute(statement, rows))

    def hear_hook(self, token_hash: str, remote_id: str | None, now: int) -> str | None:
        """The id of the token's job if that is open; it is due now. Where nobody knows RunPod's id
        of it, since the answer to the submit was lost, it is the hook's."""
        adopted = and_(jobs.c.state == JobState.SENDING, jobs.c.remote_id.is_(None))
        statement = (
            update(jobs)
            .where(jobs.c.hook_token_hash == token_hash, jobs.c.finished_at.is_(None))
            .values(
                due_at=now, wake=True,
                remote_id=case((adopted, remote_id), else_=jobs.c.remote_id),
            )
            .returning(jobs.c.id)
        )  # fmt: skip
        found = self._database.write(lambda connection: connection.scalar(statement))
        return None if found is None else str(found)

    def note_waiting(
        self, states: Collection[JobState], reason: str | None, created_before: int, now: int
    ) -> int:
        """Why these jobs wait, where it is another reason than before; a change callers see."""

        def work(connection: Connection) -> int:
            changed = connection.execute(statement).all()
            events = [
                {"job_id": row.id, "seq": row.seq, "at": now, "state": row.state, "note": note}
                for row in changed
            ]
            if events:
                connection.execute(insert(job_events), events)
            return len(events)

        others = (
            jobs.c.waiting_for.is_not(None)
            if reason is None
            else or_(jobs.c.waiting_for.is_(None), jobs.c.waiting_for != reason)
        )
        where = and_(
            jobs.c.state.in_(states), jobs.c.backend == RUNPOD,
            jobs.c.created_at <= created_before, others,
        )  # fmt: skip
        note = f"Waiting: {reason}" if reason else "Waiting"
        statement = (
            update(jobs)
            .where(where)
            .values(waiting_for=reason, seq=jobs.c.seq + 1)
            .returning(jobs.c.id, jobs.c.seq, jobs.c.state)
        )
        any_ = select(jobs.c.id).where(where).limit(1)
        if self._database.read(lambda connection: connection.scalar(any_)) is None:
            return 0
        return self._database.write(work)

    def waits_since(self, states: Collection[JobState]) -> int | None:
        """When the oldest of them was made; None when there is none."""
        statement = select(func.min(jobs.c.created_at)).where(
            jobs.c.state.in_(states), jobs.c.backend == RUNPOD
        )
        oldest = self._database.read(lambda connection: connection.scalar(statement))
        return None if oldest is None else int(oldest)

    def look_at_all(self, now: int) -> int:
        """Every job that RunPod has, or may have, falls due."""
        statement = (
            update(jobs)
            .where(jobs.c.state.not_in(FINAL), jobs.c.backend == RUNPOD)
            .values(due_at=now, wake=True)
        )
        return int(self._database.write(lambda connection: connection.execute(statement).rowcount))

    def count_send(self, now: int, most: int | None) -> bool:
        """Counts one job more as sent to RunPod today (UTC); False when `most` were."""
        if most == 0:
            return False
        first = self._insert(sends).values(day=_day(now), jobs=1)
        statement = first.on_conflict_do_update(
            index_elements=[sends.c.day],
            set_={"jobs": sends.c.jobs + 1},
            where=None if most is None else sends.c.jobs < most,
        ).returning(sends.c.jobs)
        counted: Sequence[int] = self._database.write(
            lambda connection: connection.scalars(statement).all()
        )
        return bool(counted)

    def take_back_send(self, now: int) -> None:
        """What was counted did not happen."""
        statement = (
            update(sends)
            .where(sends.c.day == _day(now), sends.c.jobs > 0)
            .values(jobs=sends.c.jobs - 1)
        )
        self._database.write(lambda connection: connection.execute(statement))


def _day(now: int) -> str:
    return datetime.fromtimestamp(now / 1000, UTC).date().isoformat()
