"""Mails: to whom, by whom, and that nobody listens or forges in between."""

import smtplib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from pydantic import SecretStr

from server import mail
from server.config import settings


class Server:
    """A mail server with a certificate that nobody has signed, by TLS or by STARTTLS or by neither.

    Args:
        address: where it listens.
        context: with its certificate.
        kind: "smtps", "starttls" or "plain".
    """

    def __init__(self, address: str, context: ssl.SSLContext, kind: str) -> None:
        self.listening = socket.create_server((address, 0))
        self.port = self.listening.getsockname()[1]
        self.context, self.kind = context, kind
        self.heard: list[bytes] = []
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        try:
            client, _ = self.listening.accept()
            with ExitStack() as opened:
                self.talk(opened.enter_context(client), opened)
        except OSError:  # the client has gone, because it does not trust us
            pass

    def talk(self, client: socket.socket, opened: ExitStack) -> None:
        def with_tls() -> socket.socket:
            return opened.enter_context(self.context.wrap_socket(client, server_side=True))

        if self.kind == "smtps":
            client = with_tls()
        client.sendall(b"220 hello\r\n")
        while line := client.recv(4096):
            self.heard.append(line)
            if line[:4].upper() == b"EHLO":
                more = b"250-STARTTLS\r\n" if self.kind == "starttls" else b""
                client.sendall(b"250-hello\r\n" + more + b"250-AUTH PLAIN\r\n250 ok\r\n")
            elif line[:8].upper() == b"STARTTLS":
                client.sendall(b"220 go\r\n")
                client = with_tls()
            else:
                client.sendall(b"250 ok\r\n")


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> ssl.SSLContext:
    """A certificate of its own making, as somebody in between would have."""
    folder = tmp_path_factory.mktemp("certificate")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes"]
    command += ["-keyout", "key", "-out", "cert", "-days", "2"]
    names = ["-subj", "/CN=127.0.0.2", "-addext", "subjectAltName=IP:127.0.0.1,IP:127.0.0.2"]
    subprocess.run([*command, *names], cwd=folder, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert", folder / "key")
    context.certificate = str(folder / "cert")  # type: ignore[attr-defined]
    return context


@pytest.fixture
def server(request, context, monkeypatch) -> Iterator[Server]:
    """A server of the kind that is asked for, which the shop sends its mails to."""
    kind, address = request.param
    server = Server(address, context, kind)
    scheme = "smtps" if kind == "smtps" else "smtp"
    url = SecretStr(f"{scheme}://shop:s3cret@{address}:{server.port}")
    monkeypatch.setattr(settings, "smtp_url", url)
    yield server
    server.listening.close()
    server.thread.join(10)


def letter() -> mail.EmailMessage:
    return mail.letter("anna@example.com", "Your order 1", "1 x cup")


def on(*kinds: tuple[str, str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("server", kinds, indirect=True, ids=[each[0] for each in kinds])


@on(("smtps", "127.0.0.1"), ("starttls", "127.0.0.2"))
def test_a_certificate_that_nobody_has_signed_is_refused(server):
    """Neither the password nor the mail is told to who is in between."""
    with pytest.raises(ssl.SSLCertVerificationError):
        mail.send(letter())
    assert not any(b"AUTH" in line or b"DATA" in line for line in server.heard)


@on(("smtps", "127.0.0.1"), ("starttls", "127.0.0.2"))
def test_a_certificate_that_is_trusted_is_taken(server, context, monkeypatch):
    """By TLS, or by STARTTLS; then the password is told."""
    monkeypatch.setenv("SSL_CERT_FILE", context.certificate)
    with pytest.raises(smtplib.SMTPException):  # it knows no AUTH, only the way to it
        mail.send(letter())
    assert any(line.startswith(b"AUTH") for line in server.heard)


@on(("plain", "127.0.0.2"))
def test_a_server_without_starttls_is_told_nothing(server):
    """Somebody in between could have taken it out of what the server said."""
    with pytest.raises(smtplib.SMTPNotSupportedError):
        mail.send(letter())
    assert not any(line.startswith(b"AUTH") for line in server.heard)


@pytest.mark.parametrize("in_production", [False, True])
def test_without_a_server_a_mail_is_printed_in_development_only(
    monkeypatch, capsys, caplog, in_production
):
    """In production the output is a log, which is not for letters; and the start says so."""
    environment = "production" if in_production else "development"
    monkeypatch.setattr(settings, "environment", environment)
    monkeypatch.setattr(settings, "smtp_url", None)
    mail.check()
    mail.send(letter())
    assert ("Your order 1" in capsys.readouterr().out) is not in_production
    assert ("SMTP_URL is not set" in caplog.text) is in_production
