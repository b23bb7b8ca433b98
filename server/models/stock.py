from sqlalchemy import BigInteger, CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from server.db.database import Base


class Stock(Base):
    """How many of an item were ever bought for the shop, and how many are left of them."""

    __tablename__ = "stock"
    __table_args__ = (CheckConstraint("remaining >= 0", name="remaining"),)

    item_id: Mapped[int] = mapped_column(
        ForeignKey("items.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    bought: Mapped[int] = mapped_column(BigInteger)
    remaining: Mapped[int] = mapped_column(BigInteger)
