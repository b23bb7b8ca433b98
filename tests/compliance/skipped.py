"""What the suite leaves out on `sqlite+inline` though it runs on `sqlite+aiosqlite`, and why."""

# By the name of the test, without its parameters.
IN_A_FILE: dict[str, str] = {}
IN_MEMORY = {
    "AutocommitIsolationTest.test_dialect_autocommit_is_restored": (
        "its engine is not the one that made the table, so it has another database"
    ),
    "IsolationLevelTest.test_dialect_user_setting_is_restored": (
        "as above: required is that several engines read one database"
    ),
}
