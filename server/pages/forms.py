"""Forms: read, checked by the schemas of the API, and shown again with what is wrong."""

from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

Schema = TypeVar("Schema", bound=BaseModel)
SECRET = {"password"}  # never sent back
LIMITS = {"max_files": 0, "max_fields": 20}
SENTENCES = {
    "email string_pattern_mismatch": "Enter an address like anna@example.com.",
    "email value_error": "Enter an address like anna@example.com.",
    "name value_error": "Enter a name that can be seen, without invisible characters.",
    "string_too_short": "Use at least {min_length} characters.",
    "string_too_long": "Use at most {max_length} characters.",
    "too_long": "Use at most {max_length} characters.",
    "too_short": "Use at least {min_length} characters.",
    "int_parsing": "Enter a whole number.",
    "int_parsing_size": "Enter a smaller number.",
    "greater_than_equal": "Enter {ge} or more.",
    "less_than_equal": "Enter {le:,} or less.",
}


@dataclass
class Form:
    """What was entered, and for each field that is wrong a sentence."""

    values: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    error: str | None = None  # about the form as a whole

    @property
    def is_wrong(self) -> bool:
        """Whether there is something to correct."""
        return bool(self.errors or self.error)


async def whole_form(request: Request) -> None:
    """Wait for what the browser sends, before the first dependency asks the database.

    No transaction is open yet, so none waits for a slow client. Starlette keeps what was read.
    """
    if request.method == "POST":
        await request.form(**LIMITS)


async def read(request: Request, schema: type[Schema]) -> tuple[Schema | None, Form]:
    """Return what was entered, checked; or None, and the form to show again.

    Args:
        request: its body is the form.
        schema: what is expected.
    """
    async with request.form(**LIMITS) as sent:
        entered = {name: value for name, value in sent.items() if isinstance(value, str)}
    form = Form({name: value for name, value in entered.items() if name not in SECRET})
    try:
        return schema.model_validate(entered), form
    except ValidationError as error:
        wrong = {str(each["loc"][-1]): each for each in error.errors(include_url=False)}
        form.errors = {name: sentence(name, each) for name, each in wrong.items()}
        return None, form


def sentence(name: str, error: Any) -> str:
    """Return what is wrong, in words for people; pydantic's where we have none."""
    if not error["input"] or error["type"] == "missing":
        return "Fill this in."
    kind = error["type"]
    words = SENTENCES.get(f"{name} {kind}") or SENTENCES.get(kind) or f"{error['msg']}."
    return words.format(**error.get("ctx", {}))
