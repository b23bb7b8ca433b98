"""What clients are told when the database refuses."""

from fastapi import Request
from fastapi.responses import JSONResponse


async def conflict(_request: Request, _error: Exception) -> JSONResponse:
    """Answer 409, also when it was COMMIT that failed: nothing is stored then."""
    return JSONResponse({"detail": "This conflicts with what is stored."}, status_code=409)
