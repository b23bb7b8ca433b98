"""What both kinds of CRUD share: which model they are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, get_args, get_origin

from sqlalchemy import inspect
from sqlalchemy.orm import Mapper
from typing_extensions import TypeVar

from dbscope import AsyncDatabase, ConfigurationError, Database

Model = TypeVar("Model", bound=object)
Create = TypeVar("Create", default=Mapping[str, Any])
Update = TypeVar("Update", default=Mapping[str, Any])


class CommonCRUD(Generic[Model, Create, Update]):
    """The base of `CRUD` and `AsyncCRUD`."""

    sortable: ClassVar[Sequence[str]] = ()
    max_limit: ClassVar[int] = 100
    _kind: ClassVar[type[Any]]
    _argument: ClassVar[Any] = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for base in cls.__dict__.get("__orig_bases__", ()):
            origin = get_origin(base)
            if isinstance(origin, type) and issubclass(origin, CommonCRUD):
                cls._argument = _model_of(origin, get_args(base))

    def __init__(self, db: AsyncDatabase[Any] | Database[Any]) -> None:
        name, model = type(self).__name__, self._argument
        if not isinstance(db, self._kind):
            raise ConfigurationError(f"{name} works on a {self._kind.__name__}, not on {db!r}.")
        if not isinstance(inspect(model, raiseerr=False), Mapper):
            raise ConfigurationError(
                f"{name} has to say its model, a mapped class, in the first type argument of its"
                f" base: `[Item, ItemCreate, ItemUpdate]`; there is {model!r}."
            )
        if isinstance(self.sortable, str):
            raise ConfigurationError(
                f"{name}.sortable must be a tuple of names: ({self.sortable!r},)."
            )
        self.db: Any = db
        self.model: type[Model] = model


def _model_of(generic: Any, arguments: tuple[Any, ...]) -> Any:
    """Return what stands for the model in `generic[arguments]`: a class, or still a TypeVar."""
    parameters = generic.__parameters__
    stands_for_it = generic._argument or parameters[0]  # noqa: SLF001 - a class of ours
    return dict(zip(parameters, arguments, strict=False)).get(stands_for_it, stands_for_it)
