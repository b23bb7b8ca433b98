"""What can be done with users."""

from sqlalchemy import select

from dbscope.crud import AsyncCRUD
from server.config import settings
from server.db.database import db
from server.models import User
from server.schemas.fields import CENT
from server.schemas.users import UserCreate
from server.security import passwords


class Users(AsyncCRUD[User]):
    async def register(self, data: UserCreate) -> User:
        """Store a new user; before anything else in a transaction, for hashing is slow."""
        return await self.add(data, await passwords.hashed(data.password.get_secret_value()))

    async def add(self, data: UserCreate, password_hash: str) -> User:
        """Store a new user, with a credit to begin with."""
        return await self.create(
            data.model_dump(exclude={"password"}),
            password_hash=password_hash,
            credit=settings.welcome_credit.quantize(CENT),
        )

    async def by_email(self, email: str) -> User | None:
        """Return the user who has this address."""
        return (await db.session.scalars(select(User).where(User.email == email))).one_or_none()

    async def locked(self, user_id: int) -> User:
        """Return the user, whose credit nobody else can change until the end."""
        user = await self.get(user_id, with_for_update=True, populate_existing=True)
        assert user is not None  # the order comes from somebody who is logged in
        return user


users = Users(db)
