"""What works without Typer, wherever dbscope is installed: `explain` and `--version`."""

from __future__ import annotations

import sys

from dbscope import ConfigurationError, __version__
from dbscope.cli.streams import while_read, writable
from dbscope.explain import explain, listed

VERSION = f"dbscope {__version__}"


def run(command: str, *names: str) -> int:
    """Print the version, or what errors mean, and return the status: 2 for an unknown error."""
    try:
        text = VERSION if command == "--version" else explained(*names)
    except ConfigurationError as error:
        sys.stderr.write(f"dbscope: {error.what}\n")
        return 2
    with while_read(sys.stdout):
        print(writable(text, sys.stdout), flush=True)  # noqa: T201
    return 0


def explained(*names: str) -> str:
    """Return what is known of these errors; of none, their names."""
    return "\n\n".join(map(explain, names)) or listed()
