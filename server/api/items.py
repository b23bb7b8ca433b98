import re
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Response

from dbscope.crud import Page
from server.api.problems import responses
from server.crud.items import items
from server.models import Item, User
from server.schemas.fields import Id
from server.schemas.items import ItemCreate, ItemOut, ItemPage, ItemUpdate
from server.security.users import Customer

router = APIRouter(prefix="/items", tags=["items"])

Limit = Annotated[int, Query(ge=1, le=100)]
Offset = Annotated[int, Query(ge=0, le=2**31 - 1)]
After = Annotated[str | None, Query(max_length=1000, description="`next` of the page before.")]
COLUMN = f"-?({'|'.join(items.sortable)})"
Sort = Annotated[
    str, Query(max_length=100, pattern=f"^{COLUMN}(,{COLUMN})*$", description="`-`: descending.")
]
ETag = Annotated[str | None, Header(max_length=1000, description="The `ETag` that the item had.")]
TAG = re.compile(r'(W/)?("[^"]*")')
PUBLIC = {"Cache-Control": "no-cache"}  # nothing private: kept, and asked about each time


@router.get("", response_model=ItemPage, responses=responses(422))
async def list_items(
    response: Response,
    limit: Limit = 20,
    offset: Offset = 0,
    after: After = None,
    sort: Sort = "id",
) -> Page[Item]:
    """List items, a page at a time: by offset, or without gaps by `after`."""
    response.headers.update(PUBLIC)
    return await items.list(order_by=sort, limit=limit, offset=offset, after=after, total=True)


@router.get(
    "/{item_id}",
    response_model=ItemOut,
    responses={304: {"description": "Not Modified"}, **responses(404, 422)},
)
async def get_item(item_id: Id, response: Response, if_none_match: ETag = None) -> Item | Response:
    """Show an item; 304 if it is still the one of `If-None-Match`."""
    item = await items.get_or_404(item_id)
    if is_one_of(item, if_none_match, weakly=True):
        return Response(status_code=304, headers={"ETag": etag(item), **PUBLIC})
    response.headers.update(PUBLIC)
    return tagged(response, item)


@router.post(
    "", status_code=201, response_model=ItemOut, responses=responses(400, 401, 403, 409, 413, 422)
)
async def create_item(data: ItemCreate, response: Response, user: Customer) -> Item:
    """Store a new item. It belongs to who stores it."""
    refuse_other_owner(data, user)
    return tagged(response, await items.create(data, owner_id=user.id))


async def changeable(item_id: Id, user: Customer, if_match: ETag = None) -> Item:
    """Return the item, if this user may change it, and it is still the one of `If-Match`.

    What has no owner any more may be changed by every user, and by no stranger.
    """
    item = await items.get_or_404(item_id)
    if item.owner_id not in (None, user.id):
        raise HTTPException(403, "This is the item of somebody else.")
    if if_match is not None and not is_one_of(item, if_match, weakly=False):
        raise HTTPException(412, "The item has been changed in the meantime: read it again.")
    return item


Changeable = Annotated[Item, Depends(changeable)]


@router.patch(
    "/{item_id}",
    response_model=ItemOut,
    responses=responses(400, 401, 403, 404, 409, 412, 413, 422),
)
async def update_item(
    item: Changeable, data: ItemUpdate, response: Response, user: Customer
) -> Item:
    """Change some fields of an item; those left out stay as they are."""
    refuse_other_owner(data, user)
    return tagged(response, await items.update(item, data))


@router.delete("/{item_id}", status_code=204, responses=responses(401, 403, 404, 409, 412, 422))
async def delete_item(item: Changeable) -> None:
    """Delete an item; one that was ordered stays, and that is a 409."""
    await items.delete(item)


def refuse_other_owner(data: ItemCreate | ItemUpdate, user: User) -> None:
    """Answer 403 to who names somebody else as the owner."""
    if data.owner_id not in (None, user.id):
        raise HTTPException(403, "An item can only be given to yourself.")


def tagged(response: Response, item: Item) -> Item:
    """Tell which version this is."""
    response.headers["ETag"] = etag(item)
    return item


def etag(item: Item) -> str:
    """Return the name of this version of this item, which no other one has (RFC 9110, 8.8.3)."""
    return f'"item-{item.id}-{item.version}"'


def is_one_of(item: Item, tags: str | None, *, weakly: bool) -> bool:
    """Tell whether a list of tags names this version (RFC 9110, 8.8.3.2).

    Args:
        item: the one that is asked for.
        tags: of `If-Match`, which compares strongly, or of `If-None-Match`, which does not.
        weakly: whether a weak tag is one, too.
    """
    if tags is not None and tags.strip() == "*":
        return True
    found = TAG.findall(tags or "")
    return any(tag == etag(item) and (weakly or not weak) for weak, tag in found)
