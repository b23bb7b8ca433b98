"""Whose certificates the tests trust."""

import os
import ssl

from tests.support.certificates import GIVEN, NAME, NOBODY, outside


def test_only_nobodys_certificate_is_read() -> None:
    """The system's list takes longer to read than most of the tests."""
    (only,) = ssl.create_default_context().get_ca_certs()
    assert only["subject"] == ((("commonName", "nobody"),),)


def test_who_speaks_to_others_trusts_whom_the_system_does() -> None:
    """Else pip would refuse the index."""
    assert os.environ[NAME] == NOBODY
    assert outside().get(NAME) == GIVEN != NOBODY
