"""The tables, the same on SQLite and PostgreSQL. Times are milliseconds since 1970, UTC."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

from gateway.job import FINAL, JobState
from gateway.ledger import LineKind


class Seed(TypeDecorator[int]):
    """Seeds go to 2**64 - 1, which neither database's integers hold."""

    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        return None if value is None else int(value)


def _listed(states: Any) -> str:
    return ", ".join(sorted(f"'{state}'" for state in states))


_Json = JSON(none_as_null=True)

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("owner", Text, nullable=False),
    Column("request_id", Text),
    Column("body_hash", String(64), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Column("lease_owner", Text),
    Column("fence", BigInteger, nullable=False),
    Column("wake", Boolean(create_constraint=False), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("cancel_asked_at", BigInteger),
    Column("deadline_at", BigInteger),
    Column("backend", String(16), nullable=False),
    Column("endpoint_id", Text),
    Column("remote_id", Text),
    Column("hook_token_hash", String(64)),
    Column("waiting_for", Text),
    Column("service", Text),
    Column("prompt", Text),
    Column("model", Text),
    Column("ratio", String(8)),
    Column("seed", Seed),
    Column("steps", Integer),
    Column("cfg", Float),
    Column("input", _Json),
    Column("pictures", _Json),
    Column("input_key", Text),
    Column("output_key", Text),
    Column("result_key", Text),
    Column("results", _Json),
    Column("width", Integer),
    Column("height", Integer),
    Column("sha256", String(64)),
    Column("pixels_changed_outside", BigInteger),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("error_retryable", Boolean(create_constraint=False)),
    Column("phase", Text),
    Column("percent", Integer),
    Column("timings", _Json),
    Column("webhook_url", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("deleted_at", BigInteger),
    UniqueConstraint("owner", "request_id", name="jobs_request"),
    CheckConstraint(f"state IN ({_listed(JobState)})", name="jobs_known_state"),
    CheckConstraint(
        f"(finished_at IS NOT NULL) = (state IN ({_listed(FINAL)}))", name="jobs_ended"
    ),
    Index("jobs_due", "state", "backend", "due_at"),
    Index("jobs_of_owner", "owner", "state"),
    Index("jobs_finished", "finished_at"),
    Index("jobs_hook", "hook_token_hash"),
)

job_events = Table(
    "job_events",
    metadata,
    Column("job_id", String(36), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("note", Text, nullable=False),
)

hook_deliveries = Table(
    "hook_deliveries",
    metadata,
    Column("job_id", String(36), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("url", Text, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("ended_at", BigInteger),
    Column("answer", Text),
    Index("hook_deliveries_due", "ended_at", "due_at"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("owner", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("uploads_expiry", "expires_at"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("name", Text, primary_key=True),
    Column("key_hash", String(64), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("first_seen_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("gpu", Text),
)

sends = Table(
    "sends",
    metadata,
    # Of UTC, as 2026-11-24: jobs sent to RunPod on that day.
    Column("day", String(10), primary_key=True),
    Column("jobs", Integer, nullable=False),
)

ledger = Table(
    "ledger",
    metadata,
    Column("owner", Text, primary_key=True),
    # From 1, without gaps: who writes a line has seen the one before it.
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("kind", String(8), nullable=False),
    Column("amount", BigInteger, nullable=False),
    # After this line.
    Column("balance", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    # Not a foreign key: the books outlive the jobs.
    Column("job_id", String(36)),
    Column("request_id", Text),
    Column("package", Text),
    UniqueConstraint("job_id", "kind", name="ledger_job"),
    UniqueConstraint("owner", "request_id", name="ledger_request"),
    Index(
        "ledger_ends", "job_id", unique=True,
        sqlite_where=text("kind IN ('settle', 'release')"),
        postgresql_where=text("kind IN ('settle', 'release')"),
    ),
    CheckConstraint(f"kind IN ({_listed(LineKind)})", name="ledger_known_kind"),
    CheckConstraint("balance >= 0 AND held >= 0", name="ledger_never_negative"),
)  # fmt: skip
