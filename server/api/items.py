from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Response

from dbscope.crud import Page
from server.api.problems import responses
from server.crud.items import items
from server.models import Item, User
from server.schemas.fields import Id
from server.schemas.items import ItemCreate, ItemOut, ItemPage, ItemUpdate
from server.security.users import Visitor

router = APIRouter(prefix="/items", tags=["items"])

Limit = Annotated[int, Query(ge=1, le=100)]
Offset = Annotated[int, Query(ge=0, le=2**31 - 1)]
After = Annotated[str | None, Query(max_length=1000, description="`next` of the page before.")]
COLUMN = f"-?({'|'.join(items.sortable)})"
Sort = Annotated[str, Query(pattern=f"^{COLUMN}(,{COLUMN})*$", description="`-`: descending.")]
ETag = Annotated[str | None, Header(description="The `ETag` that the item had.")]


@router.get("", response_model=ItemPage, responses=responses(422))
async def list_items(
    limit: Limit = 20, offset: Offset = 0, after: After = None, sort: Sort = "id"
) -> Page[Item]:
    """List items, a page at a time: by offset, or without gaps by `after`."""
    return await items.list(order_by=sort, limit=limit, offset=offset, after=after, total=True)


@router.get(
    "/{item_id}",
    response_model=ItemOut,
    responses={304: {"description": "Not Modified"}, **responses(404, 422)},
)
async def get_item(item_id: Id, response: Response, if_none_match: ETag = None) -> Item | Response:
    """Show an item; 304 if it is still the one of `If-None-Match`."""
    item = await items.get_or_404(item_id)
    if is_one_of(item, if_none_match):
        return Response(status_code=304, headers={"ETag": etag(item)})
    return tagged(response, item)


@router.post(
    "", status_code=201, response_model=ItemOut, responses=responses(400, 403, 409, 413, 422)
)
async def create_item(data: ItemCreate, response: Response, user: Visitor) -> Item:
    """Store a new item. It belongs to who stores it; that of a stranger belongs to nobody."""
    refuse_other_owner(data, user)
    return tagged(response, await items.create(data, owner_id=user.id if user else None))


async def changeable(item_id: Id, user: Visitor, if_match: ETag = None) -> Item:
    """Return the item, if this visitor may change it, and it is still the one of `If-Match`."""
    item = await items.get_or_404(item_id)
    if item.owner_id is not None and (user is None or user.id != item.owner_id):
        raise HTTPException(403, "This is the item of somebody else.")
    if if_match is not None and not is_one_of(item, if_match):
        raise HTTPException(412, "The item has been changed in the meantime: read it again.")
    return item


Changeable = Annotated[Item, Depends(changeable)]


@router.patch(
    "/{item_id}", response_model=ItemOut, responses=responses(400, 403, 404, 409, 412, 413, 422)
)
async def update_item(
    item: Changeable, data: ItemUpdate, response: Response, user: Visitor
) -> Item:
    """Change some fields of an item; those left out stay as they are."""
    refuse_other_owner(data, user)
    return tagged(response, await items.update(item, data))


@router.delete("/{item_id}", status_code=204, responses=responses(403, 404, 409, 412, 422))
async def delete_item(item: Changeable) -> None:
    """Delete an item; one that was ordered stays, and that is a 409."""
    await items.delete(item)


def refuse_other_owner(data: ItemCreate | ItemUpdate, user: User | None) -> None:
    """Answer 403 to who names somebody else as the owner."""
    if data.owner_id is not None and (user is None or user.id != data.owner_id):
        raise HTTPException(403, "An item can only be given to yourself.")


def tagged(response: Response, item: Item) -> Item:
    """Tell which version this is."""
    response.headers["ETag"] = etag(item)
    return item


def etag(item: Item) -> str:
    """Return the name of this version of the item (RFC 9110, 8.8.3)."""
    return f'"{item.version}"'


def is_one_of(item: Item, tags: str | None) -> bool:
    """Tell whether the list of `If-Match` or `If-None-Match` names this version."""
    named = [tag.strip().removeprefix("W/") for tag in (tags or "").split(",")]
    return "*" in named or etag(item) in named
