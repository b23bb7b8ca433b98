"""`dbscope mcp`: the same questions, asked by a program that speaks the Model Context Protocol.

Over standard input and output, one JSON-RPC message a line
(https://modelcontextprotocol.io/specification/2025-06-18). Written out, since it is five methods:
the official package brings some thirty others, of which an application may need other versions.
"""

from __future__ import annotations

import json
import sys
from typing import IO, TYPE_CHECKING, Any, cast

from dbscope import DBScopeError, __version__
from dbscope.cli.questions import QUESTIONS, Wrong

if TYPE_CHECKING:
    from collections.abc import Callable

VERSIONS = ("2025-06-18", "2025-03-26", "2024-11-05")
INVALID, UNKNOWN, PARAMETERS = -32600, -32601, -32602
BROKEN = -32700


class Fault(Exception):
    """A message that cannot be answered.

    Args:
        code: of JSON-RPC.
        told: what is wrong.
    """

    def __init__(self, code: int, told: str) -> None:
        super().__init__(told)
        self.code = code


def mcp() -> None:
    """Answer a program that speaks MCP, until its input ends."""
    serve(sys.stdin, sys.stdout)


def serve(asked: IO[str], told: IO[str]) -> None:
    """Answer each line by a line."""
    for line in asked:
        found = reply(line)
        if found is not None:
            told.write(json.dumps(found) + "\n")
            told.flush()


def reply(line: str) -> dict[str, Any] | None:
    """Return the answer to one message; None: it wants none."""
    number: Any = None
    try:
        message = parsed(line)
        number = message.get("id")
        if number is None:
            return None
        result = METHODS[method_of(message)](cast("dict[str, Any]", message.get("params") or {}))
    except Fault as fault:
        error = {"code": fault.code, "message": str(fault)}
        return {"jsonrpc": "2.0", "id": number, "error": error}
    return {"jsonrpc": "2.0", "id": number, "result": result}


def parsed(line: str) -> dict[str, Any]:
    """Return a message.

    Raises:
        Fault: it is none.
    """
    try:
        message: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise Fault(BROKEN, "It is no JSON.") from None
    if not isinstance(message, dict):
        raise Fault(INVALID, "It is no message of JSON-RPC.")
    return cast("dict[str, Any]", message)


def method_of(message: dict[str, Any]) -> str:
    """Return the method that is called.

    Raises:
        Fault: there is no such method, or its parameters are no object.
    """
    method = str(message.get("method"))
    if method not in METHODS:
        raise Fault(UNKNOWN, f"There is no method {method!r}.")
    if not isinstance(message.get("params") or {}, dict):
        raise Fault(PARAMETERS, "The parameters are no object.")
    return method


def initialize(given: dict[str, Any]) -> dict[str, Any]:
    """Say who we are, in the version of the protocol that the other side speaks."""
    wanted = given.get("protocolVersion")
    return {
        "protocolVersion": wanted if wanted in VERSIONS else VERSIONS[0],
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "dbscope", "version": __version__},
    }


def list_tools(_: dict[str, Any]) -> dict[str, Any]:
    """Say what may be asked."""
    return {"tools": [question.schema() for question in QUESTIONS.values()]}


def call_tool(given: dict[str, Any]) -> dict[str, Any]:
    """Ask one of the questions."""
    name = str(given.get("name"))
    if name not in QUESTIONS:
        raise Fault(PARAMETERS, f"There is no question {name!r}.")
    try:
        text, failed = QUESTIONS[name].ask(given.get("arguments") or {}), False
    except (Wrong, DBScopeError) as error:
        text, failed = error.what if isinstance(error, DBScopeError) else str(error), True
    return {"content": [{"type": "text", "text": text}], "isError": failed}


METHODS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "initialize": initialize,
    "ping": lambda _: {},
    "tools/list": list_tools,
    "tools/call": call_tool,
}
