"""What must not be collected, since that would end it for somebody else."""

from __future__ import annotations


def keep_for_good(what: object) -> None:
    """Keep the interpreter from collecting this at its end, and so from closing it."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(what))
