"""`CRUD[Model, Create, Update]`: what is done with one kind of row, on the current session."""

from dbscope.crud.crud import CRUD, AsyncCRUD
from dbscope.crud.page import Page
from dbscope.crud.refusals import BadCursor, BadRequest, NotFound, NullRefused

__all__ = ["CRUD", "AsyncCRUD", "BadCursor", "BadRequest", "NotFound", "NullRefused", "Page"]
