"""What differs between databases, and is no part of the engine."""
