"""`python -m dbscope` is the command `dbscope`."""

from dbscope.cli import main

main()
