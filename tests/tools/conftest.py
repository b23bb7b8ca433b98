"""Tools and libraries of others, in a folder of their own beside the environment of the tests."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import dbscope
from tests.install.environments import find_uv
from tests.support.certificates import outside

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
REQUIREMENTS = HERE / "requirements.txt"


@pytest.fixture(scope="session")
def site() -> Path:
    """Return the folder with what requirements.txt names, installed at the first call."""
    key = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = Path(sys.prefix) / f"tools-{key}" / "site-packages"
    with one_at_a_time():
        if not (folder / ".done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            install(folder)
            (folder / ".done").touch()
    return folder


def install(folder: Path) -> None:
    """Install by pip, or by uv where there is no pip."""
    arguments = ["install", "--no-deps", "--target", str(folder), "-r", str(REQUIREMENTS)]
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode:
        pip = [find_uv() or "uv", "pip"]
    done = subprocess.run(
        [*pip, *arguments], capture_output=True, text=True, check=False, env=outside()
    )
    if done.returncode:
        pytest.fail(f"the tools could not be installed:\n{done.stderr[-2000:]}")


class one_at_a_time:  # noqa: N801  (used like a function)
    """Let other test processes wait."""

    def __enter__(self) -> None:
        import fcntl

        self.file = (Path(sys.prefix) / "tools.lock").open("w")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *exc: object) -> None:
        self.file.close()


@pytest.fixture(scope="session")
def python(site: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the Python of an environment in which we are installed, beside the tools.

    Tools know an installed package by where it stands; the tests run from the sources.
    """
    home = tmp_path_factory.mktemp("tools")
    venv.EnvBuilder(with_pip=False, symlinks=True).create(home)
    installed = next(home.glob("lib/python*/site-packages"))
    shutil.copytree(Path(dbscope.__file__).parent, installed / "dbscope")
    others = [site, Path(sysconfig.get_path("purelib")), ROOT]
    (installed / "others.pth").write_text("\n".join(map(str, others)))
    return str(home / "bin" / "python")
