"""All models; to import them is to have their tables in `Base.metadata`."""

from server.db.database import Base, db
from server.models.items import Item
from server.models.logins import Login
from server.models.orders import Order, OrderLine
from server.models.stock import Stock
from server.models.users import User

__all__ = ["Base", "Item", "Login", "Order", "OrderLine", "Stock", "User", "db"]
