"""What is done once, and what is to be published

Revision ID: 772c83efb277
Revises: c39cc06f501d
Create Date: 2026-11-29 13:44:09.281013
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

# revision identifiers, used by Alembic.
revision: str = "772c83efb277"
down_revision: str | Sequence[str] | None = "c39cc06f501d"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

BYTES = sa.LargeBinary().with_variant(sa.LargeBinary(length=2**32 - 1), "mysql", "mariadb")
MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "dbscope_once",
        sa.Column("id", sa.String(length=64), nullable=False, comment="SHA-256 of the key"),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), comment="SHA-256 of the input"),
        sa.Column("attempt", sa.String(length=32), nullable=False, comment="who wrote this row"),
        sa.Column("result", BYTES),
        sa.Column("created_at", sa.DateTime(), nullable=False, comment="UTC"),
        sa.Column("expires_at", sa.DateTime(), nullable=False, comment="UTC"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dbscope_once")),
    )
    op.create_index("ix_dbscope_once_expires_at", "dbscope_once", ["expires_at"])
    op.create_table(
        "dbscope_outbox",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("uid", sa.String(length=32), nullable=False, comment="the same at each delivery"),
        sa.Column("topic", sa.String(length=255), nullable=False),
        sa.Column(
            "key",
            sa.String(length=255),
            comment="messages of one key are relayed in their order",
        ),
        sa.Column("body", BYTES, nullable=False),
        sa.Column("content_type", sa.String(length=100), nullable=False),
        sa.Column("headers", sa.JSON(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False, comment="UTC"),
        sa.Column("available_at", MOMENT, nullable=False, comment="UTC; not tried before"),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text()),
        sa.Column("dead_at", MOMENT, comment="UTC; it failed too often"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dbscope_outbox")),
    )
    op.create_index("ix_dbscope_outbox_due", "dbscope_outbox", ["dead_at", "available_at"])
    op.create_index("ix_dbscope_outbox_key", "dbscope_outbox", ["key", "id"])


def downgrade() -> None:
    op.drop_table("dbscope_outbox")
    op.drop_table("dbscope_once")
