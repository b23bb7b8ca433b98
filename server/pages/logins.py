"""Registering, logging in and out."""

import re
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy.exc import IntegrityError

from server.config import settings
from server.crud.logins import logins
from server.crud.users import users
from server.db.database import db
from server.db.sample import DEMO
from server.models import User
from server.pages.forms import Form, read
from server.pages.page import page, see_other
from server.schemas.logins import LoginCreate
from server.schemas.users import UserCreate
from server.security import limits
from server.security.users import Visitor, log_in, log_out

router = APIRouter(prefix="/shop")
# A browser reads //evil and /\evil as other sites; what is not surely a path of ours is none.
OUR_PATH = re.compile(r"/(?:shop/[a-z0-9/]*)?(?:\?[\w=&%.~-]*)?", re.ASCII)


@router.get("/login")
async def show_login(request: Request, user: Visitor) -> Response:
    """Show the form to log in, to who is not."""
    return see_other(next_path(request)) if user else login_page(request, Form(), 200)


@router.post("/login")
async def login(request: Request) -> Response:
    """Log in, and go on to where one was on the way to."""
    data, form = await read(request, LoginCreate)
    if data is None:
        return login_page(request, form, 422)
    await limits.count_attempt(request, data.email)
    user = await logins.authenticate(data.email, data.password.get_secret_value())
    if user is None:
        form.error = "There is no user with this address and this password."
        return login_page(request, form, 401)
    return await welcome(request, user)


@router.get("/register")
async def show_register(request: Request, user: Visitor) -> Response:
    """Show the form to register, to who has not."""
    return see_other(next_path(request)) if user else register_page(request, Form(), 200)


@router.post("/register")
async def register(request: Request) -> Response:
    """Register, and be logged in."""
    data, form = await read(request, UserCreate)
    if data is None:
        return register_page(request, form, 422)
    await limits.count_registration(request)
    await db.release()  # hashing is slow on purpose, and no transaction has to wait for it
    try:
        user = await users.register(data)
    except IntegrityError:  # nothing else is done in this transaction; a 409 rolls it back
        form.errors["email"] = "Somebody has registered with this address; is it you? Log in."
        return register_page(request, form, 409)
    return await welcome(request, user)


@router.post("/logout")
async def logout(request: Request) -> Response:
    """Log out, and make the cookie worthless."""
    await log_out(request)
    return see_other("/")


async def welcome(request: Request, user: User) -> Response:
    """Log the user in, and go on."""
    await log_in(request, user)
    return see_other(next_path(request))


def next_path(request: Request) -> str:
    """Return where to go on: a path of ours, whatever the link says."""
    path = request.query_params.get("next", "")
    return path if OUR_PATH.fullmatch(path) else "/"


def login_page(request: Request, form: Form, status: int) -> Response:
    """Return the form to log in."""
    demo = DEMO if settings.wants_sample_data else None
    shown = {"form": form, "query": query_of(request), "demo": demo}
    return page(request, "login.html", shown, status)


def register_page(request: Request, form: Form, status: int) -> Response:
    """Return the form to register."""
    shown = {"form": form, "query": query_of(request), "credit": settings.welcome_credit}
    return page(request, "register.html", shown, status)


def query_of(request: Request) -> str:
    """Return the query that carries the next path on, or nothing."""
    path = next_path(request)
    return "" if path == "/" else "?" + urlencode({"next": path})
