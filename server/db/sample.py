"""Something to look at, for a shop that was just started."""

import secrets
from decimal import Decimal

from anyio.to_thread import run_sync
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from dbscope import ConfigurationError
from server.config import settings
from server.crud.items import items
from server.crud.stock import stocks
from server.crud.users import users
from server.db.database import db
from server.models import User
from server.schemas.items import ItemCreate
from server.schemas.users import UserCreate
from server.security import passwords

DEMO = {"email": "demo@example.com", "name": "Demo", "password": "demo-demo"}
KEEPER = {"email": "keeper@example.com", "name": "The keeper of the shop"}
GOODS = [
    ("Teapot", "Stoneware, holds a litre, pours without a drop.", "34.50", 12),
    ("Cup", "Goes with the teapot.", "8.90", 60),
    ("Kettle", "Whistles, and stops when asked.", "49.00", 7),
    ("Green tea", "From this spring, 100 g.", "12.40", 40),
    ("Black tea", "Strong, 250 g.", "9.80", 35),
    ("Honey", "From the hill behind the house.", "7.20", 25),
    ("Spoon", "Cherry wood.", "3.10", 80),
    ("Tray", "Ash, carries six cups.", "27.00", 9),
    ("Tea towel", "Linen, with the shop's name on it.", "11.50", 30),
    ("Last biscuit", "There is only one.", "0.90", 1),
]


async def fill() -> None:
    """Store users and goods, if there are no users yet."""
    async with db.scope(readonly=True):
        if await users.exists():
            return
    nobodys = secrets.token_urlsafe(32)  # nobody logs in as the keeper
    people = [UserCreate.model_validate(each) for each in (DEMO, {**KEEPER, "password": nobodys})]
    hashes = [await passwords.hashed(each.password.get_secret_value()) for each in people]
    try:
        async with db.scope():
            _, keeper = [await users.add(*each) for each in zip(people, hashes, strict=True)]
            await store(keeper)
    except IntegrityError:
        pass  # another worker was first


def demo_user() -> tuple[str, str] | None:
    """Tell what is wrong with this database in production, for `dbscope doctor` and for the start.

    Returns
    -------
    tuple[str, str] or None
        What is wrong, and what to do about it.
    """
    if not settings.in_production:
        return None
    with db.sync.scope(readonly=True):
        query = select(User.password_hash).where(User.email == DEMO["email"])
        stored = db.sync.scalar(query)
    if stored is None or not passwords.verify(DEMO["password"], stored):
        return None
    wrong = f"This database is one of development: everybody can log in as {DEMO['email']}."
    return wrong, "Delete that user, or use another database."


async def refuse_demo() -> None:
    """Refuse to serve strangers from a database whose demo user they can log in as.

    Raises
    ------
    dbscope.ConfigurationError
        It was filled in development.
    """
    if (wrong := await run_sync(demo_user)) is not None:
        raise ConfigurationError(" ".join(wrong))


async def store(keeper: User) -> None:
    """Store the goods."""
    for name, description, price, quantity in GOODS:
        data = ItemCreate(name=name, description=description, price=Decimal(price))
        item = await items.create(data, owner_id=keeper.id)
        await stocks.add(item.id, quantity)
