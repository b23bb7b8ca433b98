"""What SQLite can, in the names that SQLAlchemy's suite has for it.

A requirement that is not named here is as `SuiteRequirements` has it: most of what only some
databases can is closed there, and most of what nearly all can is open.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.testing import exclusions
from sqlalchemy.testing.requirements import SuiteRequirements

# New ones each time: a decorator adds what is required besides to what it was given.


def has(since: str = "3.0") -> Any:
    """Return a requirement that SQLite meets, from some version on."""
    return property(lambda _: exclusions.only_if(f"sqlite >= {since}"))


def has_not(reason: str) -> Any:
    """Return a requirement that SQLite does not meet, so that its tests are left out."""
    return property(lambda _: exclusions.skip_if("sqlite", reason))


def fails(reason: str) -> Any:
    """Return a requirement that SQLite does not meet, so that its tests have to fail."""
    return property(lambda _: exclusions.fails_if("sqlite", reason))


def is_in_memory(config: Any) -> bool:
    """Tell whether each engine has a database of its own."""
    return config.db.url.database == ":memory:"


def knows_table_options() -> bool:
    """Tell whether this SQLAlchemy can ask for STRICT and WITHOUT ROWID."""
    return "get_table_options" in vars(SQLiteDialect)


class Requirements(SuiteRequirements):
    """SQLite, with the drivers that know no more than it does."""

    # -- tables and what belongs to them --
    computed_columns = has("3.31")
    computed_columns_reflect_persisted = has("3.31")
    computed_columns_stored = has("3.31")
    computed_columns_virtual = has("3.31")
    create_table_as = has()
    create_temp_table_as = has()
    expression_server_defaults = has()
    implicitly_named_constraints = has_not("a constraint without a name stays so")
    index_ddl_if_exists = has()
    indexes_with_expressions = has("3.9")
    percent_schema_names = has()
    repeated_column_foreign_keys = has()
    server_defaults = has()
    table_ddl_if_exists = has()
    temporary_views = has()
    unicode_ddl = has()
    views = has()

    # -- what is known of them --
    check_constraint_reflection = has()
    fk_constraint_option_reflection_ondelete_noaction = has()
    fk_constraint_option_reflection_ondelete_restrict = has()
    fk_constraint_option_reflection_onupdate_restrict = has()
    foreign_key_constraint_name_reflection = has()
    foreign_key_constraint_option_reflection_ondelete = has()
    foreign_key_constraint_option_reflection_onupdate = has()
    has_temp_table = has()
    indexes_check_column_order = has()
    inline_check_constraint_reflection = has()
    reflects_pk_names = has()
    reflect_table_options = property(
        lambda _: exclusions.only_if(knows_table_options, "SQLAlchemy 2.1 knows them")
    )
    temp_table_names = has()

    # -- statements --
    ctes = has("3.8.3")
    ctes_with_values = has("3.8.3")
    delete_from = has_not("there is no DELETE ... USING")
    mod_operator_as_percent_sign = has()
    nested_aggregates = has_not("an aggregate of an aggregate is refused")
    nullsordering = has("3.30")
    parens_in_union_contained_select_w_limit_offset = fails("no parentheses inside of UNION")
    parens_in_union_contained_select_wo_limit_offset = fails("no parentheses inside of UNION")
    regexp_match = has()
    supports_bitwise_and = has()
    supports_bitwise_not = has()
    supports_bitwise_or = has()
    supports_bitwise_shift = has()
    tuple_in = has("3.15")
    update_from = has("3.33")
    window_functions = has("3.25")
    window_range = has("3.28")
    window_range_numeric = has("3.28")

    # -- values --
    cast_precision_numerics_many_significant_digits = fails("numbers are floats")
    date_historic = has()
    datetime_historic = has()
    float_or_double_precision_behaves_generically = has()
    infinity_floats = has()
    json_index_supplementary_unicode_element = has_not("https://bugs.python.org/issue38749")
    json_type = has("3.38")
    legacy_unconditional_json_extract = has("3.38")
    numeric_received_as_decimal_untyped = fails("numbers are floats")
    nvarchar_types = has()
    precision_numerics_many_significant_digits = fails("numbers are floats")
    precision_numerics_retains_significant_digits = has()

    # -- connections --
    autocommit = has()
    dbapi_lastrowid = has()
    emulated_lastrowid = has()
    independent_connections = has_not("a second writer waits for the first")
    independent_readonly_connections = property(lambda _: exclusions.skip_if(is_in_memory))
    isolation_level = has()
    skip_autocommit_rollback = has()

    def get_isolation_levels(self, config: Any) -> dict[str, Any]:
        """Return the isolation levels that can be set."""
        levels = config.db.dialect.get_isolation_level_values(None)
        return {"default": "SERIALIZABLE", "supported": levels}

    def get_order_by_collation(self, config: Any) -> str:
        """Return a collation that can be sorted by."""
        return "NOCASE"
