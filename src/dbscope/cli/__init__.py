"""The command `dbscope`; see docs/how-to/command.md."""

from __future__ import annotations

import sys

from dbscope.cli.streams import open_all


def main() -> None:
    """Run the command, and end the process with its status."""
    open_all()
    if sys.argv[1:2] in (["explain"], ["--version"]):
        from dbscope.cli.plain import run

        sys.exit(run(*sys.argv[1:]))
    try:
        import typer  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        from dbscope.extras import install

        sys.stderr.write(f"dbscope: the command needs Typer ({error}): {install('typer')}.\n")
        sys.exit(2)
    from dbscope.cli.commands import app

    app(prog_name="dbscope")
