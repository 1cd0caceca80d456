"""Between rows and jobs, and the one statement that changes a job's state."""

import functools
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, insert, select, update

from gateway.job import Job, JobState
from gateway.lifecycle import Change
from gateway.store.tables import hook_deliveries, job_events, jobs

FIELDS = tuple(field.name for field in fields(Job))
COLUMNS = [jobs.c[name] for name in FIELDS]


def apply_change(connection: Connection, change: Change) -> Job | None:
    """The change, its event and the hook that falls due; None when the row has moved on."""
    values = dict(change.values)
    if change.new_state in (JobState.SENT, JobState.RUNNING) and "due_at" in values:
        # A hint that came while the row was held is not to be lost; the next claim answers it.
        values |= {"due_at": case((jobs.c.wake, values["updated_at"]), else_=values["due_at"])}
    statement = (
        update(jobs)
        .where(
            jobs.c.id == change.job_id,
            jobs.c.state == change.state,
            jobs.c.fence == change.fence,
        )
        .values(**values, seq=jobs.c.seq + 1)
        .returning(*COLUMNS)
    )
    row = connection.execute(statement).one_or_none()
    if row is None:
        return None
    job = job_of(row)
    if change.note is not None:
        write_event(connection, job.id, job.seq, job.updated_at, job.state, change.note)
    if change.is_final and job.webhook_url is not None:
        connection.execute(
            insert(hook_deliveries).values(
                job_id=job.id, url=job.webhook_url, due_at=job.updated_at, lease_until=0, attempt=0
            )
        )
    return job


def write_event(
    connection: Connection, job_id: str, seq: int, at: int, state: JobState, note: str
) -> None:
    row = {"job_id": job_id, "seq": seq, "at": at, "state": state, "note": note}
    connection.execute(insert(job_events).values(row))


def of_request(owner: str, request_id: str | None) -> ColumnElement[bool]:
    return and_(jobs.c.owner == owner, jobs.c.request_id == request_id)


@functools.cache
def _all_columns() -> Select[Any]:
    return select(*COLUMNS)


def selected(where: ColumnElement[bool]) -> Select[Any]:
    return _all_columns().where(where)


def one_job(connection: Connection, where: ColumnElement[bool], lock: bool = False) -> Job | None:
    statement = selected(where)
    row = connection.execute(statement.with_for_update() if lock else statement).one_or_none()
    return None if row is None else job_of(row)


def job_of(row: Sequence[Any]) -> Job:
    values = dict(zip(FIELDS, row, strict=True))
    return Job(**{**values, "state": JobState(values["state"])})
