"""Python at a prompt or from a pipe, in the scope of a database, with `await` at its top level."""

from __future__ import annotations

import ast
import asyncio
import code
import inspect
import traceback
from collections.abc import Callable
from contextvars import copy_context
from types import CodeType, FunctionType
from typing import Any, cast

from dbscope import AsyncDatabase
from dbscope.cli.find import AnyDatabase
from dbscope.cli.load import is_installed
from dbscope.cli.say import echo_err

Names = dict[str, Any]


class Workspace:
    """Where the code runs: one context, one event loop, one scope.

    The loop turns only while something is awaited, so plain code runs beside it, not on it.
    """

    def __init__(self, database: AnyDatabase) -> None:
        self.database = database
        self.context = copy_context()
        self.runner = asyncio.Runner()
        self._scope: Any = cast("Any", database).scope()
        self.do(self._scope.__aenter__ if self.is_async else self._scope.__enter__)

    @property
    def is_async(self) -> bool:
        """Tell whether the work of this database is awaited."""
        return isinstance(self.database, AsyncDatabase)

    def do(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function here; if it returns a coroutine, run that to its end."""
        result = self.context.run(function, *arguments)
        if inspect.iscoroutine(result):
            return self.runner.run(result, context=self.context)
        return result

    def run(self, compiled: CodeType, names: Names) -> None:
        """Run code that was compiled here or at the prompt."""
        self.do(FunctionType(compiled, names))

    def end(self, error: BaseException | None) -> None:
        """End the scope: roll back if there is an error; close everything."""
        leave = self._scope.__aexit__ if self.is_async else self._scope.__exit__
        try:
            self.do(leave, type(error) if error else None, error, None)
        finally:
            self.do(self.database.dispose)
            self.runner.close()


class Console(code.InteractiveConsole):
    """Python's own console, whose code runs in a workspace."""

    def __init__(self, workspace: Workspace, names: Names) -> None:
        super().__init__(names)
        self.names = names
        self.workspace = workspace
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

    def runcode(self, code: CodeType) -> None:
        """Run what was typed, and show its error."""
        try:
            self.workspace.run(code, self.names)
        except SystemExit:
            raise
        except BaseException as error:
            show_error(error, self.filename)


def compiled(source: str, file: str) -> CodeType:
    """Compile a script, which may have `await` at its top level."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    return cast("CodeType", compile(source, file, "exec", flags, dont_inherit=True))


def show_error(error: BaseException, file: str) -> None:
    """Print an error and the lines that led to it: what was typed, and the application's."""
    frames = traceback.extract_tb(error.__traceback__)
    names = [frame.filename for frame in frames]
    first = names.index(file) if file in names else len(names)
    seen = [frame for frame in frames[first:] if not is_installed(frame.filename)]
    lines = traceback.format_list(seen) + traceback.format_exception_only(error)
    echo_err("".join(["Traceback (most recent call last):\n" if seen else "", *lines]).rstrip())
