"""What is said to who wants to contribute."""

import re
from pathlib import Path

from tests.worlds import World

TEXT = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text()


def test_the_rule_that_is_shown_is_one(world: World) -> None:
    """It can be pasted into a file of tests."""
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    told: dict[str, object] = {}
    exec(code, told)
    (rule,) = [told[name] for name in told if name.startswith("test_")]
    assert callable(rule)
    rule(world)
