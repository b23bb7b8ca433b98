"""SQLite: the recipe, the write queue, and an async dialect that needs few threads."""

from sqlalchemy.dialects import registry

# For those who have the package without its entry points.
registry.register("sqlite.inline", f"{__name__}.dialect", "InlineDialect")
