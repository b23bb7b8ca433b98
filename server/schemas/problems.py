from pydantic import BaseModel


class InvalidField(BaseModel):
    """Where the request is wrong, and how; never what was sent there."""

    loc: list[str | int]
    msg: str


class Problem(BaseModel):
    """What is wrong, for programs (RFC 9457); sent as `application/problem+json`."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[InvalidField] | None = None
