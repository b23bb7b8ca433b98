"""The folder in which the processes that watch one database find each other.

Each has a socket there, and what ended of its own accord has left a file. Only this user may look
into it, since the name of a folder below `/tmp` can be taken by others first.
"""

from __future__ import annotations

import os
import secrets
import socket
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import time
from typing import Any

PLACE = "DBSCOPE_WATCH_DIR"  # in the environment: a folder that all processes see
SOCKET, LEFT = ".sock", ".left"
NEW = ".new"  # a socket that does not listen yet
TOKEN = "token"  # noqa: S105  (a file)
KEPT = 3600.0  # seconds that what is left behind is there
YOUNG = 10.0  # seconds
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
    """Make a folder for this user alone, and the one around it if that is ours.

    Raises:
        NotOurs: it is there, and others may write to it, or it is a link.
    """
    for each in (base(), folder):
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


def token() -> str:
    """Return what a browser shows to each process of this user; it is made by the first one.

    Raises:
        NotOurs: see `make`.
    """
    path = base() / TOKEN
    make(path.parent)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".") as own:  # mode 0600
        own.write(secrets.token_urlsafe(24).encode())
        own.flush()
        with suppress(FileExistsError):
            path.hardlink_to(own.name)
    return read(path).decode()


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


def take_back(folder: Path, name: str) -> None:
    """Remove what was left of a process that is there again."""
    (folder / f"{name}{LEFT}").unlink(missing_ok=True)


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
    """Remove what was left behind for long enough, here and in the folders of other databases."""
    for each in folder.parent.iterdir():
        left = [member for member in members(each) if member.is_left]
        for number, member in enumerate(reversed(left)):
            if number >= MOST or is_older(member.path, KEPT):
                member.path.unlink(missing_ok=True)
        for member in members(each):
            if not member.is_left and is_refused(member.path):
                bury(member.path)
        for new in each.glob(f"*{NEW}"):
            bury(new)
        if each != folder and is_older(each, YOUNG):
            with suppress(OSError):  # it is not empty
                each.rmdir()


def bury(path: Path) -> None:
    """Remove the socket of a process that is gone, unless it is new: of one that began again."""
    if is_older(path, YOUNG):
        path.unlink(missing_ok=True)


def is_older(path: Path, seconds: float) -> bool:
    """Tell whether something is there, and has not changed for so long."""
    try:
        return time() - path.lstat().st_mtime > seconds
    except OSError:
        return False


def is_refused(path: Path) -> bool:
    """Tell whether nobody is behind a socket."""
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(0)
            line.connect(str(path))
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
