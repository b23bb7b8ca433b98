"""What the processes of one application show each other, without the database that may be ill."""
