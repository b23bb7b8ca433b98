"""The command `dbscope`; see docs/how-to/command.md."""

from __future__ import annotations

import sys

NEEDED = "pip install 'dbscope[cli]'"


def main() -> None:
    """Run the command, and end the process with its status."""
    try:
        from dbscope.cli.commands import app
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        sys.exit(f"dbscope: the command needs Typer: {NEEDED}")
    app(prog_name="dbscope")
