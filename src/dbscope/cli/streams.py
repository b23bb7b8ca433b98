"""Where the command prints: what becomes of it when nobody reads there, or never could."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


def open_all() -> None:
    """Read and print nothing where who has started us closed a stream (`>&-`): Python has none."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115


@contextmanager
def while_read(stream: TextIO) -> Generator[None]:
    """Let who reads no more (`| head`) end what is printed, and not the work that it tells of."""
    try:
        yield
    except BrokenPipeError:  # Python would try once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def writable(text: str, stream: TextIO) -> str:
    """Return the text with escapes for the characters that the stream's encoding has not."""
    return text.encode(stream.encoding, "backslashreplace").decode(stream.encoding)
