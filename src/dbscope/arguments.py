"""What arguments may be, and what is said of those that are not: each rule is told once."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from types import CodeType, MethodType
from typing import Any, TypeVar, cast

from dbscope.errors import ConfigurationError

T = TypeVar("T")
GENERATORS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


@dataclass(frozen=True, slots=True)
class Rule:
    """What an argument must be.

    Args:
        what: that, in words.
        fits: tells whether a value is.
        hints: what to do instead, for some of those that are not.
        shown: how a value is shown, which may be a secret.
    """

    what: str
    fits: Callable[[Any], bool]
    hints: Callable[[Any], str | None] = lambda _: None
    shown: Callable[[Any], str] = repr


def or_none(rule: Rule) -> Rule:
    """Return the rule that lets None pass, too."""

    def fits(value: Any) -> bool:
        return value is None or rule.fits(value)

    return replace(rule, what=f"{rule.what}, or None", fits=fits)


def check(name: str, value: T, rule: Rule, error: type[Exception] = ConfigurationError) -> T:
    """Return the value, if it is what it must be.

    Args:
        name: what the argument is called.
        value: what was given.
        rule: what it must be.
        error: what is raised otherwise.
    """
    if rule.fits(value):
        return value
    hint = rule.hints(value)
    message = f"{name} must be {rule.what}, not {rule.shown(value)}."
    raise error(f"{message} {hint}" if hint else message)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_codes(value: Any) -> bool:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Collection):
        return False
    return all(isinstance(each, str) for each in cast("Collection[object]", value))


def one_of(*words: str) -> Rule:
    """Return the rule for one of several words."""
    return Rule(" or ".join(map(repr, words)), lambda value: value in words)


def at_least(least: int) -> Rule:
    """Return the rule for a whole number that is not less than that."""
    return Rule(
        f"{least} or more",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least,
    )


FLAG = Rule("True or False", lambda value: isinstance(value, bool))
TEXT = Rule("a text", lambda value: isinstance(value, str))
WORD = or_none(TEXT)
REASON = Rule("a text that says why", lambda value: isinstance(value, str) and bool(value.strip()))
SECONDS = or_none(
    Rule("a positive number of seconds", lambda value: _is_number(value) and value > 0)
)
PATIENCE = or_none(Rule("a number of seconds", lambda value: _is_number(value) and value >= 0))
CODES = Rule("a list of texts, as in ['1205']", _are_codes)
OPTIONS = Rule("a mapping of options", lambda value: isinstance(value, Mapping))
UNCALLED = "Give the function, without calling it."
FUNCTION = Rule(
    "callable",
    callable,
    lambda value: UNCALLED if value is None or inspect.isawaitable(value) else None,
)
CALLED = Rule(
    "a plain function, which is called and not awaited",
    lambda value: callable(value) and not inspect.iscoroutinefunction(value),
)
DECIDES = Rule(
    "True, False or a plain function of the ASGI scope",
    lambda value: isinstance(value, bool) or CALLED.fits(value),
)


def unknown(
    of: str, given: Mapping[str, Any], own: Collection[str], homes: Mapping[str, Collection[str]]
) -> str:
    """Say where arguments belong that there are not.

    Args:
        of: the class that was given them.
        given: the arguments.
        own: the names that it has.
        homes: the names that are known inside of some of those.
    """
    name, value = next(iter(given.items()))
    at = next((home for home, names in homes.items() if name in names), None)
    if at is not None:
        hint = f"it is one of the {at}: {of}(..., {at}={{{name!r}: {value!r}}})."
    elif close := difflib.get_close_matches(name, own, 1):
        hint = f"did you mean {close[0]!r}?"
    else:
        hint = f"it has {', '.join(own)}."
    return f"{of} has no argument {name!r}; {hint}"


def check_call(name: str, function: Any) -> None:
    """Refuse what cannot be called without arguments, or would do nothing when it is called.

    Raises:
        TypeError: it cannot, or it is a generator.
    """
    if inspect.iscoroutine(function):
        function.close()  # else Python complains that nobody has awaited it
    check(name, function, FUNCTION, TypeError)
    is_bound = isinstance(function, MethodType)
    target: Any = function.__func__ if is_bound else function
    code = getattr(target, "__code__", None)
    if not isinstance(code, CodeType):
        return
    if code.co_flags & GENERATORS:
        raise TypeError(f"{name} must not be a generator, as {function!r} is: nobody iterates it.")
    given = is_bound + len(target.__defaults__ or ()) + len(target.__kwdefaults__ or ())
    if code.co_argcount + code.co_kwonlyargcount > given:
        raise TypeError(
            f"{name} is called without arguments, and {function!r} needs some: "
            f"`functools.partial({code.co_name}, ...)`, or a `lambda`."
        )


def names_of(*functions: Any) -> list[str]:
    """Return the names of what functions take by name."""
    parameters = [each for one in functions for each in inspect.signature(one).parameters.values()]
    return [
        each.name
        for each in parameters
        if each.kind is not each.VAR_KEYWORD and not each.name.startswith("_")
    ]
