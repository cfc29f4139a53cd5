"""`python -m audit` is the command gcont-audit."""

from audit.cli import main

main()
