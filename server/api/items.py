from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query

from server.crud import items as crud
from server.models.items import Item
from server.schemas.items import Id, ItemCreate, ItemOut, ItemPage, ItemUpdate

router = APIRouter(prefix="/items", tags=["items"])


Limit = Annotated[int, Query(ge=1, le=100)]
Offset = Annotated[int, Query(ge=0, le=2**31 - 1)]


@router.get("", response_model=ItemPage)
async def list_items(limit: Limit = 20, offset: Offset = 0) -> dict[str, Sequence[Item] | int]:
    """List items, a page at a time."""
    return {"items": await crud.page(limit, offset), "total": await crud.count()}


@router.get("/{item_id}", response_model=ItemOut)
async def get_item(item_id: Id) -> Item:
    """Show an item."""
    return await existing(item_id)


@router.post("", status_code=201, response_model=ItemOut)
async def create_item(data: ItemCreate) -> Item:
    """Store a new item."""
    return await crud.create(data)


@router.patch("/{item_id}", response_model=ItemOut)
async def update_item(item_id: Id, data: ItemUpdate) -> Item:
    """Change some fields of an item; those left out stay as they are."""
    item = await existing(item_id)
    crud.update(item, data)
    return item


@router.delete("/{item_id}", status_code=204)
async def delete_item(item_id: Id) -> None:
    """Delete an item."""
    await crud.delete(await existing(item_id))


async def existing(item_id: int) -> Item:
    """Return the item, or answer 404."""
    item = await crud.get(item_id)
    if item is None:
        raise HTTPException(404, "There is no such item.")
    return item
