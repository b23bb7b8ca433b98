"""What the environment decides, and `.env`; see `.env.example`."""

from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from limits import parse
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

DEVELOPMENT_KEY = "only for development: everybody knows this key"
SHORTEST_KEY = 32  # bytes, as long as the output of SHA-256


def words(text: Any) -> Any:
    """Return the words of a list that is separated by commas."""
    if not isinstance(text, str):
        return text
    return [word.strip() for word in text.split(",") if word.strip()]


def long_enough(key: SecretStr) -> SecretStr:
    """Refuse a key that could be guessed."""
    if len(key.get_secret_value().encode()) < SHORTEST_KEY:
        raise ValueError(f"a key has at least {SHORTEST_KEY} bytes")
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


def url_of(text: SecretStr, *, schemes: tuple[str, ...]) -> SecretStr:
    """Refuse a URL of another kind."""
    if urlsplit(text.get_secret_value()).scheme not in schemes:
        raise ValueError(f"a URL that begins with {' or '.join(schemes)}")
    return text


Key = Annotated[SecretStr, AfterValidator(long_enough)]
Origin = Annotated[str, AfterValidator(origin)]
SmtpUrl = Annotated[SecretStr, AfterValidator(partial(url_of, schemes=("smtp", "smtps")))]
SentryDsn = Annotated[SecretStr, AfterValidator(partial(url_of, schemes=("http", "https")))]


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
    login_attempts: Annotated[str, AfterValidator(rate)] = (
        "10/minute"  # for each address and account
    )
    cors_origins: Annotated[list[Origin], NoDecode, BeforeValidator(words)] = []

    welcome_credit: Annotated[Decimal, Field(ge=0, max_digits=8, decimal_places=2)] = Decimal(100)
    smtp_url: SmtpUrl | None = None  # None: mails are printed
    mail_from: str = "shop@localhost"
    sentry_dsn: SentryDsn | None = None

    @property
    def in_production(self) -> bool:
        """Whether strangers come by."""
        return self.environment == "production"

    @property
    def wants_sample_data(self) -> bool:
        """Whether an empty shop gets something to look at."""
        return not self.in_production if self.sample_data is None else self.sample_data

    @model_validator(mode="after")
    def refuse_known_key(self) -> Self:
        """Refuse to serve strangers with a key that they know."""
        known = any(key.get_secret_value() == DEVELOPMENT_KEY for key in self.secret_keys)
        if self.in_production and known:
            raise ValueError("SECRET_KEYS has to be set in production")
        return self


settings = Settings()
