"""`dbscope mcp` is a server of the Model Context Protocol: JSON-RPC, one message a line."""

from __future__ import annotations

import io
import json
from typing import Any
from unittest import mock

import pytest

from dbscope.cli import mcp, questions
from dbscope.cli.questions import QUESTIONS


@pytest.fixture(autouse=True)
def nobody(tmp_path, monkeypatch) -> None:
    """Let nobody watch anything."""
    monkeypatch.setenv("DBSCOPE_WATCH_DIR", str(tmp_path))


def replies(*messages: Any) -> list[dict[str, Any]]:
    """Return what is answered."""
    told = io.StringIO()
    asked = [each if isinstance(each, str) else json.dumps(each) for each in messages]
    mcp.serve(io.StringIO("\n".join(asked)), told)
    return [json.loads(line) for line in told.getvalue().splitlines()]


def call(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}


def test_it_begins_in_the_version_that_the_other_side_speaks():
    """Or in ours; a notification is answered by nothing."""
    for wanted, expected in (("2024-11-05", "2024-11-05"), ("1999-01-01", "2025-06-18")):
        (found,) = replies(
            call("initialize", protocolVersion=wanted),
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
        )
        assert (found["id"], found["jsonrpc"]) == (7, "2.0")
        assert found["result"]["protocolVersion"] == expected
        assert found["result"]["capabilities"] == {"tools": {}}


def test_each_question_says_what_it_takes():
    """As JSON Schema, and that it is only read."""
    (found,) = replies(call("tools/list"))
    tools = {each["name"]: each for each in found["result"]["tools"]}
    assert set(tools) == set(QUESTIONS)
    for tool in tools.values():
        assert tool["description"].endswith(".")
        assert tool["annotations"]["readOnlyHint"] is True
        assert set(tool["inputSchema"]["required"]) <= set(tool["inputSchema"]["properties"])


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", -32700),
        ("[" * 100_000, -32700),
        ([], -32600),
        (call("resources/list"), -32601),
        ({"id": 7, "method": ["tools/list"]}, -32601),
        ({"id": 7, "method": "tools/call", "params": [1]}, -32602),
        (call("tools/call", name="drop_everything"), -32602),
        (call("tools/call", name=["problems"]), -32602),
    ],
)
def test_what_is_no_call_of_ours_is_refused(message: Any, code: int):
    """By the code of JSON-RPC, and the next message is answered."""
    refused, answered = replies(message, call("ping"))
    assert refused["error"]["code"] == code
    assert answered["result"] == {}


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("recent_transactions", {"only": "bad"}, "only must be"),
        ("recent_transactions", {"n": "many"}, "n must be integer"),
        ("recent_transactions", {"sql": "DROP TABLE a"}, "no argument 'sql'"),
        ("transaction", {}, "needs id"),
        ("transaction", {"id": "../../etc/passwd.1"}, "not kept any more"),
        ("problems", {}, "No process of this user watches a database"),
        ("explain_error", {"name": "Nothing"}, "Nothing"),
    ],
)
def test_a_question_that_cannot_be_answered_says_why(name: str, arguments: Any, told: str):
    """As the result of the tool, which a model reads."""
    (found,) = replies(call("tools/call", name=name, arguments=arguments))
    assert found["result"]["isError"] is True
    assert told in found["result"]["content"][0]["text"]


def test_what_an_error_means_is_told():
    """It needs no process that is watched."""
    (found,) = replies(call("tools/call", name="explain_error", arguments={"name": "PoolTimeout"}))
    assert "All connections of the pool were in use" in found["result"]["content"][0]["text"]


def test_of_many_statements_those_are_told_that_are_asked_for(monkeypatch):
    """A model that asks for one transaction is not given a megabyte; how many there are is said."""
    record = {
        "id": "1.1",
        "sent": [{"sql": f"SELECT {number}"} for number in range(500)],
        "more": 7,
    }
    everybody = mock.Mock(record=lambda _: record)
    monkeypatch.setattr(questions, "of_everybody", lambda: {"default": everybody})

    def told(**given: Any) -> list[Any]:
        (found,) = replies(call("tools/call", name="transaction", arguments={"id": "1.1", **given}))
        answer = json.loads(found["result"]["content"][0]["text"])
        sent = [int(each["sql"].split()[1]) for each in answer["sent"]]
        return [sent[:1], len(sent), answer["sent_in_all"]]

    assert told() == [[0], 50, 507]
    assert told(first=490, n=20) == [[490], 10, 507]
    assert told(first=-3, n=-1) == [[0], 1, 507]
    assert told(first=1000) == [[], 0, 507]
