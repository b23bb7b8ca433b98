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

# Of SQLAlchemy's own tests (upstream.py), by the journal of the file: what passes with aiosqlite.
IS_A_READER = (
    "a read is in its transaction and keeps its lock, so that COMMIT waits for it without a "
    "write-ahead log; by the driver's default it would be outside, and see two states"
)
IS_LOCKED_TWICE = (
    "it attaches its own file under a second name, and BEGIN IMMEDIATE locks each name"
)
BY_NAME = "SQLAlchemy runs it for drivers that it knows by name, and skips it for all others"
IS_COLLECTED = (
    "it lets the connection go and keeps the driver's own: what nobody can give back any more is "
    "closed, which comes in time or too late for this test"
)
ALWAYS = {
    "AsyncEngineTest.test_active_await_close": BY_NAME,
    "AsyncEngineTest.test_async_creator_invoked": IS_COLLECTED,
    "KeywordInDatabaseNameTest.test_reflect": IS_LOCKED_TWICE,
}
UPSTREAM: dict[str, dict[str, str]] = {
    "wal": ALWAYS,
    "delete": ALWAYS
    | {
        "AsyncSessionTransactionTest.test_commit_as_you_go": IS_A_READER,
        "AsyncSessionTransactionTest.test_trans": IS_A_READER,
        "AsyncSessionTransactionTest.test_trans_noctx": IS_A_READER,
    },
}
