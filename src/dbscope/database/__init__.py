"""What people hold: the two kinds of database, and what both are made of, by subject."""
