"""What dbscope costs, against the same code written by hand."""
