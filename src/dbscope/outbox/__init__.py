"""The outbox: messages are stored with the work that they tell of, and relayed afterwards."""

from dbscope.outbox.async_outbox import AsyncOutbox
from dbscope.outbox.message import Message
from dbscope.outbox.outbox import Outbox
from dbscope.outbox.table import metadata, outbox_table

__all__ = ["AsyncOutbox", "Message", "Outbox", "metadata", "outbox_table"]
