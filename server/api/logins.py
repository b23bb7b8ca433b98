from fastapi import APIRouter, HTTPException, Request

from server.api.problems import responses
from server.crud.logins import logins
from server.models import User
from server.schemas.logins import LoginCreate
from server.schemas.users import UserOut
from server.security import limits
from server.security.users import log_in, log_out

router = APIRouter(tags=["logins"])


@router.post("/login", response_model=UserOut, responses=responses(400, 401, 403, 413, 422, 429))
async def login(request: Request, data: LoginCreate) -> User:
    """Log in: the answer brings a cookie."""
    await limits.count_attempt(request, data.email)
    user = await logins.authenticate(data.email, data.password.get_secret_value())
    if user is None:
        raise HTTPException(401, "There is no user with this address and this password.")
    await log_in(request, user)
    return user


@router.post("/logout", status_code=204, responses=responses(403))
async def logout(request: Request) -> None:
    """Log out, and make the cookie worthless."""
    await log_out(request)
