"""What the client is told when COMMIT fails, by us and by others; see benchmarks/README.md."""
