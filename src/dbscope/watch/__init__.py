"""What can be seen: the facts of each transaction, counted, logged and told to whoever listens."""
