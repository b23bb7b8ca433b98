"""What the watch and three others say of the same requests; see docs/watch-and-others.md."""
