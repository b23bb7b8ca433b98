"""Where the application is, and how it is imported."""

from __future__ import annotations

import importlib
import logging
import re
import sys
import sysconfig
import tomllib
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dbscope.cli.say import Refusal, one_line

if TYPE_CHECKING:
    from types import ModuleType

# Where `fastapi dev` looks, in its order:
# https://fastapi.tiangolo.com/fastapi-cli/#fastapi-dev
USUAL_FILES = ("main.py", "app.py", "api.py", "app/main.py", "app/app.py", "app/api.py")

NOT_FOUND = (
    "no application found. Say where it is with --app module:name, or in pyproject.toml:\n"
    "  [tool.fastapi]\n"
    '  entrypoint = "module:name"'
)


def target(given: str | None) -> str:
    """Return `module:name`, or only `module`, of the application.

    What was given, else `[tool.fastapi] entrypoint` of the nearest pyproject.toml that has it, from
    the working directory upwards, else the first of FastAPI's usual files. Python
    imports from the folder of that file, and from the working directory.

    Args:
        given: on the command line.

    Raises:
        Refusal: there is none of these.
    """
    here = working_directory()
    import_from(here)
    if given:
        return checked(given, "--app")
    for folder in (here, *here.parents):
        if found := entrypoint(folder / "pyproject.toml"):
            import_from(folder)
            return checked(found, "entrypoint")
    for file in USUAL_FILES:
        if (here / file).is_file():
            return file.removesuffix(".py").replace("/", ".")
    raise Refusal(NOT_FOUND)


def working_directory() -> Path:
    """Return it, if it was not deleted meanwhile."""
    try:
        return Path.cwd()
    except OSError as error:
        raise Refusal(f"the working directory cannot be used: {one_line(error)}.") from error


def checked(address: str, where: str) -> str:
    """Return the address, if it looks like `module:name` or `module`."""
    if not re.fullmatch(r"\w+(\.\w+)*(:\w+(\.\w+)*)?", address):
        raise Refusal(f"{where} should be module:name, like main:app, and not {address!r}.")
    return address


def import_from(folder: Path) -> None:
    """Let Python import from a folder first; once."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def entrypoint(pyproject: Path) -> str | None:
    """Read `[tool.fastapi] entrypoint`, if the file and the section are there."""
    try:
        read = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    except (FileNotFoundError, PermissionError):
        return None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refusal(f"{pyproject} cannot be read: {error}.") from error
    found: Any = read
    for key in ("tool", "fastapi", "entrypoint"):
        found = cast("dict[str, Any]", found).get(key) if isinstance(found, dict) else None
    return found if isinstance(found, str) else None


def load(module: str) -> ModuleType:
    """Import a module of the application.

    Raises:
        Refusal: there is none, or its import fails; the error is told in one line.
    """
    logging.getLogger("dbscope.watch").setLevel(logging.ERROR)  # nobody opens the page of a command
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module}.".startswith(f"{missing}."):
            raise Refusal(f"there is no module {missing!r} in {Path.cwd()}.") from error
        raise Refusal(f"{module} cannot be imported: {told(error)}") from error


def told(error: BaseException) -> str:
    """Return an error of the application in one line."""
    return f"{one_line(error)}{line_of(error)}. (--traceback shows all of it.)"


def line_of(error: BaseException) -> str:
    """Return where in the application an error came from: the last line that is not installed."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if not is_installed(frame.filename)]
    return f", at {ours[-1].filename}:{ours[-1].lineno}" if ours else ""


def is_installed(file: str) -> bool:
    """Tell whether a file is of Python, of a package that was installed, or ours."""
    standard, ours = sysconfig.get_path("stdlib"), str(Path(__file__).parents[1])
    return "site-packages" in file or file.startswith(("<frozen", standard, ours))
