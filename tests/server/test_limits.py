"""Who is one client, and what a report to Sentry has."""

from types import SimpleNamespace
from typing import Any

import pytest

from server import sentry
from server.security.limits import address_of


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_an_address_stands_for_one_client(host, client):
    """Who has an IPv6 address has 2**64 of them; the one of IPv4 in another dress is the same."""
    request: Any = SimpleNamespace(client=SimpleNamespace(host=host))
    assert address_of(request) == client


def test_without_an_address_all_are_one_client():
    """Of a socket of the machine nothing is known."""
    request: Any = SimpleNamespace(client=None)
    assert address_of(request) == ""


def test_a_report_has_the_words_of_a_log_line_and_not_its_values():
    """A line is logged about somebody; what is said there is theirs."""
    event: Any = {
        "logentry": {
            "message": "Could not reach postgresql://shop:s3cret@db for %s",
            "formatted": "Could not reach postgresql://shop:s3cret@db for anna@example.com",
            "params": ["anna@example.com"],
        },
        "extra": {"sys.argv": ["server", "--password", "s3cret"]},
        "request": {"cookies": "s3cret", "headers": {"host": "a", "cookie": "s3cret"}},
    }
    told = str(sentry.without_values(event, {}))
    assert "Could not reach postgresql://shop:***@db for %s" in told
    assert "s3cret" not in told
    assert "anna" not in told
