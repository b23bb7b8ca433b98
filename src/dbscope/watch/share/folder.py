"""The folder in which the processes that watch one database find each other.

Each has a socket there, and what ended of its own accord has left a file. Only this user may look
into it, since the name of a folder below `/tmp` can be taken by others first.
"""

from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import time
from typing import Any

PLACE = "DBSCOPE_WATCH_DIR"  # in the environment: a folder that all processes see
SOCKET, LEFT = ".sock", ".left"
KEPT = 3600.0  # seconds that what is left behind is there
MOST = 20  # files that are left behind
LARGEST = 2_000_000  # bytes of one


class NotOurs(OSError):
    """A folder or a file that somebody else can change."""


@dataclass(frozen=True, slots=True)
class Member:
    """A process, by what it has in the folder."""

    id: str
    path: Path
    is_left: bool  # the process has ended


def base() -> Path:
    """Return the folder of all databases of this user: `DBSCOPE_WATCH_DIR`, or below `/tmp`."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(os.environ.get(PLACE) or Path(tempfile.gettempdir()) / f"dbscope-{user}")


def of_database(source: Any) -> Path:
    """Return the folder of a database: the same in each process that uses it.

    One in the memory of a process has a folder of its own.
    """
    file = source.backend.file
    told = str(source.url.set(password=None) if file is None else Path(file).resolve())
    own = f"{told} {os.getpid()}" if source.backend.is_memory else told
    return base() / sha256(own.encode()).hexdigest()[:12]


def make(folder: Path) -> None:
    """Make a folder for this user alone, and the one around it.

    Raises:
        NotOurs: it is there, and others may write to it, or it is a link.
    """
    for each in (folder.parent, folder):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
        check(each)


def check(folder: Path) -> None:
    """Refuse a folder that is not this user's alone.

    Raises:
        NotOurs: see `make`.
    """
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise NotOurs(f"{folder} is not a folder that only this user may use (mode 0700).")


def members(folder: Path) -> list[Member]:
    """Return the processes that have something there, the oldest first; of links, none."""
    try:
        check(folder)
        entries = sorted(os.scandir(folder), key=age)
    except OSError:
        return []
    return [
        Member(Path(entry.name).stem, Path(entry.path), entry.name.endswith(LEFT))
        for entry in entries
        if not entry.is_symlink() and entry.name.endswith((SOCKET, LEFT))
    ]


def age(entry: os.DirEntry[str]) -> float:
    """Return when an entry was made; the oldest comes first."""
    return entry.stat(follow_symlinks=False).st_mtime


def leave(folder: Path, name: str, told: bytes) -> None:
    """Write what is left of a process that ends."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(folder / f"{name}{LEFT}", flags, 0o600), "wb") as file:
        file.write(told)


def read(path: Path) -> bytes:
    """Return what was left by a process.

    Raises:
        NotOurs: it is no plain file of this user, or too large.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        is_own = stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid()
        if not is_own or found.st_size > LARGEST:
            raise NotOurs(f"{path} is no file of this user, or too large.")
        return file.read(LARGEST)


def sweep(folder: Path) -> None:
    """Remove what was left behind for long enough."""
    left = [each for each in members(folder) if each.is_left]
    for number, each in enumerate(reversed(left)):
        if number >= MOST or time() - each.path.lstat().st_mtime > KEPT:
            each.path.unlink(missing_ok=True)
