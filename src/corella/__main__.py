"""`python -m corella` is the command line."""

from corella.cli import main

main()
