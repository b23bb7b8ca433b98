"""Write what `alembic init` would, in our shape."""

from __future__ import annotations

from pathlib import Path

from dbscope import ConfigurationError
from dbscope.migrate.settings import INI, TOML, has_section

ENV = """\
from dbscope.migrate import run
{imports}

run({database}, {metadata})
"""

SCRIPT = '''\
"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
Create Date: ${create_date}
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
# revision identifiers, used by Alembic.
revision: str = ${repr(up_revision)}
down_revision: str | Sequence[str] | None = ${repr(down_revision)}
branch_labels: str | Sequence[str] | None = ${repr(branch_labels)}
depends_on: str | Sequence[str] | None = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
'''

# Alembic replaces %(here)s by the folder of this file, and %% by %.
SECTION = """\
[tool.alembic]
script_location = "%(here)s/{folder}"
version_locations = ["%(here)s/{folder}/schema", "%(here)s/{folder}/data"]
file_template = "{name}"
prepend_sys_path = ["%(here)s"]
"""

SETTINGS = """\
[alembic]
script_location = %(here)s/{folder}
version_locations =
    %(here)s/{folder}/schema
    %(here)s/{folder}/data
file_template = {name}
prepend_sys_path = %(here)s
path_separator = newline
"""

NAME = "%%(year)d-%%(month).2d-%%(day).2d_%%(rev)s_%%(slug)s"


def write(root: Path, folder: Path, *, database: str, metadata: str) -> tuple[Path, ...]:
    """Write the files, and return what was written or added to."""
    target = root / folder
    _refuse_a_second(root, target)
    files = {
        target / "env.py": _env(database, metadata),
        target / "script.py.mako": SCRIPT,
        target / "schema" / ".gitkeep": "",
        target / "data" / ".gitkeep": "",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return (*files, _configure(root, folder.as_posix()))


def _refuse_a_second(root: Path, target: Path) -> None:
    if (root / INI).exists() or has_section(root / TOML):
        where = f"by {INI}" if (root / INI).exists() else f"by [tool.alembic] in {TOML}"
        raise ConfigurationError(
            f"{root.absolute()} is configured for Alembic already, {where}: `dbscope revision` "
            "writes the next revision. Who wants to begin anew takes that out first."
        )
    if target.exists() and any(target.iterdir()):
        raise ConfigurationError(f"{target} is not empty; name another folder, or empty it.")


def _configure(root: Path, folder: str) -> Path:
    toml, ini = root / TOML, root / INI
    folder = folder.replace("%", "%%")
    if toml.exists():
        text = toml.read_text(encoding="utf-8").rstrip("\n")
        toml.write_text(f"{text}\n\n{SECTION.format(folder=folder, name=NAME)}", encoding="utf-8")
        return toml
    ini.write_text(SETTINGS.format(folder=folder, name=NAME), encoding="utf-8")
    return ini


def _env(database: str, metadata: str) -> str:
    names: dict[str, list[str]] = {}
    for target in (database, metadata):
        module, _, name = target.partition(":")
        if not module or not name:
            raise ConfigurationError(f"{target!r} is not of the form 'module:name'.")
        names.setdefault(module, []).append(name.partition(".")[0])
    imports = [
        f"from {module} import {', '.join(sorted(set(wanted)))}"
        for module, wanted in sorted(names.items())
    ]
    return ENV.format(
        imports="\n".join(imports),
        database=database.partition(":")[2],
        metadata=metadata.partition(":")[2],
    )
