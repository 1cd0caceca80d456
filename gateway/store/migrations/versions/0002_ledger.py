"""The books of credits."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_ENDS = sa.text("kind IN ('settle', 'release')")


def upgrade() -> None:
    op.create_table(
        "ledger",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("balance", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("package", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "kind IN ('buy', 'hold', 'release', 'settle', 'start')", name="ledger_known_kind"
        ),
        sa.CheckConstraint("balance >= 0 AND held >= 0", name="ledger_never_negative"),
        sa.PrimaryKeyConstraint("owner", "seq"),
        sa.UniqueConstraint("job_id", "kind", name="ledger_job"),
        sa.UniqueConstraint("owner", "request_id", name="ledger_request"),
    )
    op.create_index(
        "ledger_ends", "ledger", ["job_id"], unique=True,
        sqlite_where=_ENDS, postgresql_where=_ENDS,
    )  # fmt: skip
