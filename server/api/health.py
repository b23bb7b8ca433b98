from fastapi import APIRouter

from server.api.problems import responses
from server.db.database import db

router = APIRouter(tags=["health"])


@router.get("/healthz", responses=responses(503))
async def healthz() -> dict[str, str]:
    """Answer 200 if the database answers; else `db.ping()` raises, which becomes a 503."""
    await db.ping()
    return {"status": "ok"}
