"""The only crossing between sync and async."""
