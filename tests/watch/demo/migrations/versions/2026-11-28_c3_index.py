"""Lines are found by their order

Revision ID: c90b6f2d11e7
Revises: 8e44b1f0c3aa
Create Date: 2026-11-28 11:05:47.900000
"""

from alembic import op

revision = "c90b6f2d11e7"
down_revision = "8e44b1f0c3aa"


def upgrade() -> None:
    op.create_index("order_lines_order_id", "order_lines", ["order_id"])
