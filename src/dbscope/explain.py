"""What an error means: its section of docs/errors.md, which is in the wheel, too."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from dbscope.errors import POINTER, ConfigurationError

HERE = Path(__file__).parent
PAGES = (HERE / "errors.md", HERE.parents[1] / "docs" / "errors.md")  # of the wheel, of the source


@cache
def sections() -> dict[str, str]:
    """Return each section by its title, the name of the class."""
    page = next(page for page in PAGES if page.is_file())
    _, *parts = re.split(r"^## (.+)\n", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True))


def explain(name: str) -> str:
    """Return what there is to know about an error, in Markdown.

    Args:
        name: of its class, in any case: `TransactionBroken`.

    Raises:
        ConfigurationError: there is no such error.
    """
    names = {each.lower(): each for each in sections()}
    asked = name.rpartition(".")[2].lower()
    if asked not in names:
        like = [names[each] for each in get_close_matches(asked, names, n=1)]
        hint = f"; did you mean {like[0]}?" if like else f". {POINTER} lists them."
        raise ConfigurationError(f"There is no error {name!r}{hint}")
    return f"# {names[asked]}\n\n{sections()[names[asked]]}"


def listed() -> str:
    """Return the names of all errors, a line for each."""
    return "\n".join(sections())
