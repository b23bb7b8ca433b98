"""The types of the columns of our own tables: those of `once`, and of the outbox on top of it."""

from dbscope.backends.column_types import long_binary, moment, serial_number

__all__ = ["long_binary", "moment", "serial_number"]
