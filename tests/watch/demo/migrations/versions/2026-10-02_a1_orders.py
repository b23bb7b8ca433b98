"""Orders and their lines

Revision ID: 5d1c0a9e7b21
Revises:
Create Date: 2026-10-02 09:12:11.120000
"""

import sqlalchemy as sa
from alembic import op

revision = "5d1c0a9e7b21"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "orders",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("customer", sa.String(50), nullable=False),
    )
    op.create_table(
        "order_lines",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("order_id", sa.Integer(), sa.ForeignKey("orders.id"), nullable=False),
        sa.Column("sku", sa.String(20), nullable=False),
    )
