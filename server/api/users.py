from fastapi import APIRouter, Request

from server.api.problems import responses
from server.crud.users import users
from server.models import User
from server.schemas.users import UserCreate, UserOut
from server.security import limits
from server.security.users import Customer

router = APIRouter(prefix="/users", tags=["users"])


@router.post(
    "", status_code=201, response_model=UserOut, responses=responses(400, 403, 409, 413, 422, 429)
)
async def register(request: Request, data: UserCreate) -> User:
    """Register a user; 409 says that the address is taken."""
    await limits.count_registration(request)
    return await users.register(data)


@router.get("/me", response_model=UserOut, responses=responses(401))
async def get_me(user: Customer) -> User:
    """Show who is logged in."""
    return user
