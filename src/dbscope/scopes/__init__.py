"""Where work comes in: may await, may know frameworks, sets the current scope."""
