"""What the environment may say, and what the server refuses to start with."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from server.config import DEVELOPMENT_KEY, Settings

KEY = "a key of the tests 0123456789 abcdef"
PRODUCTION = {"ENVIRONMENT": "production", "SECRET_KEYS": KEY, "ALLOWED_HOSTS": "shop.example"}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """Return the settings of an environment that has only this."""
    monkeypatch.chdir(tmp_path)

    def settings(**environment: str) -> Settings:
        for name in Settings.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return Settings()

    return settings


def test_everything_has_a_default_for_development(settings):
    """A fresh clone starts without any setting, on SQLite, and an empty variable is none."""
    for environment in ({}, {"DATABASE_URL": "", "SECRET_KEYS": "", "CORS_ORIGINS": ""}):
        made = settings(**environment)
        assert made.database_url.get_secret_value() == "sqlite:///shop.db"
        assert made.secret_keys[0].get_secret_value() == DEVELOPMENT_KEY
        assert (made.cors_origins, made.wants_sample_data) == ([], True)


def test_lists_are_separated_by_commas(settings):
    """The newest key first; spaces and a comma at the end do not matter."""
    made = settings(SECRET_KEYS=f"{KEY}, {KEY}x,", CORS_ORIGINS="https://a.example,http://b:81")
    assert [key.get_secret_value() for key in made.secret_keys] == [KEY, KEY + "x"]
    assert made.cors_origins == ["https://a.example", "http://b:81"]


def test_the_file_env_is_read_and_the_environment_wins(settings, tmp_path):
    """What is in `.env` holds, unless the environment says something else."""
    (tmp_path / ".env").write_text(f"SECRET_KEYS={KEY}\nMIGRATIONS=check\nUNKNOWN=1\n")
    made = settings(MIGRATIONS="off")
    assert made.secret_keys[0].get_secret_value() == KEY
    assert made.migrations == "off"


def test_production_with_a_key_of_its_own_has_no_sample_data(settings):
    """In production nothing is stored that nobody asked for."""
    made = settings(**PRODUCTION)
    assert (made.wants_sample_data, made.wants_docs) == (False, False)
    assert settings(**PRODUCTION, DOCS="true").wants_docs


REFUSED = {
    "a short key": {"SECRET_KEYS": "s3cret"},
    "a key of one letter": {"SECRET_KEYS": "s3cret" * 20},
    "a short old key": {"SECRET_KEYS": f"{KEY},s3cret"},
    "the key of development in production": {"ENVIRONMENT": "production"},
    "it as an old key": {
        **PRODUCTION,
        "SECRET_KEYS": f"{KEY},{DEVELOPMENT_KEY}",
    },
    "all origins": {"CORS_ORIGINS": "*"},
    "all origins among others": {"CORS_ORIGINS": "https://a.example,*"},
    "an origin with a path": {"CORS_ORIGINS": "https://a.example/s3cret"},
    "an origin without a scheme": {"CORS_ORIGINS": "a.example"},
    "no such environment": {"ENVIRONMENT": "s3cret"},
    "no such mode": {"MIGRATIONS": "s3cret"},
    "a login without an end": {"LOGIN_DAYS": "0"},
    "a debt to begin with": {"WELCOME_CREDIT": "-1"},
    "a limit that is none": {"LOGIN_ATTEMPTS": "s3cret"},
    "a limit of addresses that is none": {"LOGIN_ATTEMPTS_FROM": "s3cret"},
    "sample data in production": {**PRODUCTION, "SAMPLE_DATA": "true"},
    "any host in production": {**PRODUCTION, "ALLOWED_HOSTS": ""},
    "mail by another protocol": {"SMTP_URL": "http://anna:s3cret@mail"},
    "mail to nowhere": {"SMTP_URL": "smtp://anna:s3cret@"},
    "mail to no port": {"SMTP_URL": "smtp://anna:s3cret@mail:smtp"},
    "mail with a password that is not escaped": {"SMTP_URL": "smtp://anna:s3/cret@mail"},
    "mail from nobody": {"MAIL_FROM": "s3cret"},
    "a broker of another kind": {"BROKER_URL": "http://anna:s3cret@host"},
    "a broker nowhere": {"BROKER_URL": "nats:s3cret"},
    "errors to another protocol": {"SENTRY_DSN": "ftp://s3cret@sentry/1"},
    "errors to no project": {"SENTRY_DSN": "https://s3cret@sentry.example"},
    "errors without a key": {"SENTRY_DSN": "https://sentry.example/s3cret"},
}
by_name = pytest.mark.parametrize("environment", REFUSED.values(), ids=REFUSED.keys())


@by_name
def test_what_is_wrong_is_refused_and_not_repeated(settings, environment):
    """The error names the setting, and never its value."""
    with pytest.raises(ValidationError) as refused:
        settings(**environment)
    assert "s3cret" not in str(refused.value)
    assert DEVELOPMENT_KEY not in str(refused.value)


def test_the_server_says_it_in_one_sentence(tmp_path):
    """No traceback: the name of the variable, and what it has to be."""
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "SECRET_KEYS": "s3cret"}
    done = subprocess.run(
        [sys.executable, "-m", "server"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("server: SECRET_KEYS")
    assert "32 bytes" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "s3cret" not in done.stderr
