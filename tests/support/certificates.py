"""Whose certificates are trusted: the system's whole list takes 50 ms to read.

PyMySQL reads it for each connection, and HTTPX for each client, which was a fifth of all the time
of the tests. Nobody they speak to has a certificate by anybody on that list.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

NAME = "SSL_CERT_FILE"
NOBODY = str(Path(__file__).with_name("nobody.pem"))  # of whose key there is no copy
GIVEN = os.environ.get(NAME)


@pytest.fixture(scope="session", autouse=True)
def _nobody_is_trusted() -> Iterator[None]:
    """Trust nobody, here and in the programs that are started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(NAME, NOBODY)
        yield


def outside() -> dict[str, str]:
    """Return the environment of a program that speaks to others than us: pip, say."""
    environment = {name: value for name, value in os.environ.items() if name != NAME}
    return environment if GIVEN is None else environment | {NAME: GIVEN}
