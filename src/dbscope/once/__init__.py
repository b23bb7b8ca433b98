"""Once: what was done under a key is not done again, by a row in the transaction that did it."""

from dbscope.once.idempotency import Idempotency
from dbscope.once.once import Once
from dbscope.once.purging import purge
from dbscope.once.table import metadata, once_table

__all__ = ["Idempotency", "Once", "metadata", "once_table", "purge"]
