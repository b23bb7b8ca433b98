"""The application: `python -m server` runs it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from logging.config import dictConfig

from fastapi import Depends, FastAPI
from fastapi.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from dbscope import DBSessionMiddleware
from server import events, live, logs, mail, pages, sentry
from server.api import docs, health, items, logins, orders, problems, stock, users, watch
from server.config import settings
from server.db import sample
from server.db.database import db, keep_private, migrations
from server.security.cookies import SignedSessionMiddleware
from server.security.headers import HeadersMiddleware, usual
from server.security.same_origin import refuse_other_sites

dictConfig(logs.CONFIG)
sentry.start()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Bring the tables up to date at the start; close all connections at the end."""
    mail.check()
    events.check()
    keep_private(db.url)
    async with db.lifespan(app):
        await migrations.at_start(settings.migrations)
        if settings.wants_sample_data:
            await sample.fill()
        if settings.in_production:
            await sample.refuse_demo()
        async with events.relayed(), live.board.running():
            yield


app = FastAPI(
    title="dbscope reference server",
    lifespan=lifespan,
    openapi_url="/openapi.json" if settings.wants_docs else None,
    docs_url=None,  # those of FastAPI load scripts from elsewhere
    redoc_url=None,
    middleware=[  # outermost first
        Middleware(sentry.SentryMiddleware),  # sees every exception, a failed COMMIT included
        Middleware(HeadersMiddleware, headers=usual(settings.hsts_days)),
        Middleware(TrustedHostMiddleware, allowed_hosts=settings.allowed_hosts or ["*"]),
        Middleware(  # its headers are on every answer, else a browser hides the error from scripts
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_credentials=True,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["Content-Type", "Idempotency-Key", "If-Match", "If-None-Match"],
            expose_headers=["ETag", "Idempotent-Replayed", "Retry-After"],
        ),
        Middleware(  # a 500 is an answer like all others from here on outwards
            ServerErrorMiddleware,
            handler=problems.failed,
        ),
        Middleware(  # outside of the transaction: a COMMIT that failed sets no cookie
            SignedSessionMiddleware,
            keys=settings.secret_keys,
            days=settings.login_days,
            https=settings.in_production,
        ),
        Middleware(DBSessionMiddleware),  # one transaction, committed before the answer leaves
    ],
    dependencies=[Depends(refuse_other_sites)],
    exception_handlers=dict(problems.HANDLERS),
    responses=problems.responses(500, 503),
    max_body_size=1_000_000,  # bytes; more is a 413 before it is read
)
app.state.doctor = [sample.demo_user]  # `dbscope doctor` asks it, too
problems.document(app)
for resource in (health, users, logins, items, stock, orders):
    app.include_router(resource.router)
app.include_router(pages.router)
if settings.wants_docs:
    docs.install(app)
if settings.wants_watch:
    watch.install(app)
