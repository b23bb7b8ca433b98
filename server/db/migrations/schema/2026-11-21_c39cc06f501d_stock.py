"""Stock

Revision ID: c39cc06f501d
Revises: 612ee4cd2266
Create Date: 2026-11-21 10:07:24.993098
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

# revision identifiers, used by Alembic.
revision: str = "c39cc06f501d"
down_revision: str | Sequence[str] | None = "612ee4cd2266"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "stock",
        sa.Column("item_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("bought", sa.BigInteger(), nullable=False),
        sa.Column("remaining", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("remaining >= 0", name=op.f("ck_stock_remaining")),
        sa.ForeignKeyConstraint(
            ["item_id"], ["items.id"], name=op.f("fk_stock_item_id_items"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("item_id", name=op.f("pk_stock")),
    )


def downgrade() -> None:
    op.drop_table("stock")
