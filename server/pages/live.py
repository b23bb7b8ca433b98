"""How many are left, told to the page of an item as it changes."""

from typing import Annotated

import anyio
from fastapi import APIRouter, Depends, WebSocket, WebSocketException
from fastapi.websockets import WebSocketDisconnect

from server.crud.stock import stocks
from server.live import Changes, board
from server.pages.page import stock_words
from server.schemas.fields import Id

router = APIRouter()
POLICY, LATER = 1008, 1013  # RFC 6455, 7.4.1, and the registry of IANA


async def remaining(item_id: Id) -> int:
    """Return how many are left, or refuse: there is no such item."""
    stock = await stocks.get(item_id)
    if stock is None:
        raise WebSocketException(POLICY, "There is no such item.")
    return stock.remaining


@router.websocket("/shop/items/{item_id}/live")
async def tell_stock(
    websocket: WebSocket, item_id: Id, left: Annotated[int, Depends(remaining)]
) -> None:
    """Tell it now, and whenever it changes, until the page is left."""
    if board.is_full:
        raise WebSocketException(LATER, "Too many look at the moment.")
    with board.watching(item_id) as changes:
        await websocket.accept()
        await tell(websocket, left)
        async with anyio.create_task_group() as group:
            group.start_soon(tell_all, websocket, changes)
            await gone(websocket)
            group.cancel_scope.cancel()


async def tell_all(websocket: WebSocket, changes: Changes) -> None:
    """Tell each change."""
    while True:
        await tell(websocket, await changes.get())


async def tell(websocket: WebSocket, left: int) -> None:
    """Tell how many are left, in the words of the page."""
    words, kind = stock_words(left)
    await websocket.send_json({"left": left, "words": words, "kind": kind})


async def gone(websocket: WebSocket) -> None:
    """Wait until nobody looks any more; what is sent means nothing."""
    try:
        while True:
            await websocket.receive_bytes()
    except (WebSocketDisconnect, KeyError):
        return
