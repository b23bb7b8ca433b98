"""What a name may be: whatever people write, and nothing that only does something."""

# ruff: noqa: RUF001  (letters that look alike are the subject)

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from server.schemas.fields import BIDI, UNPRINTABLE, Description, Email, Name

NAME, DESCRIPTION, EMAIL = TypeAdapter(Name), TypeAdapter(Description), TypeAdapter(Email)

NAMES = [
    "Anna",
    "O'Brien-Smith, Jr.",
    "Zoë Ångström",
    "محمد علي",
    "علی\u200cرضا",  # Persian is written with a non-joiner
    "עִבְרִית",
    "हिन्दी",
    "ශ්\u200dරී ලංකා",  # Sinhala with a joiner
    "日本 太郎",
    "李小龍",
    "한국어",
    "ไทย",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # a family
    "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # England
    "❤\ufe0f",
    "7",
    "𓀀 and 𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
]


@pytest.mark.parametrize("name", NAMES)
def test_all_scripts_and_emoji_are_names(name):
    """With the joiners, marks and tags that they are written with."""
    assert NAME.validate_python(name) == name


def test_spaces_around_a_name_are_not_of_it():
    """Somebody has only pressed a key too often."""
    assert NAME.validate_python("  Anna ") == "Anna"


@given(st.text(st.characters(categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=3))
def test_no_control_is_in_a_name(text):
    """Anywhere in it; at its ends the spaces among them are taken off."""
    with pytest.raises(ValidationError):
        NAME.validate_python(f"a{text}b")


@pytest.mark.parametrize("each", sorted(BIDI))
def test_no_text_is_shown_as_another(each):
    """Overrides and isolates turn around what comes after them, on the page and in the mail."""
    for kind in (NAME, DESCRIPTION):
        with pytest.raises(ValidationError):
            kind.validate_python(f"a{each}b")


@given(st.text(max_size=100))
def test_what_is_a_name_is_seen_on_one_line(text):
    """Whatever is tried."""
    try:
        name = NAME.validate_python(text)
    except ValidationError:
        return
    assert len(name.splitlines()) == 1
    assert not any(unicodedata.category(each) in UNPRINTABLE for each in name)
    assert name.strip() == name != ""


def test_a_description_may_have_lines():
    """And nothing else that is not seen."""
    assert DESCRIPTION.validate_python("one\ntwo\r\nthree") == "one\ntwo\r\nthree"
    for wrong in ("a\tb", "a\x00b", "a\u2028b"):
        with pytest.raises(ValidationError):
            DESCRIPTION.validate_python(wrong)


@pytest.mark.parametrize(
    "address", ["a..b@example.com", ".a@example.com", "a.@example.com", "a" * 65 + "@example.com"]
)
def test_an_address_is_one_that_a_mail_can_be_made_for(address):
    """Found out when it is entered, and not when the order is confirmed."""
    with pytest.raises(ValidationError):
        EMAIL.validate_python(address)


def test_an_address_is_as_people_have_it():
    """In lower case, so that one person is one user."""
    assert EMAIL.validate_python("Anna.O'Brien+shop@Example.com") == "anna.o'brien+shop@example.com"
