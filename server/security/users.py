"""Who is asking."""

from typing import Annotated

from fastapi import Depends, HTTPException, Request

from server.crud.logins import logins
from server.models import User

LOGIN = "login"  # the name of the token in the session


async def visitor(request: Request) -> User | None:
    """Return the user, or None for a stranger; a stranger costs no statement."""
    token = request.session.get(LOGIN)
    return await logins.user_of(token) if isinstance(token, str) else None


async def log_in(request: Request, user: User) -> None:
    """Begin a session of its own: nothing that was in the cookie before is taken over."""
    await log_out(request)
    request.session[LOGIN] = await logins.open(user)


async def log_out(request: Request) -> None:
    """End the session; a copy of the cookie is worth nothing from now on."""
    token = request.session.get(LOGIN)
    request.session.clear()
    if isinstance(token, str):
        await logins.close(token)


Visitor = Annotated[User | None, Depends(visitor)]


async def customer(user: Visitor) -> User:
    """Return the user, or answer 401."""
    if user is None:
        raise HTTPException(401, "Log in first: POST /login.")
    return user


Customer = Annotated[User, Depends(customer)]
