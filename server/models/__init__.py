"""All models; to import them is to have their tables in `Base.metadata`."""

from dbscope.once import once_table
from dbscope.outbox import outbox_table
from server.db.database import Base, db
from server.models.items import Item
from server.models.logins import Login
from server.models.orders import Order, OrderLine
from server.models.stock import Stock
from server.models.users import User

once_table(Base.metadata)  # the keys of requests that are done once
outbox_table(Base.metadata)  # the messages that are still to be published

__all__ = ["Base", "Item", "Login", "Order", "OrderLine", "Stock", "User", "db"]
