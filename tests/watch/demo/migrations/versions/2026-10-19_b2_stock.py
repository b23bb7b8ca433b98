"""Stock, which every line must be of

Revision ID: 8e44b1f0c3aa
Revises: 5d1c0a9e7b21
Create Date: 2026-10-19 15:40:02.480000
"""

import sqlalchemy as sa
from alembic import op

revision = "8e44b1f0c3aa"
down_revision = "5d1c0a9e7b21"


def upgrade() -> None:
    op.create_table(
        "stock",
        sa.Column("sku", sa.String(20), primary_key=True),
        sa.Column("left", sa.Integer(), nullable=False),
    )
    with op.batch_alter_table("order_lines") as lines:
        lines.create_foreign_key(
            "order_lines_sku_fkey",
            "stock",
            ["sku"],
            ["sku"],
            deferrable=True,
            initially="DEFERRED",
        )
