"""What the environment decides, and `.env`; see `.env.example`."""

from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import sentry_sdk.utils
from limits import parse
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from server.schemas.fields import Email

DEVELOPMENT_KEY = "only for development: everybody knows this key"
SHORTEST_KEY = 32  # bytes, as long as the output of SHA-256
FEWEST = 10  # different characters of a key; a random one of 32 has some 25


def words(text: Any) -> Any:
    """Return the words of a list that is separated by commas."""
    if not isinstance(text, str):
        return text
    return [word.strip() for word in text.split(",") if word.strip()]


def hard_to_guess(key: SecretStr) -> SecretStr:
    """Refuse a key that could be guessed."""
    text = key.get_secret_value()
    if len(text.encode()) < SHORTEST_KEY or len(set(text)) < FEWEST:
        raise ValueError(
            f"a key has at least {SHORTEST_KEY} bytes, which are drawn at random, as "
            "`secrets.token_urlsafe(32)` does"
        )
    return key


def origin(text: str) -> str:
    """Refuse what is no origin: `*` above all, which would let every site act for our users."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or text != f"{parts.scheme}://{parts.netloc}":
        raise ValueError("an origin is like https://shop.example.com, and never *")
    return text


def rate(text: str) -> str:
    """Refuse what is no rate."""
    try:
        parse(text)
    except ValueError:
        raise ValueError("a rate is like 10/minute") from None
    return text


def of_mail(text: SecretStr) -> SecretStr:
    """Refuse what no mail can be sent by."""
    example = "a URL like smtp://user:password@host:587 or smtps://user:password@host:465"
    try:
        parts = urlsplit(text.get_secret_value())
        known = parts.scheme in ("smtp", "smtps") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number
        known = False
    if not known or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"{example}; what is special in the password is written as %40")
    return text


# Of each kind of broker: the module of FastStream, and its class.
BROKERS = {
    "nats": ("faststream.nats", "NatsBroker"),
    "amqp": ("faststream.rabbit", "RabbitBroker"),
    "amqps": ("faststream.rabbit", "RabbitBroker"),
    "redis": ("faststream.redis", "RedisBroker"),
    "rediss": ("faststream.redis", "RedisBroker"),
}


def of_broker(text: SecretStr) -> SecretStr:
    """Refuse what no event can be published by."""
    parts = urlsplit(text.get_secret_value())
    if parts.scheme not in BROKERS or not parts.netloc:
        raise ValueError(
            "a broker is like nats://host:4222, amqp://user:password@host:5672/ or redis://host"
        )
    return text


def of_sentry(text: SecretStr) -> SecretStr:
    """Refuse what Sentry would refuse."""
    try:
        sentry_sdk.utils.Dsn(text.get_secret_value())
    except (sentry_sdk.utils.BadDsn, ValueError):
        raise ValueError("a DSN is like https://key@sentry.example.com/1") from None
    return text


Key = Annotated[SecretStr, AfterValidator(hard_to_guess)]
Origin = Annotated[str, AfterValidator(origin)]
Rate = Annotated[str, AfterValidator(rate)]


class Settings(BaseSettings):
    """The settings, checked at the start; a wrong one ends it with a sentence.

    Secrets are `SecretStr`: printed and logged as asterisks.
    """

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", hide_input_in_errors=True
    )

    environment: Literal["development", "production"] = "development"
    database_url: SecretStr = SecretStr("sqlite:///shop.db")
    migrations: Literal["upgrade", "check", "off"] = "upgrade"
    sample_data: bool | None = None  # None: in development

    # The first one signs; cookies that the others have signed go on being valid.
    secret_keys: Annotated[list[Key], NoDecode, BeforeValidator(words), Field(min_length=1)] = [
        SecretStr(DEVELOPMENT_KEY)
    ]
    login_days: Annotated[int, Field(ge=1, le=400)] = 14  # browsers keep no cookie longer than 400
    login_attempts: Rate = "10/minute"  # from one address, for one account
    login_attempts_from: Rate = "30/minute"  # from one address
    login_attempts_for: Rate = "100/hour"  # for one account, from wherever
    registrations_from: Rate = "20/hour"  # from one address

    allowed_hosts: Annotated[list[str], NoDecode, BeforeValidator(words)] = []  # []: any
    hsts_days: Annotated[int, Field(ge=0, le=730)] = 0  # 0: browsers are told nothing
    docs: bool | None = None  # None: in development
    cors_origins: Annotated[list[Origin], NoDecode, BeforeValidator(words)] = []

    welcome_credit: Annotated[Decimal, Field(ge=0, max_digits=8, decimal_places=2)] = Decimal(100)
    smtp_url: Annotated[SecretStr, AfterValidator(of_mail)] | None = None  # None: not sent
    mail_from: Email = "shop@localhost"
    broker_url: Annotated[SecretStr, AfterValidator(of_broker)] | None = None  # None: not told
    sentry_dsn: Annotated[SecretStr, AfterValidator(of_sentry)] | None = None

    @property
    def in_production(self) -> bool:
        """Whether strangers come by."""
        return self.environment == "production"

    @property
    def wants_sample_data(self) -> bool:
        """Whether an empty shop gets something to look at."""
        return not self.in_production if self.sample_data is None else self.sample_data

    @property
    def wants_docs(self) -> bool:
        """Whether the API describes itself to whoever asks."""
        return not self.in_production if self.docs is None else self.docs

    @property
    def wants_watch(self) -> bool:
        """Whether a page shows, to this machine only, what each request does with the database."""
        return not self.in_production

    @model_validator(mode="after")
    def refuse_to_serve_strangers(self) -> Self:
        """Refuse what is only for development: what everybody knows, and any host."""
        if not self.in_production:
            return self
        if any(key.get_secret_value() == DEVELOPMENT_KEY for key in self.secret_keys):
            raise ValueError("SECRET_KEYS has to be set in production")
        if not self.allowed_hosts:
            raise ValueError("ALLOWED_HOSTS has to be set in production: shop.example.com")
        if self.sample_data:
            raise ValueError("SAMPLE_DATA is not for production: everybody knows its password")
        return self


settings = Settings()
