"""All commands."""

from __future__ import annotations

import typer

from dbscope.cli import migrations
from dbscope.cli.doctor import doctor
from dbscope.cli.options import with_application
from dbscope.cli.ping import ping
from dbscope.cli.shell import shell

app = typer.Typer(
    help="Migrations, a shell and a doctor for the database of an application.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain text, whatever else is installed
    pretty_exceptions_enable=False,
)

for command in (*migrations.CHANGING, *migrations.SHOWING, ping, shell, doctor):
    app.command(command.__name__)(with_application(command))
