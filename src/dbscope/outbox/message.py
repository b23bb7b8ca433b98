"""A message, as whoever publishes it is given it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Row

LONGEST = 255  # characters of a topic, and of a key
OF_JSON, OF_BYTES = "application/json", "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    Args:
        id: the same at each delivery, so that a consumer can tell a repetition by it.
        topic: where it belongs.
        key: messages of one key are relayed in their order; None: in any.
        body: as it is stored.
        content_type: "application/json", or "application/octet-stream" for bytes.
        headers: texts that go with it.
        created_at: in UTC.
        attempts: how often it was tried before.
    """

    id: str
    topic: str
    key: str | None
    body: bytes
    content_type: str
    headers: Mapping[str, str]
    created_at: datetime
    attempts: int

    @property
    def value(self) -> Any:
        """The body as it was sent: what JSON holds, or bytes."""
        return json.loads(self.body) if self.content_type == OF_JSON else self.body


def values_of(
    topic: str, body: Any, key: str | None, headers: Mapping[str, str] | None, time: datetime
) -> dict[str, Any]:
    """Return the row of a message.

    Raises:
        TypeError: JSON cannot hold the body, or a name is no text of at most 255 characters.
    """
    for name, value in (("topic", topic), ("key", key)):
        is_text = isinstance(value, str) and 0 < len(value) <= LONGEST
        if not is_text and not (name == "key" and value is None):
            raise TypeError(f"{name} must be a text of 1 to {LONGEST} characters, not {value!r}.")
    is_bytes = isinstance(body, bytes)
    try:
        stored = body if is_bytes else json.dumps(body).encode()
    except (TypeError, ValueError) as error:
        raise TypeError(f"A message is bytes, or what JSON can hold, not {body!r}.") from error
    return {
        "uid": uuid.uuid4().hex,
        "topic": topic,
        "key": key,
        "body": stored,
        "content_type": OF_BYTES if is_bytes else OF_JSON,
        "headers": dict(headers or {}),
        "created_at": time,
        "available_at": time,
        "attempts": 0,
    }


def message_of(row: Row[Any]) -> Message:
    """Return the message of a row."""
    return Message(
        id=row.uid,
        topic=row.topic,
        key=row.key,
        body=row.body,
        content_type=row.content_type,
        headers=row.headers,
        created_at=row.created_at,
        attempts=row.attempts,
    )
