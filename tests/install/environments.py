"""Environments with the wheel in them, made by uv if there is one, else by pip."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

from tests.support.certificates import outside

ROOT = Path(__file__).resolve().parents[2]
QUIET = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_USER": "0", "PIP_NO_COMPILE": "1"}
FLOOR = re.compile(r"([\w-]+)(?:\[[^]]*\])?>=([\w.]+)")


@dataclass(frozen=True)
class Environment:
    """A Python with nothing in it at first, not even pip."""

    root: Path

    @property
    def python(self) -> Path:
        """The Python to run."""
        return self.root / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def install(self, *wanted: str) -> None:
        """Install packages, from the index and from the cache that all of them share."""
        if (uv := find_uv()) is not None:
            run(uv, "pip", "install", "--quiet", "--python", str(self.python), *wanted)
        else:
            pip = [sys.executable, "-m", "pip", "--python", str(self.python)]
            run(*pip, "install", "--quiet", *wanted)

    @property
    def packages(self) -> Path:
        """The folder of what is installed."""
        return next(self.root.rglob("site-packages"))

    def compile(self) -> None:
        """Let each copy find compiled what it imports."""
        run(str(self.python), "-I", "-m", "compileall", "-q", str(self.packages))

    def copy(self, root: Path) -> Environment:
        """Make one with the same in it; the files are shared: installers replace whole ones."""
        made = make(root)
        link = shutil.copy2 if os.name == "nt" else os.link
        shutil.copytree(self.packages, made.packages, copy_function=link, dirs_exist_ok=True)
        return made


def find_uv() -> str | None:
    """Return where uv is: on the PATH, or beside the Python that runs this."""
    return shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))


def make(root: Path) -> Environment:
    """Make an environment of the Python that runs this."""
    venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(root)
    return Environment(root)


def wheel(folder: Path) -> Path:
    """Build the wheel, and return it; with the builder that is here, or one from the index."""
    here = ["--no-build-isolation"] if find_spec("hatchling") else []
    if (uv := find_uv()) is not None:
        build = [uv, "build", "--quiet", "--wheel", "--python", sys.executable, *here]
        run(*build, "--out-dir", str(folder), str(ROOT))
    else:
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *here]
        run(*pip, "--wheel-dir", str(folder), str(ROOT))
    (built,) = folder.glob("*.whl")
    return built


def told(built: Path, name: str) -> list[str]:
    """Return what the wheel tells of itself: each `Requires-Dist`, say."""
    with ZipFile(built) as archive:
        (file,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        text = archive.read(file).decode()
    return re.findall(rf"^{name}: (.+)$", text, re.MULTILINE)


def floors(built: Path) -> list[str]:
    """Return the oldest release that is allowed of each package, for all extras."""
    found = [FLOOR.match(line) for line in told(built, "Requires-Dist")]
    return sorted({f"{match[1]}=={match[2]}" for match in found if match})


def run(*command: str) -> str:
    """Run a command, which has to work, and return what it prints."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=outside() | QUIET
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout
