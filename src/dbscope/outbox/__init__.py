"""The outbox: messages are stored with the work that they tell of, and relayed afterwards."""

from dbscope.outbox.message import Message
from dbscope.outbox.outbox import AsyncOutbox, Outbox
from dbscope.outbox.table import metadata, outbox_table

__all__ = ["AsyncOutbox", "Message", "Outbox", "metadata", "outbox_table"]
