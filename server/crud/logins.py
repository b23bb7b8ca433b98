"""Who is logged in."""

import hashlib
import secrets
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select

from dbscope.crud import AsyncCRUD
from server.config import settings
from server.crud.users import users
from server.db.database import db
from server.models import Login, User
from server.security import passwords


class Logins(AsyncCRUD[Login]):
    async def open(self, user: User) -> str:
        """Log the user in, and return the token for the cookie."""
        token = secrets.token_urlsafe(32)
        await self.create(
            {
                "token_hash": hash_of(token),
                "user_id": user.id,
                "expires_at": datetime.now(UTC) + timedelta(days=settings.login_days),
            }
        )
        await db.execute(delete(Login).where(Login.expires_at < datetime.now(UTC)))
        return token

    async def close(self, token: str) -> None:
        """Log out: the cookie is worth nothing from now on, whoever has a copy of it."""
        await db.execute(delete(Login).where(Login.token_hash == hash_of(token)))

    async def user_of(self, token: str) -> User | None:
        """Return who has logged in with this token."""
        query = select(User).join(Login, Login.user_id == User.id)
        query = query.where(
            Login.token_hash == hash_of(token), Login.expires_at > datetime.now(UTC)
        )
        return (await db.session.scalars(query)).one_or_none()

    async def authenticate(self, email: str, password: str) -> User | None:
        """Return the user, if that is the password; without one it takes as long."""
        user = await users.by_email(email)
        await db.release()  # what comes is slow on purpose, and no transaction has to wait for it
        known = await passwords.matches(password, user.password_hash if user else None)
        return user if known else None


def hash_of(token: str) -> str:
    """Return what is stored of a token; it is random, so a plain hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


logins = Logins(db)
