"""Hooks that are to be delivered: written with the end of their job, so that none is lost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update

from gateway.store.database import Database
from gateway.store.tables import hook_deliveries as hooks


@dataclass(frozen=True, slots=True)
class Delivery:
    """`attempt` counts the tries that are over; `lease_until` is this claim's."""

    job_id: str
    url: str
    attempt: int
    lease_until: int


class Hooks:
    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, now: int, lease_until: int, most: int) -> list[Delivery]:
        """Up to `most` that are due, held until then; no two processes get the same one."""
        due = (hooks.c.ended_at.is_(None), hooks.c.due_at <= now, hooks.c.lease_until <= now)
        any_ = select(hooks.c.job_id).where(*due).limit(1)
        if self._database.read(lambda connection: connection.scalar(any_)) is None:
            return []
        chosen = (
            select(hooks.c.job_id).where(*due).order_by(hooks.c.due_at).limit(most)
            .with_for_update(skip_locked=True).cte("chosen")
            .prefix_with("MATERIALIZED", dialect="postgresql")
        )  # fmt: skip
        statement = (
            update(hooks)
            .where(hooks.c.job_id.in_(select(chosen.c.job_id)))
            .values(lease_until=lease_until)
            .returning(hooks.c.job_id, hooks.c.url, hooks.c.attempt, hooks.c.lease_until)
        )
        rows = self._database.write(lambda connection: connection.execute(statement).all())
        return [Delivery(*row) for row in rows]

    def settle(
        self, delivery: Delivery, answer: str, due_at: int, ended_at: int | None = None
    ) -> bool:
        """One try is over; False when another process has taken it over."""
        statement = (
            update(hooks)
            .where(
                hooks.c.job_id == delivery.job_id,
                hooks.c.lease_until == delivery.lease_until,
                hooks.c.attempt == delivery.attempt,
                hooks.c.ended_at.is_(None),
            )
            .values(
                attempt=delivery.attempt + 1, answer=answer, due_at=due_at, ended_at=ended_at,
                lease_until=0,
            )
        )  # fmt: skip
        return bool(self._database.write(lambda connection: connection.execute(statement).rowcount))

    def free_leases(self) -> None:
        """For the only process there is, at its start."""
        statement = update(hooks).where(hooks.c.lease_until > 0).values(lease_until=0)
        self._database.write(lambda connection: connection.execute(statement))

    def of(self, job_id: str) -> dict[str, Any] | None:
        """`attempts`, `answer`, `due_at`, `ended_at`; None where no hook was asked for, or the job
        has not ended."""
        columns = (hooks.c.attempt, hooks.c.answer, hooks.c.due_at, hooks.c.ended_at)
        statement = select(*columns).where(hooks.c.job_id == job_id)
        rows: Sequence[Any] = self._database.read(
            lambda connection: connection.execute(statement).all()
        )
        if not rows:
            return None
        names = ("attempts", "answer", "due_at", "ended_at")
        return dict(zip(names, rows[0], strict=True))
