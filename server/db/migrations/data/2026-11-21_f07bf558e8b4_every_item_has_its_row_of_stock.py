"""Every item has its row of stock

Revision ID: f07bf558e8b4
Revises:
Create Date: 2026-11-21 10:07:25.005058
"""

from collections.abc import Sequence

import sqlalchemy as sa

from dbscope.migrate import session

# revision identifiers, used by Alembic.
revision: str = "f07bf558e8b4"
down_revision: str | Sequence[str] | None = None
branch_labels: str | Sequence[str] | None = ("data",)
depends_on: str | Sequence[str] | None = "c39cc06f501d"


def upgrade() -> None:
    """Give a row to each item that was stored before there was a stock."""
    session().execute(
        sa.text(
            "INSERT INTO stock (item_id, bought, remaining) SELECT id, 0, 0 FROM items"
            " WHERE NOT EXISTS (SELECT 1 FROM stock WHERE stock.item_id = items.id)"
        )
    )


def downgrade() -> None:
    """Leave the rows: what came in since then is in them."""
