"""The application."""

import orders
import reports
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from models import db
from payments import Declined

from dbscope.migrate import Migrations

migrations = Migrations(db, "alembic.ini")
app = FastAPI()
db.install(app)
app.include_router(orders.router)
app.include_router(reports.router)
db.watch.mount(app, auth=lambda request: True, hosts=["127.0.0.1"], migrations=migrations)


@app.exception_handler(Declined)
async def declined(request: Request, error: Declined) -> JSONResponse:
    return JSONResponse({"ok": False})
