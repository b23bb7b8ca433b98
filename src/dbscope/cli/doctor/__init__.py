"""`dbscope doctor`: what is set up in a way that will hurt, and what to do about it."""

from dbscope.cli.doctor.command import doctor

__all__ = ["doctor"]
