"""Whether a block is opened in a request that no middleware of ours is around.

Such a block is stored when it is left, and stays so if the request fails afterwards: nobody has
called `install`. It is asked only where a block has to open a scope for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbscope.errors import ScopeMissing
from dbscope.unit import serving
from dbscope.unit.current import current

if TYPE_CHECKING:
    from dbscope.unit.source import Source


def check(source: Source, where: object) -> None:
    """Look whether a block that has no scope around it is opened in a request.

    Args:
        source: the database.
        where: the block.

    Raises:
        ScopeMissing: it is, and no application around it has our middleware.
    """
    if current.get() is not None:
        return  # of a request that has ended
    requests = [scope for scope in serving.scopes() if scope["type"] == "http"]
    if requests and not any(_has_middleware(each.get("app")) for each in requests):
        path = f"{requests[0].get('method')} {requests[0].get('path')}"
        raise ScopeMissing(
            f"The block opened at {where} is in {path}, and nothing of {source} is around that: it "
            "would be stored when it is left, even if the request fails afterwards. Call "
            "`db.install(app)`; or give it a scope of its own, if that is what you want."
        )


def _has_middleware(app: Any) -> bool:
    """Tell whether it is ours that another middleware, whose code this is then, is outside of."""
    listed: Any = getattr(app, "user_middleware", ())
    return any(getattr(each.cls, "opens_scopes", False) for each in listed)
