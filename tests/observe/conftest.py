"""The fixture `stage` is that of the tests of scopes."""

from tests.scopes.conftest import made_stage, pauses, pytest_generate_tests, stage

__all__ = ["made_stage", "pauses", "pytest_generate_tests", "stage"]
