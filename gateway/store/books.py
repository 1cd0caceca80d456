"""The books of credits: lines are only ever added, and `gateway.ledger` says which."""

from sqlalchemy import ColumnElement, Connection, Select, and_, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from gateway.errors import RequestIdTaken
from gateway.job import Job
from gateway.ledger import (
    Account,
    Line,
    LineKind,
    line_of_change,
    line_of_new,
    opening,
    purchase,
)
from gateway.lifecycle import Change
from gateway.store.database import Database
from gateway.store.tables import ledger


class Books:
    """`hold` and `end` write within the transaction of the job's own change. `is_on` says whether
    new jobs cost; what is held already is settled or released either way."""

    def __init__(self, database: Database, is_on: bool = True) -> None:
        self._database = database
        self.is_on = is_on
        self._insert = sqlite.insert if database.is_sqlite else postgresql.insert

    def hold(self, connection: Connection, job: Job) -> None:
        """Raises NotEnoughCredits."""
        if self.is_on:
            self._add(connection, job.owner, line_of_new(job), job.created_at)

    def end(self, connection: Connection, change: Change, job: Job) -> None:
        """`job` is as the change has left it. In a transaction of several jobs, those of one owner
        come after those of another in the order of their names: each owner's books stay locked."""
        if not change.is_final:
            return
        held = connection.scalar(_cost(job.id))
        if (line := line_of_change(change, held or 0)) is not None:
            self._add(connection, job.owner, line, job.updated_at)

    def account(self, owner: str) -> Account:
        return self._database.read(lambda connection: _latest(connection, owner)) or Account()

    def cost(self, job_id: str) -> int | None:
        """What was held for the job; None for one that was made while edits were free."""
        return self._database.read(lambda connection: connection.scalar(_cost(job_id)))

    def buy(
        self, owner: str, package: str, request_id: str | None, now: int
    ) -> tuple[Account, bool]:
        """How the account stands then, and whether the purchase is new: the same request id of the
        same owner buys once. Raises InvalidRequest, and RequestIdTaken when that one was for
        another package."""
        line = purchase(package, request_id)

        def work(connection: Connection) -> tuple[Account, bool]:
            account = self._lock(connection, owner, now)
            same = and_(ledger.c.owner == owner, ledger.c.request_id == request_id)
            there = connection.scalar(select(ledger.c.package).where(same)) if request_id else None
            if there is None:
                return _write(connection, owner, account, line, now), True
            if there != package:
                raise RequestIdTaken(
                    f"request_id {request_id!r} was used to buy {there!r}; send a new one"
                )
            return account, False

        return self._database.write(work)

    def _add(self, connection: Connection, owner: str, line: Line, now: int) -> None:
        _write(connection, owner, self._lock(connection, owner, now), line, now)

    def _lock(self, connection: Connection, owner: str, now: int) -> Account:
        """Until the transaction ends nobody else writes the owner's lines: on PostgreSQL by its
        first line, which is there as long as the account; SQLite has one writer."""
        first = select(ledger.c.seq).where(_of(owner), ledger.c.seq == 1).with_for_update()
        if connection.scalar(first) is None:
            values = _values(owner, opening(), Account(1), now)
            connection.execute(self._insert(ledger).values(values).on_conflict_do_nothing())
            connection.scalar(first)
        # A statement of its own, which sees what was committed while the lock was waited for.
        account = _latest(connection, owner)
        assert account is not None
        return account


def _write(connection: Connection, owner: str, account: Account, line: Line, now: int) -> Account:
    after = account.after(line)
    connection.execute(insert(ledger).values(_values(owner, line, after, now)))
    return after


def _values(owner: str, line: Line, after: Account, now: int) -> dict[str, object]:
    return {
        "owner": owner, "seq": after.seq, "at": now, "kind": line.kind, "amount": line.amount,
        "balance": after.balance, "held": after.held, "job_id": line.job_id,
        "request_id": line.request_id, "package": line.package,
    }  # fmt: skip


def _latest(connection: Connection, owner: str) -> Account | None:
    statement = (
        select(ledger.c.seq, ledger.c.balance, ledger.c.held)
        .where(_of(owner))
        .order_by(ledger.c.seq.desc())
        .limit(1)
    )
    row = connection.execute(statement).one_or_none()
    return None if row is None else Account(*row)


def _cost(job_id: str) -> Select[int]:
    return select(-ledger.c.amount).where(ledger.c.job_id == job_id, ledger.c.kind == LineKind.HOLD)


def _of(owner: str) -> ColumnElement[bool]:
    return ledger.c.owner == owner
