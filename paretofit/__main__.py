"""`python -m paretofit` is the `paretofit` command."""

from paretofit.cli.main import run

run()
