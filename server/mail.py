"""The confirmation of an order: by SMTP if it is configured, else printed."""

import logging
import smtplib
import ssl
from collections.abc import Callable, Coroutine
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Any
from urllib.parse import unquote, urlsplit

from anyio.to_thread import run_sync

from server.config import settings
from server.models import Order, User

logger = logging.getLogger("server.mail")
TIMEOUT = 10.0  # seconds


def confirmation(buyer: User, order: Order) -> Callable[[], Coroutine[Any, Any, None]]:
    """Return a function that sends it; the text is made now, while the session is open."""
    address, subject = buyer.email, f"Your order {order.id}"
    lines = [f"{line.quantity} x {line.name}: {line.price}" for line in order.lines]
    text = "\n".join([f"Dear {buyer.name},", "", *lines, "", f"Total: {order.total}"])

    async def deliver() -> None:
        await run_sync(send, letter(address, subject, text))

    return deliver


def letter(address: str, subject: str, text: str) -> EmailMessage:
    """Return a mail to one address, which is never read as a list of several."""
    message = EmailMessage()
    message["From"] = settings.mail_from
    message["To"] = Address(addr_spec=address)
    message["Subject"] = subject
    message.set_content(text)
    return message


def send(message: EmailMessage) -> None:
    """Send a mail, or print it."""
    if settings.smtp_url is None:
        print(message, flush=True)  # noqa: T201 - what development has for a mailbox
        return
    url = urlsplit(settings.smtp_url.get_secret_value())
    kind = smtplib.SMTP_SSL if url.scheme == "smtps" else smtplib.SMTP
    with kind(url.hostname or "", url.port or 0, timeout=TIMEOUT) as smtp:
        if url.username:
            if url.scheme == "smtp":
                smtp.starttls(context=ssl.create_default_context())
            smtp.login(unquote(url.username), unquote(url.password or ""))
        smtp.send_message(message)
