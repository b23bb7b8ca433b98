"""What works without Typer, wherever dbscope is installed: `explain` and `--version`."""

from __future__ import annotations

import os
import sys

from dbscope import ConfigurationError, __version__
from dbscope.explain import explain, listed

VERSION = f"dbscope {__version__}"


def run(command: str, *names: str) -> int:
    """Print the version, or what errors mean, and return the status: 2 for an unknown error."""
    try:
        print(VERSION if command == "--version" else explained(*names), flush=True)  # noqa: T201
    except ConfigurationError as error:
        sys.stderr.write(f"dbscope: {error.what}\n")
        return 2
    except BrokenPipeError:  # `| head`; Python would try once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def explained(*names: str) -> str:
    """Return what is known of these errors; of none, their names."""
    return "\n\n".join(map(explain, names)) or listed()
