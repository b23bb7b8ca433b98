from decimal import Decimal

from sqlalchemy import CheckConstraint, String
from sqlalchemy.orm import Mapped, mapped_column

from server.db.database import Base
from server.db.types import Money


class User(Base):
    __tablename__ = "users"
    __table_args__ = (CheckConstraint("credit >= 0", name="credit"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    password_hash: Mapped[str] = mapped_column(String(200))
    credit: Mapped[Decimal] = mapped_column(Money)
