"""The confirmation of an order: by SMTP if it is configured, else printed (in development)."""

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
HERE = ("localhost", "127.0.0.1", "::1")  # nobody listens in between


def check() -> None:
    """Say at the start, and not with the first order, that nobody gets any mail."""
    if settings.smtp_url is None and settings.in_production:
        logger.warning("SMTP_URL is not set: no confirmation of an order is sent.")


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
    """Send a mail; print it in development, where that is the mailbox."""
    if settings.smtp_url is not None:
        with connected(settings.smtp_url.get_secret_value()) as smtp:
            smtp.send_message(message)
    elif not settings.in_production:
        print(message, flush=True)  # noqa: T201


def connected(address: str) -> smtplib.SMTP:
    """Return a connection to the mail server, which has shown a certificate for its name.

    `smtp://` is encrypted by STARTTLS before anything is said, except to this machine itself.
    """
    url = urlsplit(address)
    host = url.hostname or ""
    smtp: smtplib.SMTP
    if url.scheme == "smtps":
        tls = ssl.create_default_context()
        smtp = smtplib.SMTP_SSL(host, url.port or 0, timeout=TIMEOUT, context=tls)
    else:
        smtp = smtplib.SMTP(host, url.port or 0, timeout=TIMEOUT)
    try:
        if url.scheme == "smtp" and host not in HERE:
            smtp.starttls(context=ssl.create_default_context())
        if url.username:
            smtp.login(unquote(url.username), unquote(url.password or ""))
    except BaseException:
        smtp.close()
        raise
    return smtp
