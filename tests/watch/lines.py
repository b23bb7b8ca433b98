"""Where a mark is in the file of a test: what a record must name."""

import inspect
from pathlib import Path


def at(mark: str) -> str:
    """Return `file:line` of the comment `# <mark>` in the file of the caller."""
    caller = inspect.stack()[1].filename
    lines = Path(caller).read_text().splitlines()
    found = [number for number, line in enumerate(lines, 1) if line.endswith(f"  # {mark}")]
    assert len(found) == 1, mark
    return f"{Path(caller).relative_to(Path.cwd())}:{found[0]}"
